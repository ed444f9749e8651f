"""Damaged and hostile states of a black-box search, with their checksum made anew: it is public."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from reliability_cases.file_changes import named


def cut(place: Callable) -> Callable:
    return lambda good, target, canary: target.write_bytes(good[: place(len(good))])


def whole(content: bytes) -> Callable:
    return lambda good, target, canary: target.write_bytes(content)


def changed(change: Callable, seal: bool = True) -> Callable:
    """A kind whose content is changed by `change(content, canary)`; sealed: with the checksum that it should have."""

    def write(good: bytes, target: Path, canary: Path) -> None:
        content = json.loads(good)
        change(content, canary)
        if seal and isinstance(content.get("state"), dict | list):
            text = json.dumps(content["state"], sort_keys=True)
            content["checksum"] = hashlib.sha256(text.encode()).hexdigest()
        target.write_text(json.dumps(content, indent=1))

    return write


def setting(*path, value, seal: bool = True) -> Callable:
    def change(content, canary):
        *above, last = path
        for name in above:
            content = content[name]
        content[last] = value(canary) if callable(value) else value

    return changed(change, seal)


def without(*path) -> Callable:
    def change(content, canary):
        *above, last = path
        for name in above:
            content = content[name]
        del content[last]

    return changed(change)


def record(name: str, value: object, index: int = 1) -> Callable:
    return setting("state", "records", index, name, value=value)


def option(name: str, value: object) -> Callable:
    return setting("state", "settings", name, value=value)


def space(**changes) -> Callable:
    return changed(lambda content, canary: content["state"]["design"]["config"].update(changes))


def memmap_flow(canary: Path) -> dict:
    """A network in the place of the design, which would empty a file as it is built."""
    arguments = {"filename": str(canary / "precious.txt"), "mode": "w+", "shape": [10]}
    config = {"subnet": "__bayesflow_type__memmap", "subnet_kwargs": arguments}
    return named("bayesflow.networks", "CouplingFlow", config, "bayesflow.networks>CouplingFlow")


NAN, HUGE = float("nan"), 1e308
KINDS: dict[str, Callable] = {
    "truncated at 10 bytes": cut(lambda size: 10),
    "truncated at half": cut(lambda size: size // 2),
    "all but two bytes": cut(lambda size: size - 2),
    "empty object": whole(b"{}"),
    "text": whole(b"id,value\n1,2\n"),
    "a list": whole(b"[1, 2]"),
    "null": whole(b"null"),
    "binary": whole(bytes(range(128, 256)) * 4),
    "nested 1e5 deep": whole(b"[" * 100_000 + b"]" * 100_000),
    "ten million numbers": whole(b"[" + b"0," * 10_000_000 + b"0]"),
    "another format": setting("format", value="kerasbed black-box search, version 9"),
    "another checksum": setting("checksum", value="0" * 64, seal=False),
    "checksum is a number": setting("checksum", value=3, seal=False),
    "state is a list": setting("state", value=[]),
    "an unknown key on top": setting("surprise", value=1),
    "an unknown key of the state": setting("state", "surprise", value=1),
    "an unknown setting": option("surprise", 1),
    "settings missing": without("state", "settings"),
    "records missing": without("state", "records"),
    "design missing": without("state", "design"),
    "seed missing": without("state", "settings", "seed"),
    "seed is a text": option("seed", "seed"),
    "seed is negative": option("seed", -1),
    "batch_size is zero": option("batch_size", 0),
    "batch_size is huge": option("batch_size", 10**12),
    "acquisition is unknown": option("acquisition", "guess"),
    "method is unknown": option("method", "guess"),
    "initial is a text": option("initial", "six"),
    "noise is NaN": option("noise", NAN),
    "noise is negative": option("noise", -1.0),
    "noise is huge": option("noise", HUGE),
    "exchangeable is a text": option("exchangeable", "yes"),
    "reach is zero": option("reach", 0.0),
    "reach is huge": option("reach", HUGE),
    "records are a text": setting("state", "records", value="many"),
    "a record is a number": setting("state", "records", 1, value=3),
    "an unknown key of a record": record("surprise", 1),
    "status missing": without("state", "records", 1, "status"),
    "status maybe": record("status", "maybe"),
    "done without a value": record("value", None),
    "pending with a value": record("status", "pending"),
    "id twice": record("id", 0),
    "id is a text": record("id", "1"),
    "value is NaN": record("value", NAN),
    "value is a text": record("value", "0.3"),
    "value of 1e308": record("value", HUGE),
    "error is negative": record("error", -1.0),
    "error of 1e308": record("error", HUGE),
    "reason is a number": record("reason", 3),
    "repeats 99": record("repeats", 99),
    "repeats itself": record("repeats", 1),
    "coordinates outside": record("coordinates", [0.5, 1.5]),
    "coordinates NaN": record("coordinates", [0.5, NAN]),
    "coordinates are texts": record("coordinates", ["0.5", "0.5"]),
    "coordinates of 1e308": record("coordinates", [0.5, HUGE]),
    "one coordinate": record("coordinates", [0.5]),
    "three coordinates in all": changed(
        lambda content, canary: [one.update(coordinates=[0.5, 0.5, 0.5]) for one in content["state"]["records"]]
    ),
    "memmap as a bound": space(low="__bayesflow_type__memmap"),
    "a network that empties a file": setting("state", "design", value=memmap_flow),
    "os.system": setting("state", "design", value=lambda canary: named("os", "system", {"command": "true"})),
    "a layer for a design": setting("state", "design", value=named("keras.layers", "Dense", {"units": 3})),
    "design is a text": setting("state", "design", value="Box"),
    "bounds of NaN": space(low=[NAN, -1.0]),
    "bounds the wrong way": space(low=[5.0, 5.0]),
    "a Box of 2e8 entries": space(shape=[200_000_000]),
    "an Integer range of 1e8": setting(
        "state",
        "design",
        value=named("kerasbed", "Integer", {"shape": [2], "low": 0, "high": 10**8}, "kerasbed>Integer"),
    ),
}


def sparse(good: bytes, target: Path, canary: Path) -> None:
    """Three gigabytes that take no room."""
    with open(target, "wb") as file:
        file.write(good)
        file.truncate(3_000_000_000)


KINDS["3 GB"] = sparse
