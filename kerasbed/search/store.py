"""Where a black-box search is kept while it goes on."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras

from kerasbed.backend import errors, locks
from kerasbed.designs import Space
from kerasbed.search import state_file


class Store:
    """The file of one search, which writes to it as long as no other one does.

    Between two writes the lock is free, so that a search that is only asked and told keeps nobody out; a state that
    another search has written meanwhile is found out by its checksum and left as it is.

    Args:
        path: of the file, or None for a search that is not kept.
        known: checksum of the state there, as the search knows it.
    """

    def __init__(self, path: str | Path | None, known: str = ""):
        self.path = None if path is None else Path(path)
        self._known = known
        self._lock: Any = None

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only one to write; may be entered again within.

        Raises:
            LockedError: another process, or another search of this one, is writing.
        """
        if self.path is None or self._lock is not None:
            yield
            return
        with locks.hold(self.path) as self._lock:
            try:
                yield
            finally:
                self._lock = None

    def write(self, state: dict) -> None:
        """Keep a state.

        Raises:
            LockedError: another search has written there meanwhile.
            FileError: something else has that path.
        """
        if self.path is None:
            return
        with self.writing():
            there, writer = state_file.written_at(self.path)
            if there and there != self._known:
                raise errors.LockedError(
                    f"{self.path} was changed meanwhile by another search ({writer}), and is left as it is. Go on with "
                    "BlackBoxSearch.load(path, evaluate)."
                )
            self._known = state_file.write(self.path, state)

    def resume(self, settings: dict, design: Callable[[], dict], free: list[str]) -> dict | None:
        """The state at the path, if it is of this problem; None where nothing is there yet.

        Args:
            settings: of the search. design: gives its space, as Keras writes it. free: settings that need not agree.

        Raises:
            FileError: it is of another problem, damaged, or something else.
        """
        if self.path is None or not state_file.exists(self.path):
            return None
        state, self._known = state_file.read(self.path)
        asked = {name: value for name, value in settings.items() if name not in free}
        if differences := state_file.differences(state, asked, design()):
            raise errors.FileError(
                f"{self.path} holds a search of another problem: {'; '.join(differences)[:400]}. Pass another path."
            )
        return state


def space_of(state: dict, path: str | Path) -> Space:
    """The design space of a state.

    Raises:
        FileError: it holds none.
    """
    try:
        space = keras.saving.deserialize_keras_object(state["design"])
    except Exception as error:  # whatever Keras makes of a description that is none
        said = " ".join(str(error).split())[:200]
        raise errors.FileError(f"{path} holds a design space that cannot be built: {said}") from None
    if not isinstance(space, Space):
        raise errors.FileError(f"{path} holds {type(space).__name__} where a design space was expected.")
    return space
