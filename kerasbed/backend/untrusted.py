"""Configurations of files from elsewhere, looked at as a whole before anything of them is built.

What is refused: names that `allowed_names` refuses, numbers that are none, sizes and depths that no model of kerasbed
has, and texts of more objects than memory should hold. Sizes are limited one by one here; what they come to together,
the number of weights, is limited while a model is built (`build_limits`).
"""

import json
import math
from collections.abc import Iterator
from typing import Any

from kerasbed.backend import allowed_names, errors

LONGEST_TEXT = 2**24  # bytes
MOST_OBJECTS = 200_000  # brackets of a text
MOST_VALUES = 1_500_000  # commas
DEEPEST = 60  # levels; a model of models has 17
LONGEST_LIST = 10_000  # of what is no number of a space
LARGEST_SIZE = 2**22  # of a size, a number of units, of draws, of layers ...
LARGEST_SHAPE = 500_000  # entries of a shape, and steps of a range
# Of a space: entries, settings to choose from, measurements, designs side by side.
COUNTS = dict.fromkeys(("count", "size", "candidates"), LARGEST_SHAPE) | dict.fromkeys(("length", "starts"), 10_000)
# Whole numbers under these names are values, not sizes.
VALUES = {
    *(
        "shared_object_id",
        "low",
        "high",
        "initial",
        "value",
        "options",
        "candidates",
        "fits",
        "steps",
        "start",
        "center",
    ),
    *("warmup", "iterations", "simulator", "bias", "budget", "decay_steps", "axis", "epsilon", "keras_history"),
}
TYPES = {f"{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)} | {"bool", "bfloat16"}


def parse(text: bytes | str, what: str) -> Any:
    """The JSON of a file.

    Args:
        text: UTF-8.
        what: is read, as the first words of an error.

    Raises:
        FileError: it is none, or has more objects or levels than a file of kerasbed has.
    """
    if len(text) > LONGEST_TEXT:
        raise errors.FileError(f"{what} has {len(text):,} bytes, but at most {LONGEST_TEXT:,} were expected.")
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
    except UnicodeDecodeError:
        raise errors.FileError(f"{what} is no text in UTF-8, so it is damaged or of another kind.") from None
    if text.count("{") + text.count("[") > MOST_OBJECTS or text.count(",") > MOST_VALUES:
        raise errors.FileError(
            f"{what} has more than {MOST_OBJECTS:,} objects or {MOST_VALUES:,} values, which no file of kerasbed has."
        )
    try:
        return json.loads(text)
    except RecursionError:
        raise errors.FileError(
            f"{what} is nested deeper than {DEEPEST} levels, which no file of kerasbed is."
        ) from None
    except ValueError as error:
        start = text[:8] if len(text) < 200 else text[:8] + "..."
        raise errors.FileError(f"{what} is no JSON ({str(error)[:80]}); it starts with {start!r}.") from None


def check(config: Any, what: str) -> None:
    """Look at a configuration that Keras is to build.

    Args:
        config: of lists, dicts, texts and numbers.
        what: holds it, as the first words of an error.

    Raises:
        FileError: it names what a file may not name, or declares what no model has.
    """
    waiting: list[tuple[Any, tuple[str, ...], bool]] = [(config, (), False)]
    while waiting:
        value, place, is_own = waiting.pop()
        problem = _problem_of_length(value, place, is_own) or _problem(value, place)
        if problem is not None:
            where = ".".join(place[-3:])[-80:] or "its configuration"
            raise errors.FileError(f"{what} declares {problem} (at {where}). Nothing of it was built.")
        if isinstance(value, dict):
            if "class_name" in value:
                is_own = str(value.get("registered_name")).startswith("kerasbed>")
            waiting += [(part, (*place, str(name)), is_own) for name, part in value.items()]
        elif isinstance(value, list):
            inner = (*place, place[-1] if place else "")
            waiting += [(part, inner, is_own) for part in _worth_a_look(value)]


def _worth_a_look(values: list) -> Iterator[Any]:
    """The parts of a list, less the numbers that are within every limit: a list may have a million of them."""
    return (part for part in values if type(part) not in (int, float) or not abs(part) <= LARGEST_SIZE)


def _problem_of_length(value, place, is_own) -> str | None:
    """Whether a list is longer than its owner's can be. Keras takes 50 us for each part, but kerasbed takes its own."""
    if not isinstance(value, list | dict) or len(value) <= LONGEST_LIST or (is_own and VALUES & set(place)):
        return None
    return f"a list of {len(value):,} parts, but at most {LONGEST_LIST:,} were expected"


def _problem(value, place) -> str | None:
    if len(place) > DEEPEST:
        return f"parts within parts of more than {DEEPEST} levels"
    if isinstance(value, dict):
        return (allowed_names.refusal(value) if "class_name" in value else None) or _problem_of_dict(value)
    if isinstance(value, list):
        return _problem_of_shape(value, place)
    if isinstance(value, str):
        return allowed_names.refusal_of_type(value) if value.startswith(allowed_names.BAYESFLOW_TYPE) else None
    if isinstance(value, float) and math.isnan(value):
        return "a number that is NaN"
    return _problem_of_size(value, place)


def _problem_of_dict(value) -> str | None:
    """What is wrong with the arguments of a space, or the type of an array."""
    low, high = value.get("low"), value.get("high")
    has_steps = _is_whole(low) and _is_whole(high) and (type(low) is int or "temperatures" in value)
    if has_steps and high - low > LARGEST_SHAPE:
        return f"{float(high - low):.3g} whole numbers from low to high, but at most {LARGEST_SHAPE:,} were expected"
    for name, largest in COUNTS.items():
        if _is_whole(count := value.get(name)) and count > largest:
            return f"{name} = {float(count):.3g}, but at most {largest:,} was expected"
    if value.get("class_name") in ("__tensor__", "__numpy__", "__keras_tensor__"):
        inner = value.get("config")
        kind = inner.get("dtype") if isinstance(inner, dict) else None
        if not isinstance(kind, str) or kind not in TYPES:
            return f"an array of type {str(kind)[:20]!r}, but numbers such as 'float32' were expected"
    return None


def _problem_of_shape(value, place) -> str | None:
    if not place or "shape" not in place[-1] or not all(map(_is_whole, value)):
        return None
    entries = math.prod(abs(int(size)) for size in value)
    if entries <= LARGEST_SHAPE:
        return None
    return f"a shape of {min(entries, 10**300):.3g} entries, but at most {LARGEST_SHAPE:,} were expected"


def _problem_of_size(value, place) -> str | None:
    """Whether a whole number is larger than a size can be, unless its name, or one above it, says that it is none."""
    if type(value) is not int or abs(value) <= LARGEST_SIZE:
        return None
    if VALUES & set(place) or any("seed" in name for name in place[-2:]):
        return None
    return f"a size of {value if abs(value) < 10**15 else '1e15 or more'}, but at most {LARGEST_SIZE:,} was expected"


def _is_whole(value) -> bool:
    return type(value) is int or (isinstance(value, float) and value.is_integer())
