"""What a file says of a simulator, and the way back to it."""

from collections.abc import Mapping
from typing import Any

import keras

from kerasbed.backend import errors
from kerasbed.simulators.simulator import Simulator


def simulator_config(simulator: Simulator) -> dict:
    """What a file says of the simulator: its class, the constructor's arguments and the prior's names and sizes."""
    kind = type(simulator)
    return {
        "class": _path(kind),
        "registered_name": keras.saving.get_registered_name(kind),
        "config": simulator.get_config(),
        "parameters": simulator.prior.dims,
    }


def registered_simulator(saved: Mapping[str, Any]) -> Simulator | None:
    """A simulator whose class is registered with Keras, under any package; None where there is none.

    It is found by the name under which it is registered, so that a class may move to another module. Files that lack
    that name have the path of the class, and classes of kerasbed itself have moved since.
    """
    known = keras.saving.get_registered_object(saved.get("registered_name", ""))
    if known is None:
        known = next(
            (kind for kind in keras.saving.get_custom_objects().values() if _is_at(kind, saved["class"])), None
        )
    if known is not None and not (isinstance(known, type) and issubclass(known, Simulator)):
        raise errors.FileError(f"The file names {str(saved['class'])[:60]!r} where a simulator was expected.")
    return None if known is None else known.from_config(saved["config"])


def _path(kind) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_at(kind, path) -> bool:
    own = path.startswith("kerasbed.") and _path(kind).startswith("kerasbed.")
    return _path(kind) == path or (own and kind.__qualname__ == path.rpartition(".")[2])
