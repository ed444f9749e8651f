"""Which backend runs: chosen, and imported without what packages say at import, before Keras is."""

import contextlib
import importlib
import importlib.util
import logging
import os
import sys
import tempfile

PACKAGES = ("jax", "tensorflow", "torch")


def select() -> None:
    """Choose an installed backend if neither the user nor an earlier import of Keras did.

    Raises:
        ImportError: no backend is installed, or `KERAS_BACKEND` names one that is not.
    """
    if "keras" in sys.modules:
        return
    chosen = os.environ.get("KERAS_BACKEND")
    installed = [package for package in PACKAGES if importlib.util.find_spec(package)]
    if not installed:
        raise ImportError(
            "kerasbed found no Keras backend. It needs one of jax, tensorflow or torch: "
            "install one with `pip install kerasbed[jax]` (or [tensorflow], [torch])."
        )
    if chosen and chosen not in installed:
        raise ImportError(
            f"KERAS_BACKEND is {chosen!r}, but the installed backends are {installed}. "
            f"Set KERAS_BACKEND to one of them, or install it with `pip install kerasbed[{chosen}]`."
        )
    if not chosen:
        os.environ["KERAS_BACKEND"] = installed[0]


def import_quietly(name: str) -> None:
    """Import a package without what it says at import, and leave the root logger as it was.

    BayesFlow gives the root logger a handler and the level INFO, after which other packages print, too; a logger that
    has a handler already is left alone. TensorFlow's C++ writes to stderr, unless the user has set the level of that.
    """
    root, logger, handler = logging.getLogger(), logging.getLogger(name), logging.NullHandler()
    level, propagate = logger.level, logger.propagate
    root.addHandler(handler)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        with _native_output_held_back():
            importlib.import_module(name)
    finally:
        root.removeHandler(handler)
        logger.removeHandler(handler)
        logger.propagate = propagate
        logger.setLevel(level)


@contextlib.contextmanager
def _native_output_held_back():
    """Keep what C++ writes to stderr to itself, unless Python fails meanwhile or TF_CPP_MIN_LOG_LEVEL is set."""
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ or os.environ.get("KERAS_BACKEND") != "tensorflow":
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


select()
import_quietly("bayesflow")

import keras  # noqa: E402

NAME = keras.backend.backend()
if NAME not in PACKAGES:
    raise ImportError(f"Keras runs on {NAME!r}; kerasbed needs jax, tensorflow or torch. Set KERAS_BACKEND.")
