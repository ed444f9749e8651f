"""Which versions write a file, and what to say where other ones read it."""

import bayesflow
import keras

from kerasbed.backend import errors

VERSION = "0.1.0"  # of kerasbed
FILE_FORMAT = 1  # of what kerasbed's own parts of a file mean


def written_by() -> dict[str, str | int]:
    """Versions of all that decides what a file holds."""
    return {
        "kerasbed": VERSION,
        "keras": keras.__version__,
        "bayesflow": bayesflow.__version__,
        "format": FILE_FORMAT,
    }


def check_readable(path: object, written: dict[str, str | int] | None) -> None:
    """Whether a file can be read here; files of before there was a record say nothing.

    Args:
        path: for the message.
        written: what `written_by` said when the file was written.

    Raises:
        ValueError: a later kerasbed wrote it, in a format that this one does not know.

    Warns:
        FileWarning: BayesFlow was of another series, whose networks may compute other numbers from the same weights.
    """
    if written is None:
        return
    if int(written["format"]) > FILE_FORMAT:
        raise errors.FileError(
            f"{path} was written by kerasbed {written['kerasbed']} in file format {written['format']}, but this is "
            f"kerasbed {VERSION}, which knows formats up to {FILE_FORMAT}. Update kerasbed."
        )
    then, now = (_series(str(version)) for version in (written["bayesflow"], bayesflow.__version__))
    if then != now:
        errors.warn(
            f"{path} was written with BayesFlow {written['bayesflow']}, but {bayesflow.__version__} is installed, "
            "whose networks may compute other numbers from the same weights. Compare model.estimate_eig() with what it "
            f"was when the file was written, or install bayesflow=={written['bayesflow']}.",
            errors.FileWarning,
        )


def _series(version: str) -> str:
    return ".".join(version.split(".")[:2])
