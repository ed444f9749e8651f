"""A `fit` that goes on where it was stopped, bit for bit.

What a training depends on is the model's and the optimizer's variables (weights, moments, seeds of random numbers, the
step that an annealed temperature is at), the epoch, and what its callbacks remember (the best value so far, how long it
has been waited for, the history). All of it is kept when an epoch has ended and every callback has seen it, in one file
that is whole at any moment. Data need no keeping, since a batch is a function of (seed, epoch, index); see
`kerasbed.simulators.datasets`.
"""

import contextlib
import functools
import hashlib
import inspect
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasbed.backend import errors, fields, files, locks, plain_values
from kerasbed.backend.fields import Field
from kerasbed.callbacks import Resume

FILE = "training.resume"
FORMAT = "kerasbed training, version 1"
FIELDS = {
    "format": Field(fields.is_text, "a text"),
    "asked": Field(lambda value: isinstance(value, dict), "a record"),
    "epoch": Field(lambda value: fields.is_integer(value, 1), "a number of epochs"),
    "stopped": Field(fields.is_flag, "true or false"),
    "leaves_out": Field(fields.is_flag, "true or false"),
    "plans": Field(lambda value: isinstance(value, list), "a list"),
    "variables": Field(lambda value: isinstance(value, list), "a list of arrays"),
    "callbacks": Field(lambda value: isinstance(value, list), "a list of records"),
}
OF_KERAS = ("model", "_model", "params", "_params", "validation_data")  # of every callback


@contextlib.contextmanager
def checkpoints_held(callbacks: Iterable[keras.callbacks.Callback]) -> Iterator[None]:
    """Context in which no other process trains with the same checkpoints.

    Raises:
        LockedError: one does.
    """
    with contextlib.ExitStack() as held:
        for callback in callbacks:
            path = str(getattr(callback, "filepath", ""))
            if isinstance(callback, keras.callbacks.ModelCheckpoint) and "://" not in path and _has_folder(path):
                held.enter_context(locks.hold(path))
        yield


def _has_folder(path) -> bool:
    return os.path.isdir(os.path.dirname(os.path.abspath(path)))


@contextlib.contextmanager
def resumed(
    model: Any, callbacks: Sequence[keras.callbacks.Callback], data: Any, asked: Mapping[str, Any]
) -> Iterator[list[keras.callbacks.Callback]]:
    """The callbacks of a `fit`; where `Resume` is among them, with what brings its state back and keeps it.

    Args:
        model: whose `fit` it is, compiled and planned.
        callbacks: all of them.
        data: that it trains on.
        asked: what tells this `fit` from others.

    Raises:
        FileError: the directory holds another training, or something else.
        LockedError: another process is training there.
    """
    found = [callback for callback in callbacks if isinstance(callback, Resume)]
    if not found:
        with checkpoints_held(callbacks):
            yield list(callbacks)
        return
    if len(found) > 1:
        raise ValueError(f"callbacks has {len(found)} Resume, but one was expected.")
    path = _place(found[0].directory)
    others = [callback for callback in callbacks if callback is not found[0]]
    if not any(isinstance(callback, keras.callbacks.History) for callback in others):
        others.append(keras.callbacks.History())  # Keras' own would come after the one that keeps
    with locks.hold(path), checkpoints_held(others):
        training = Training(model, others, path, _told(model, others, asked))
        epoch = training.begin(data)
        try:
            model._initial_epoch = epoch
            yield [*others, Keeper(training)]
        finally:
            model._initial_epoch = None


class Training:
    """The state of a `fit`, in memory and in its file.

    Args:
        model, callbacks: whose state it is.
        path: of the file.
        asked: what tells this `fit` from others, plain.
    """

    def __init__(self, model: Any, callbacks: list[keras.callbacks.Callback], path: Path, asked: dict[str, Any]):
        self.model, self.callbacks, self.path, self.asked = model, callbacks, path, asked
        self.state: Any = None  # that is waiting to be brought back

    def begin(self, data: Any) -> int | None:
        """Look for a state; returns the epoch to go on with, None for a `fit` from the start."""
        if not self.path.exists():
            return None
        self.state = self._read()
        self.model.optimizer.bring_plans_back(self.state["plans"])
        self.model.train_function = None
        if self.state["leaves_out"] and not self.model.leaves_out:
            self.model.leave_out_failures()
        if hasattr(data, "skip"):
            data.skip(self.state["epoch"])
        for callback, kept in zip(self.callbacks, self.state["callbacks"], strict=True):
            if isinstance(callback, keras.callbacks.CSVLogger):
                _cut_log(callback, kept)
        return self.asked["epochs"] if self.state["stopped"] else self.state["epoch"]

    def bring_back(self) -> None:
        """Everything as it was at the end of the epoch; after the callbacks have begun anew."""
        if self.state is None:
            return
        for variable, value in zip(self._variables(), self.state["variables"], strict=True):
            variable.assign(value)
        for callback, kept in zip(self.callbacks, self.state["callbacks"], strict=True):
            _remind(callback, kept)
        self.state = None

    def keep(self, epoch: int) -> None:
        """Write the state at the end of an epoch."""
        state = {
            "format": FORMAT,
            "asked": self.asked,
            "epoch": epoch + 1,
            "stopped": bool(self.model.stop_training),
            "leaves_out": bool(self.model.leaves_out),
            "plans": self.model.optimizer.plans(),
            "variables": [ops.convert_to_numpy(variable) for variable in self._variables()],
            "callbacks": [_remembered(callback) for callback in self.callbacks],
        }
        files.replace_atomically(self.path, functools.partial(plain_values.write, state=state))

    def _variables(self):
        model = self.model
        found = [
            *model.trainable_variables,
            *model.non_trainable_variables,
            *model.optimizer.variables,
            *model.skipped_tracker.variables,
        ]
        return list({id(variable): variable for variable in found}.values())

    def _read(self) -> dict:
        files.check_regular(self.path)
        state = plain_values.read(self.path)
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise errors.FileError(
                f"{self.path} holds no training of kerasbed and is left as it is; pass another path."
            )
        fields.check(state, FIELDS, str(self.path))
        there, here = state["asked"], self.asked
        names = [name for name, value in here.items() if there.get(name) != value]
        if differing := "; ".join(f"{name} is {there.get(name)} there and {here[name]} here" for name in names)[:400]:
            raise errors.FileError(
                f"{self.path} holds another training: {differing}. Pass another directory, or delete the file to train "
                "anew."
            )
        shapes = [tuple(variable.shape) for variable in self._variables()]
        if [np.shape(value) for value in state["variables"]] != shapes:
            raise errors.FileError(f"{self.path} holds a training of other weights; pass another directory.")
        return state


class Keeper(keras.callbacks.Callback):
    """Brings a training back when the others have begun, and keeps it when they have seen the end of an epoch.

    Args:
        training: see `Training`.
    """

    def __init__(self, training: Training):
        super().__init__()
        self.training = training

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self.training.bring_back()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        _ = self.model  # has JAX hand the weights back
        self.training.keep(epoch)


def _place(directory: Path) -> Path:
    if directory.exists() and not directory.is_dir():
        raise errors.FileError(f"{directory} is no folder, and is left as it is; pass Resume another one.")
    directory.mkdir(parents=True, exist_ok=True)
    return directory / FILE


def _told(model, callbacks, asked) -> dict[str, Any]:
    """What must be the same for a training to go on."""
    weights = [(tuple(variable.shape), str(variable.dtype)) for variable in model.weights]
    return {
        **asked,
        "backend": keras.backend.backend(),
        "simulator": type(model.simulator).__name__,
        "design": type(model.design).__name__,
        "objective": type(model.objective).__name__,
        "optimizers": ", ".join(type(optimizer).__name__ for optimizer in model.optimizer.optimizers),
        "callbacks": ", ".join(type(callback).__name__ for callback in callbacks),
        "weights": hashlib.sha256(repr(weights).encode()).hexdigest()[:12],
    }


def _remembered(callback) -> dict[str, Any]:
    """What of a callback's attributes is plain and not an argument; functions and open files are made anew."""
    found, arguments = {}, inspect.signature(type(callback)).parameters
    for name, value in vars(callback).items():
        if name in OF_KERAS or name in arguments or isinstance(value, str):
            continue
        try:
            plain_values.packed(value, plain_values.Arrays())
        except plain_values.NotPlainError:
            continue
        found[name] = value
    if isinstance(callback, keras.callbacks.CSVLogger):
        found["_log_size"] = os.path.getsize(callback.filename)
        for name in ("append_header", "keys"):
            found.pop(name, None)
    return found


def _remind(callback, kept):
    """Give a callback what it remembered; texts, such as paths, are what it was made with."""
    own = vars(callback)
    own.update({name: value for name, value in kept.items() if name in own and not isinstance(own[name], str)})


def _cut_log(callback, kept):
    """A log that goes on after the epochs that are kept."""
    callback.append = True
    if os.path.exists(callback.filename) and os.path.getsize(callback.filename) > kept["_log_size"]:
        os.truncate(callback.filename, kept["_log_size"])
