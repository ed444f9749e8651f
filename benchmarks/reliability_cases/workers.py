"""Work that is killed: each kind is started in a folder, goes on there if it was begun, and tells how it ended.

    python -m reliability_cases.workers KIND FOLDER

prints "loaded" once what an earlier process has left could be read, "begun" when the work begins, and at the end a hash
of what came of it.
"""

import hashlib
import json
import sys
import time
from pathlib import Path

import keras
import numpy as np

import kerasbed as kb
from kerasbed import cli
from kerasbed.backend import plain_values
from kerasbed.lab import run

EPOCHS, STEPS, BUDGET, SEED = 8, 20, 24, 3
SPACE = kb.designs.Box((2,), 0.0, 1.0, seed=0)


def tell(text: str) -> None:
    print(text, flush=True)


def hashed(*parts) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes())
    return found.hexdigest()


def experiment() -> kb.DesignModel:
    keras.utils.set_random_seed(SEED)
    return kb.DesignModel(
        kb.problems.MichaelisMenten(),
        kb.designs.Box((7,), 0.0, 400.0, seed=SEED),
        kb.objectives.PriorContrastive(32),
        seed=SEED,
    )


def weights(model) -> list:
    return [keras.ops.convert_to_numpy(variable) for variable in model.variables + model.optimizer.variables]


def checkpoint(folder: Path) -> str:
    """Train with a checkpoint after every epoch."""
    path = folder / "model.keras"
    if path.exists():
        kb.load(path)
    tell("loaded")
    model = experiment()
    tell("begun")
    keep = keras.callbacks.ModelCheckpoint(path)
    model.fit(epochs=EPOCHS, steps_per_epoch=STEPS, callbacks=[keep], diagnose=False, verbose=0)
    return hashed(*weights(kb.load(path)))


def resume(folder: Path) -> str:
    """Train with `Resume`, beside callbacks that remember."""
    path = folder / "kept" / "training.resume"
    if path.exists():
        plain_values.read(path)
    tell("loaded")
    model = experiment()
    model.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(3e-2))
    callbacks = [
        kb.callbacks.Resume(folder / "kept"),
        keras.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=0.05),
        keras.callbacks.CSVLogger(folder / "log.csv"),
    ]
    tell("begun")
    history = model.fit(epochs=EPOCHS, steps_per_epoch=STEPS, callbacks=callbacks, diagnose=False, verbose=0)
    told = json.dumps([history.epoch, {name: list(map(float, told)) for name, told in history.history.items()}])
    log = (folder / "log.csv").read_bytes()
    return hashed(*weights(model), *model.design_history.designs, told.encode(), log)


def slow(design: np.ndarray) -> float:
    time.sleep(0.02)
    return -float(np.sum((design - 0.3) ** 2))


def search(folder: Path) -> str:
    """Search a black box."""
    path = folder / "search.json"
    if path.exists():
        kb.search.BlackBoxSearch.load(path)
    tell("loaded")
    tell("begun")
    found = kb.search.BlackBoxSearch(slow, SPACE, batch_size=3, seed=SEED, path=path)
    found.run(BUDGET)
    return hashed(json.dumps([vars(record) for record in found.records]).encode())


def command(folder: Path) -> str:
    """Run the command, with --resume where it was begun."""
    out = folder / "out"
    for name, read in (("model.keras", kb.load), ("training.resume", plain_values.read)):
        if (out / name).exists():
            read(out / name)
    tell("loaded")
    cli.STEPS_PER_EPOCH, run.EIG_DRAWS, run.POSTERIOR_DRAWS = STEPS, 500, 100
    again = ["--resume"] if out.exists() else []
    tell("begun")
    asked = ["run", "michaelis-menten", "--epochs", str(EPOCHS), "--seed", str(SEED), "--out", str(out), *again]
    if code := cli.main(asked):
        raise SystemExit(code)
    return hashed(*((out / name).read_bytes() for name in ("design.csv", "history.csv")))


KINDS = {"R1": resume, "R1/checkpoint": checkpoint, "R1/search": search, "R1/run": command}

if __name__ == "__main__":
    tell(KINDS[sys.argv[1]](Path(sys.argv[2])))
