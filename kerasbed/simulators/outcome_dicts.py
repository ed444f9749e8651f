"""What a user returns as a dict, entry by entry, as one array: outcomes, means, scales and probabilities."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasbed.backend import Tensor
from kerasbed.backend.errors import OutcomeError
from kerasbed.simulators.outcome_layout import OutcomeLayout


def joined(returned: Mapping[str, Any], owner: str, noise: Tensor) -> tuple[Tensor, OutcomeLayout]:
    """What `outcome` returned as one array (batch, size), in one type, and its layout.

    Args:
        returned: {name: (batch, *shape)}; bools and integers become floats.
        owner: name of the simulator's class, for messages.
        noise: (batch, *noise_shape), whose rows every entry must have, and whose type bools and integers get.

    Raises:
        OutcomeError: it is empty or nested, has other keys than texts, or an entry lacks the batch axis.
    """
    check_arrays(returned, f"{owner}.outcome")
    batch, dtype = noise.shape[0], keras.backend.standardize_dtype(noise.dtype)
    shapes = {name: tuple(part.shape) for name, part in returned.items()}
    if any(not shape or (batch is not None and shape[0] not in (None, batch)) for shape in shapes.values()):
        raise OutcomeError(
            f"{owner}.outcome returned entries of shapes {shapes}, but ({batch}, ...) was expected of each: the first "
            "axis is the batch."
        )
    parts = {name: as_float(part, dtype) for name, part in returned.items()}
    layout = OutcomeLayout.of(parts, axes=1)
    return layout.join(parts), layout


def check_arrays(returned: Mapping[str, Any], what: str) -> None:
    """Whether a dict holds arrays by texts.

    Raises:
        OutcomeError: it is empty or nested, or has other keys or values.
    """
    if not returned:
        raise OutcomeError(f"{what} returned an empty dict, but {{name: array}} with at least one entry was expected.")
    if wrong := [name for name in returned if not isinstance(name, str)]:
        raise OutcomeError(f"{what} returned a dict with the keys {wrong}, but texts were expected.")
    if nested := [name for name, part in returned.items() if not hasattr(part, "shape")]:
        kind = type(returned[nested[0]]).__name__
        raise OutcomeError(
            f"{what} returned a dict whose entry {nested[0]!r} is of type {kind}, but an array, its first axis the "
            "batch, was expected; dicts are not nested."
        )


def as_float(part: Any, dtype: str) -> Tensor:
    """An entry as a tensor of floats; in the type given where it is none, such as a yes or no, or no tensor yet."""
    if not ops.is_tensor(part):
        return ops.convert_to_tensor(np.asarray(part, dtype), dtype=dtype)
    return part if "float" in str(part.dtype) else ops.cast(part, dtype)


def joined_law(
    law: Mapping[str, Any], what: str, parameters: Mapping[str, Tensor], behind: int = 0
) -> tuple[Tensor, OutcomeLayout]:
    """What says how likely outcomes are, entry by entry, as one array (..., size), and the layout of outcomes.

    Args:
        law: {name: (..., *shape)}, such as means, with the leading axes of the parameters.
        what: returned it, for messages.
        parameters: {name: (..., d)}.
        behind: axes behind those of an outcome, such as one of categories.

    Raises:
        OutcomeError: it is empty or nested, has other keys than texts, or an entry lacks axes.
    """
    check_arrays(law, what)
    first = next(iter(parameters.values()))
    axes = max(len(values.shape) for values in parameters.values()) - 1
    parts = {name: as_float(part, keras.backend.standardize_dtype(first.dtype)) for name, part in law.items()}
    if any(len(part.shape) < axes + behind for part in parts.values()):
        shapes = {name: tuple(part.shape) for name, part in parts.items()}
        raise OutcomeError(
            f"{what} returned entries of shapes {shapes}, but the {axes} leading axes of the parameters were expected "
            "in front of those of the outcome" + behind * " and of the categories" + "."
        )
    layout = OutcomeLayout.of(parts, axes, behind)
    return layout.join(parts, behind), layout


def joined_scales(scales: Mapping[str, Any], layout: OutcomeLayout, what: str, mean: Tensor) -> Tensor:
    """Standard deviations of the entries as one array: (size,) where no draw changes them, else like the mean.

    Args:
        scales: {name: a number, (*shape) or (..., *shape)}.
        layout: of the outcome.
        what: returned them, for messages.
        mean: (..., size).

    Raises:
        OutcomeError: names or shapes are not those of the mean.
    """
    if set(scales) != set(layout.shapes):
        raise OutcomeError(f"{what} returned a dict with {list(scales)}, but mean one with {list(layout.shapes)}.")
    dtype = keras.backend.standardize_dtype(mean.dtype)
    parts = {name: ops.convert_to_tensor(scales[name], dtype=dtype) for name in layout.shapes}
    if all(len(parts[name].shape) <= len(shape) for name, shape in layout.shapes.items()):
        like = {name: ops.zeros(shape, dtype=dtype) for name, shape in layout.shapes.items()}
    else:
        like = {name: ops.zeros_like(part) for name, part in layout.split(mean).items()}
    found = {name: part + like[name] for name, part in parts.items()}
    if not layout.fits(found):
        shapes = {name: tuple(part.shape) for name, part in parts.items()}
        raise OutcomeError(f"{what} returned entries of shapes {shapes}, but mean some of {layout}.")
    return layout.join(found)


def check_noise(owner: str, noise: Tensor, layout: OutcomeLayout) -> None:
    """Whether the noise has an entry for each number of an outcome.

    Raises:
        OutcomeError: it has others.
    """
    if tuple(noise.shape[1:]) != (layout.size,):
        raise OutcomeError(
            f"The noise has shape {tuple(noise.shape)}, but an outcome {layout} of {owner} has {layout.size} numbers; "
            f"set noise_shape = ({layout.size},)."
        )
