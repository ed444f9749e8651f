"""Damaged and hostile model files, each a few lines away from a good one, and bombs that are larger than they look."""

import json
from collections.abc import Callable

import h5py
import numpy as np

from reliability_cases.file_changes import (
    CONFIG,
    DESIGN,
    HEAD,
    METADATA,
    NETWORK,
    OBJECTIVE,
    SYSTEM_FILE,
    WEIGHTS,
    cut,
    deep,
    doubled,
    every_997th,
    flipped,
    function,
    in_flow,
    inflated,
    keras_optimizer,
    lambda_layer,
    lambda_of,
    looped,
    many_members,
    memmap,
    named,
    not_finite,
    other_class,
    overlapping,
    pickled,
    replaced,
    setting,
    sparse,
    virtual,
    whole,
    with_archive,
    with_config,
    with_member,
    with_weights,
    without,
)

KINDS: dict[str, Callable] = {
    "truncated at 10 bytes": cut(lambda size: 10),
    "truncated at a tenth": cut(lambda size: size // 10),
    "truncated at half": cut(lambda size: size // 2),
    "truncated at nine tenths": cut(lambda size: 9 * size // 10),
    "all but one byte": cut(lambda size: size - 1),
    "empty": whole(lambda good: b""),
    "text": whole(lambda good: b"intercept,slope\n1,2\n"),
    "a byte of config.json": flipped(CONFIG),
    "a byte of metadata.json": flipped(METADATA),
    "a byte of the weights": flipped(WEIGHTS),
    "a byte of the directory": flipped(""),
    "HDF5 flipped every 997 bytes": with_member(WEIGHTS, every_997th),
    "HDF5 truncated": with_member(WEIGHTS, lambda content: content[: len(content) // 2]),
    "HDF5 of nothing": with_member(WEIGHTS, lambda content: b""),
    "config is no JSON": with_member(CONFIG, lambda content: b"{not json"),
    "config is a list": with_config(lambda config, canary: [config]),
    "config is null": with_config(lambda config, canary: b"null"),
    "config is a number": with_config(lambda config, canary: b"3"),
    "config is binary": with_config(lambda config, canary: bytes(range(128, 256)) * 4),
    "config is nested 1e5 deep": with_config(lambda config, canary: deep(100_000)),
    "config is nested 500 deep": setting("config", "paths", value=lambda canary: json.loads(deep(500))),
    "config is empty": with_config(lambda config, canary: b"{}"),
    "config missing": without("config"),
    "simulator missing": without("config", "simulator"),
    "simulator is a text": setting("config", "simulator", value="Line"),
    "simulator without a class": without("config", "simulator", "class"),
    "a text for an object": setting(*DESIGN, value="Box"),
    "a number for an object": setting(*OBJECTIVE, value=3),
    "fits missing": without("config", "fits"),
    "fits is a text": setting("config", "fits", value="many"),
    "fits is negative": setting("config", "fits", value=-1),
    "gradient is unknown": setting("config", "gradient", value="guess"),
    "seed is a text": setting("config", "seed", value="seed"),
    "starts is huge": setting("config", "starts", value=10**9),
    "an unknown key": setting("config", "surprise", value=1),
    "an unknown key on top": setting("surprise", value=1),
    "versions are wrong": setting("config", "written_by", value={"kerasbed": 3}),
    "NaN in bounds": setting(*DESIGN, "config", "low", value=[float("nan"), -1.0]),
    "bounds the wrong way": setting(*DESIGN, "config", "low", value=[5.0, 5.0]),
    "more bounds than entries": setting(*DESIGN, "config", "low", value=[-1.0] * 7),
    "NaN weights": not_finite(np.nan),
    "infinite weights": not_finite(np.inf),
    "deeper than the weights": in_flow(depth=3),
    "wider than the weights": in_flow(subnet_kwargs={"widths": [16], "dropout": 0.0}),
    "os.system": setting(*DESIGN, value=lambda canary: named("os", "system", {"command": f"touch {canary / 'ran'}"})),
    "posix.system as a function": setting("compile_config", "loss", value=function("posix", "system")),
    "builtins.exec": setting("compile_config", "loss", value=function("builtins", "exec")),
    "a lambda with code": setting("compile_config", "loss", value=lambda_of),
    "a Lambda layer": setting(*NETWORK, value=lambda_layer),
    "TFSMLayer": setting(*NETWORK, value=named("keras.layers", "TFSMLayer", {"filepath": SYSTEM_FILE})),
    "StringLookup of a system file": setting(
        *HEAD[:-1], "summary_network", value=named("keras.layers", "StringLookup", {"vocabulary": SYSTEM_FILE})
    ),
    "TextVectorization of a system file": setting(
        *HEAD[:-1], "summary_network", value=named("keras.layers", "TextVectorization", {"vocabulary": SYSTEM_FILE})
    ),
    "unsafe deserialization": setting(
        "compile_config", "loss", value=function("keras.config", "enable_unsafe_deserialization")
    ),
    "keras.utils.get_file": setting("compile_config", "loss", value=function("keras.utils", "get_file")),
    "a callback for an optimizer": keras_optimizer("keras.callbacks", "BackupAndRestore", {"backup_dir": "backup"}),
    "a class of a private module": keras_optimizer("keras.src.saving.saving_lib", "DiskIOStore"),
    "a head for a design": other_class(DESIGN, HEAD),
    "a design for an objective": other_class(OBJECTIVE, DESIGN),
    "a design for a network": other_class(NETWORK, DESIGN),
    "an objective for a design": other_class(DESIGN, OBJECTIVE),
    "memmap as a subnet": in_flow(subnet="__bayesflow_type__memmap", subnet_kwargs=memmap),
    "numpy.memmap as a subnet": in_flow(subnet="__bayesflow_type__numpy.memmap", subnet_kwargs=memmap),
    "open as a subnet": in_flow(
        subnet="__bayesflow_type__open", subnet_kwargs=lambda canary: {"file": str(canary / "new.txt"), "mode": "w"}
    ),
    "exec as a transform": in_flow(transform="__bayesflow_type__exec"),
    "memmap in a list": in_flow(base_distribution=["__bayesflow_type__memmap"]),
    "memmap in a design": setting(*DESIGN, "config", "initial", value="__bayesflow_type__memmap"),
    "an array of endless texts": setting(
        *DESIGN,
        "config",
        "initial",
        value={"class_name": "__numpy__", "config": {"value": ["a"], "dtype": "S2000000000"}},
    ),
    "HDF5 external link": replaced(
        lambda file, name, canary: file.__setitem__(name, h5py.ExternalLink(SYSTEM_FILE, "/"))
    ),
    "HDF5 soft link": replaced(lambda file, name, canary: file.__setitem__(name, h5py.SoftLink("/optimizer"))),
    "HDF5 virtual data set": replaced(virtual),
    "HDF5 external storage": replaced(
        lambda file, name, canary: file.create_dataset(name, (1, 2), "f4", external=[(SYSTEM_FILE, 0, 8)])
    ),
    "HDF5 huge shape": replaced(
        lambda file, name, canary: file.create_dataset(name, (10**6, 10**5), "f4", chunks=(1000, 100))
    ),
    "HDF5 group in a loop": with_weights(looped),
    "HDF5 missing data set": replaced(lambda file, name, canary: None),
    "HDF5 texts": replaced(lambda file, name, canary: file.__setitem__(name, "text")),
    "HDF5 other shape": replaced(lambda file, name, canary: file.__setitem__(name, np.zeros(5, "float32"))),
    "HDF5 more data sets": with_weights(lambda file, canary: file.__setitem__("extra/vars/0", np.zeros(3))),
    "pickle in an npz": pickled,
    "a name with ..": with_archive(lambda pairs: pairs.append(("../escaped.txt", b"text"))),
    "an absolute name": with_archive(lambda pairs: pairs.append(("/tmp/escaped.txt", b"text"))),
    "an asset with ..": with_archive(lambda pairs: pairs.append(("assets/../../escaped.txt", b"text"))),
    "an unknown member": with_archive(lambda pairs: pairs.append(("setup.py", b"text"))),
    "config.json missing": with_archive(lambda pairs: [pair for pair in pairs if pair[0] != CONFIG]),
    "weights missing": with_archive(lambda pairs: [pair for pair in pairs if pair[0] != WEIGHTS]),
    "metadata missing": with_archive(lambda pairs: [pair for pair in pairs if pair[0] != METADATA]),
    "wrong metadata": with_member(METADATA, lambda content: b"[1, 2]"),
    "a Box of 2e8 entries": setting(*DESIGN, "config", "shape", value=[200_000_000]),
    "a Box of 2e4 x 1e4": setting(*DESIGN, "config", "shape", value=[20_000, 10_000]),
    "an Integer range of 1e8": setting(
        *DESIGN,
        value=named("kerasbed", "Integer", {"shape": [2], "low": 0, "high": 10**8}, "kerasbed>Integer"),
    ),
    "a Subset of 1e9": setting(
        *DESIGN, value=named("kerasbed", "Subset", {"candidates": 10**9, "size": 3}, "kerasbed>Subset")
    ),
    "a sequence of 1e9": setting("config", "simulator", "config", value={"length": 10**9}),
    "widths of 1e9": in_flow(subnet_kwargs={"widths": [10**9], "dropout": 0.0}),
    "widths of 2e6, twice": in_flow(subnet_kwargs={"widths": [2_000_000, 2_000_000], "dropout": 0.0}),
    "a million layers": in_flow(depth=1_000_000),
    "a million blocks": in_flow(subnet_kwargs={"widths": [1] * 1_000_000, "dropout": 0.0}),
    "a built shape of 1e9": setting(*NETWORK, "build_config", value={"shapes_dict": {"xz_shape": [32, 10**9]}}),
}
KINDS |= {f"{name} twice": doubled(name) for name in (CONFIG, WEIGHTS)}


def bombs(share: float = 1.0) -> dict[str, Callable]:
    """Files that take much more memory or disk than they have bytes; `share` of their full size."""
    return {
        "a config of 1.5 GB": inflated(CONFIG, int(1500 * share) + 40),
        "an asset of 4 GB": inflated("assets/words.txt", int(4000 * share) + 40),
        "weights of 2 GB": inflated(WEIGHTS, int(2000 * share) + 40, b"\0"),
        "metadata of 1 GB": inflated(METADATA, int(1000 * share) + 40),
        "a text file of 3 GB": sparse(b"text ", int(3e9 * share) + 10**6),
        "an archive with 3 GB behind it": lambda good, target, canary: sparse(good, int(3e9 * share) + 10**6)(
            good, target, canary
        ),
        "a config of ten million lists": with_config(
            lambda config, canary: b"[" + b"[]," * int(5_000_000 * share + 300_000) + b"[]]"
        ),
        "20,000 members": many_members,
        "members that overlap": overlapping,
        "HDF5 of huge shapes": with_weights(
            lambda file, canary: file.create_dataset("a", (10**9, 1000), "f8", chunks=(1000, 1000), compression="gzip")
        ),
    }
