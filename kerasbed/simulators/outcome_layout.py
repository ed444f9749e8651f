"""Outcomes that are dicts of arrays: one array inside, dicts at the edge.

`outcome` may return {"choice": (batch, 5), "rt": (batch, 5)}. Everything inside goes on with one array (batch, 10): the
entries flattened, in the order of their names, in which JAX and `keras.tree` flatten dicts as well, so that the array
follows from names and shapes alone. What users are shown and what they give are dicts again.

    shapes = {"choice": (5,), "rt": (5,)},    joined[..., 0:5] = choice,    joined[..., 5:10] = rt

A simulator learns its layout from the first outcome that it returns (`OutcomeLayouts`). Shapes may change with that of
the design, and a layout is found again by the size of the array.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from kerasbed.backend import Tensor
from kerasbed.backend.errors import ArgumentError, OutcomeError
from kerasbed.backend.validation import finite_values


class OutcomeLayout:
    """Where the entries of a dict lie in one array.

    Args:
        shapes: {name: shape of one outcome's entry}, in any order.

    Attributes:
        shapes: the same, in the order of the names.
        size: numbers in one outcome.
    """

    def __init__(self, shapes: Mapping[str, Any]):
        self.shapes = {name: tuple(int(size) for size in shapes[name]) for name in sorted(shapes)}
        self.sizes = {name: int(np.prod(shape)) for name, shape in self.shapes.items()}
        self.size = sum(self.sizes.values())

    @staticmethod
    def of(parts: Mapping[str, Any], axes: int, behind: int = 0) -> "OutcomeLayout":
        """That of arrays with so many leading axes, and so many behind those of an outcome.

        Raises:
            OutcomeError: a shape is not known while tracing.
        """
        shapes = {name: tuple(part.shape[axes : len(part.shape) - behind]) for name, part in parts.items()}
        if any(size is None for shape in shapes.values() for size in shape):
            raise OutcomeError(f"The entries of an outcome have the shapes {shapes}, but fixed ones were expected.")
        return OutcomeLayout(shapes)

    def join(self, parts: Mapping[str, Tensor], behind: int = 0) -> Tensor:
        """{name: (..., *shape)} to (..., size); leading axes broadcast.

        Args:
            parts: tensors of one type.
            behind: axes behind those of an outcome, which stay: {name: (..., *shape, k)} to (..., size, k).
        """
        flat = []
        for name, shape in self.shapes.items():
            sizes = tuple(ops.shape(parts[name]))
            first, last = len(sizes) - behind - len(shape), len(sizes) - behind
            flat.append(ops.reshape(parts[name], (*sizes[:first], self.sizes[name], *sizes[last:])))
        if len({tuple(part.shape[: len(part.shape) - 1 - behind]) for part in flat}) > 1:
            index = (..., slice(0, 1), *[slice(None)] * behind)
            rows = sum(ops.zeros_like(part[index]) for part in flat)
            flat = [part + rows for part in flat]
        return ops.concatenate(flat, axis=-1 - behind)

    def split(self, outcome: Any) -> dict[str, Any]:
        """(..., size) to {name: (..., *shape)}, of tensors or NumPy arrays."""
        module: Any = np if isinstance(outcome, np.ndarray) else ops
        found, first = {}, 0
        for name, shape in self.shapes.items():
            part = outcome[..., first : first + self.sizes[name]]
            found[name] = part if len(shape) == 1 else module.reshape(part, (*module.shape(part)[:-1], *shape))
            first += self.sizes[name]
        return found

    def fits(self, parts: Mapping[str, Any]) -> bool:
        """Whether {name: (..., *shape)} has these names and shapes."""
        return set(parts) == set(self.shapes) and all(
            tuple(parts[name].shape[len(parts[name].shape) - len(shape) :]) == shape
            for name, shape in self.shapes.items()
        )

    def entry(self, index: Sequence[int]) -> str:
        """The name of an entry of the array and its place: "rt[1]", of a look "rt[2, 1]"."""
        *before, place = (int(i) for i in index)
        for name, shape in self.shapes.items():
            if place < self.sizes[name]:
                within = [*before, *map(int, np.unravel_index(place, shape))] if shape else before
                return f"{name}{within or ''}"
            place -= self.sizes[name]
        raise IndexError(f"An outcome has {self.size} entries, but that of index {list(index)} was asked for.")

    def read(self, given: Mapping[str, Any]) -> np.ndarray:
        """What a user gives, {name: (..., *shape)}, as one array (..., size).

        Raises:
            ArgumentError: names are missing or unknown, or shapes do not fit.
            ValueError: entries are masked, NaN, infinite or no numbers.
        """
        if set(given) != set(self.shapes):
            unknown, missing = sorted(set(given) - set(self.shapes), key=str), sorted(set(self.shapes) - set(given))
            raise ArgumentError(
                f"outcome is a dict with {list(given)}, but {self} was expected"
                + (f"; {unknown} are unknown" if unknown else "")
                + (f"; {missing} are missing" if missing else "")
                + "."
            )
        parts = {name: self._checked(name, given[name]) for name in self.shapes}
        leading = {name: part.shape[: part.ndim - len(self.shapes[name])] for name, part in parts.items()}
        if len(set(leading.values())) > 1:
            raise ArgumentError(
                f"The entries of outcome have the leading shapes {leading} before those of one outcome, but the same "
                "for all were expected."
            )
        flat = [part.reshape(*leading[name], self.sizes[name]) for name, part in parts.items()]
        return np.concatenate(flat, axis=-1)

    def _checked(self, name, values) -> np.ndarray:
        values, shape = finite_values(values, f"outcome {name!r}"), self.shapes[name]
        if values.ndim < len(shape) or values.shape[values.ndim - len(shape) :] != shape:
            raise ArgumentError(
                f"outcome {name!r} has shape {values.shape}, but {_shown(('...', *shape))} was expected: the data sets "
                "first, and then the axes of one outcome."
            )
        return values

    def __str__(self) -> str:
        return "{" + ", ".join(f"{name!r}: {_shown(('...', *shape))}" for name, shape in self.shapes.items()) + "}"


class OutcomeLayouts:
    """Those that a simulator's outcomes have had, found by the size of one outcome.

    Args:
        owner: name of the simulator's class, for messages.
    """

    def __init__(self, owner: str):
        self.owner = owner
        self._by_size: dict[int, OutcomeLayout] = {}

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[OutcomeLayout]:
        return iter(self._by_size.values())

    def at(self, size: int | None = None) -> OutcomeLayout:
        """That of so many numbers; without a size any.

        Raises:
            ArgumentError: there is none.
        """
        if size is None:
            return next(iter(self))
        if size not in self._by_size:
            raise ArgumentError(
                f"An outcome has {size} numbers, but {self.owner} has returned {', '.join(map(str, self))}; give the "
                "outcome as such a dict."
            )
        return self._by_size[size]

    def remember(self, layout: OutcomeLayout) -> None:
        """Take a layout in.

        Raises:
            OutcomeError: an outcome had other names before, or other shapes of the same size.
        """
        for other in self:
            if set(other.shapes) != set(layout.shapes) or (other.size == layout.size and other.shapes != layout.shapes):
                raise OutcomeError(
                    f"{self.owner}.outcome returned {layout}, but {other} before; the same names were expected, with "
                    "shapes that follow from that of the design."
                )
        self._by_size[layout.size] = layout

    def split(self, outcome: Any) -> Any:
        """(..., size) to a dict; a dict stays as it is."""
        return outcome if isinstance(outcome, Mapping) else self.at(outcome.shape[-1]).split(outcome)

    def join(self, outcome: Any) -> Any:
        """A dict of tensors to (..., size); an array stays as it is.

        Raises:
            ArgumentError: no outcome was such a dict.
        """
        if not isinstance(outcome, Mapping):
            return outcome
        layout = next((layout for layout in self if layout.fits(outcome)), None)
        if layout is None:
            shapes = {name: tuple(np.shape(part)) for name, part in outcome.items()}
            raise ArgumentError(f"outcome has the shapes {shapes}, but {self.at()} was expected.")
        return layout.join(outcome)

    def read(self, given: Any, size: int | None = None) -> np.ndarray:
        """What a user gives as one array, (..., size), checked.

        Raises:
            ArgumentError: it is no dict, or does not fit.
        """
        if not isinstance(given, Mapping):
            raise ArgumentError(
                f"outcome is {_told(given)}, but the outcome of {self.owner} is a dict: pass {self.at(size)}, as "
                "simulate gives it."
            )
        return self.at(size).read(given)

    def entry(self, index: Sequence[int], size: int) -> str:
        """The name of an entry of an array of so many numbers."""
        return self.at(size).entry(index)

    def config(self, size: int) -> dict[str, list[int]]:
        """That of so many numbers as names and shapes, for a file."""
        return {name: list(shape) for name, shape in self.at(size).shapes.items()}


class OneArray:
    """Of simulators whose outcome is one array: nothing is to be done. False, as there is no layout."""

    def __bool__(self) -> bool:
        return False

    def at(self, size: int | None = None) -> OutcomeLayout:
        """There is none.

        Raises:
            ArgumentError: always.
        """
        raise ArgumentError("An outcome has the entries of a dict, but the simulator's outcome is one array.")

    def split(self, outcome: Any) -> Any:
        return outcome

    def join(self, outcome: Any) -> Any:
        return outcome

    def read(self, given: Any, size: int | None = None) -> Any:
        """What a user gives, as it is.

        Raises:
            ArgumentError: it is a dict.
        """
        if isinstance(given, Mapping):
            raise ArgumentError(
                f"outcome is a dict with {list(given)}, but the simulator's outcome is one array; pass that array."
            )
        return given

    def entry(self, index: Sequence[int], size: int) -> str:
        return f"[{', '.join(map(str, index))}]"

    def config(self, size: int) -> dict[str, list[int]] | None:
        return None


ONE_ARRAY = OneArray()


def _shown(shape) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def _told(given) -> str:
    return f"an array of shape {np.shape(given)}" if hasattr(given, "shape") else f"of type {type(given).__name__}"
