"""How far a training is, in one line: on a terminal the same one again and again, in a file ten of them."""

import sys
import time
from typing import Any, TextIO

import keras

LINES = 10  # in a file


class Progress(keras.callbacks.Callback):
    """Epochs, the bound on the EIG and the time that is left, after every epoch.

    Args:
        stream: where to write; default the standard output.
    """

    def __init__(self, stream: TextIO | None = None):
        super().__init__()
        self.stream: TextIO = sys.stdout if stream is None else stream
        self.overwrites = self.stream.isatty()
        self.begin, self.first = 0.0, 0

    def on_train_begin(self, logs: Any = None) -> None:
        self.begin, self.first = time.monotonic(), -1

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self.first < 0:  # a training that goes on begins later
            self.first = epoch

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        epochs, done = self.params["epochs"], epoch + 1
        every = max(1, epochs // LINES)
        if not self.overwrites and done % every and done < epochs:
            return
        spent = time.monotonic() - self.begin
        left = spent * (epochs - done) / (done - self.first)
        told = f"epoch {done} of {epochs}, EIG at least {(logs or {}).get('eig', float('nan')):.3f} nats, "
        told += f"{_duration(spent)} spent, {_duration(left)} left"
        self.stream.write(f"\r{told:<100}" if self.overwrites else f"{told}\n")
        self.stream.flush()

    def on_train_end(self, logs: Any = None) -> None:
        if self.overwrites:
            self.stream.write("\n")


def _duration(seconds) -> str:
    minutes = seconds / 60.0
    return f"{seconds:.0f} s" if minutes < 2.0 else f"{minutes:.0f} min"
