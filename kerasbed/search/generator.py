"""A search as a generator of the `gest-api`, by which optimisers and what evaluates for them understand each other.

    suggest(num_points) -> points,   ingest(points with their values),   finalize()

A point is a dict of numbers: the design's entries by name, `_id` and, when it comes back, `value`, perhaps `value_se`.

Reference: gest-api 0.2 (campaign-management-for-accelerators, "Generator standard").
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerasbed.backend.validation import checked, positive_integer

ID, VALUE, ERROR, ENTRY = "_id", "value", "value_se", "x"


class Generator:
    """What a `BlackBoxSearch` has besides `ask` and `tell`, which these methods are written in."""

    returns_id = True  # points have an "_id", with which they come back

    @checked(num_points=positive_integer)
    def suggest(self: Any, num_points: int | None = None) -> list[dict[str, float]]:
        """Points to evaluate, dicts with "_id" and entries: "x_1", "x_2", ..., of named parts "times_1", ..., "dose".

        Args:
            num_points: how many; None: the batch size.
        """
        return [entries(proposal.design) | {ID: proposal.id} for proposal in self.ask(num_points)]

    def ingest(self: Any, points: Sequence[Mapping[str, float]]) -> None:
        """Values of points, those suggested (by "_id") or others (by all entries).

        Args:
            points: dicts with "value", to be maximised, NaN where an evaluation failed; "value_se", its standard error,
                is optional.

        Raises:
            ValueError: a point lacks its value or entries of its design, or an "_id" is unknown or was told before.
        """
        points = list(points)
        shape = self.cube.to_design(np.full(self.cube.dim, 0.5))
        if bare := [point for point in points if VALUE not in point]:
            raise ValueError(f"A point has {sorted(bare[0])}, but its {VALUE!r} was expected, too; NaN if it failed.")
        told = [int(point[ID]) if ID in point else design_of(point, shape) for point in points]
        for with_error in (True, False):
            chosen = [i for i, point in enumerate(points) if (ERROR in point) == with_error]
            if chosen:
                errors = [points[i][ERROR] for i in chosen] if with_error else None
                self.tell([told[i] for i in chosen], [points[i][VALUE] for i in chosen], errors)

    def finalize(self: Any) -> None:
        """End: the state is saved if the search has a path."""
        self.store.write(self._state())


def entries(design: np.ndarray | Mapping[str, np.ndarray]) -> dict[str, float]:
    """The numbers of a design by name, counted from 1 where a part has several."""
    found = {}
    for name, values in _parts(design).items():
        flat = np.ravel(values)
        names = [name] if len(flat) == 1 else [f"{name}_{i + 1}" for i in range(len(flat))]
        found |= dict(zip(names, flat.tolist(), strict=True))
    return found


def design_of(point: Mapping[str, float], like: Any) -> Any:
    """The design of a point's numbers, of the form of another design.

    Raises:
        ValueError: numbers are missing.
    """
    if missing := set(entries(like)) - set(point):
        raise ValueError(f"A point has {sorted(point)}, but {sorted(missing)} of its design are missing.")
    parts = {
        name: np.array([point[key] for key in entries({name: values})]).reshape(np.shape(values))
        for name, values in _parts(like).items()
    }
    return parts if isinstance(like, Mapping) else parts[ENTRY]


def _parts(design):
    return design if isinstance(design, Mapping) else {ENTRY: design}
