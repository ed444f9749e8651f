"""What a file may name and declare, rule by rule; whole files are in tests/model/test_hostile_files.py."""

import json

import bayesflow as bf
import keras
import pytest

import kerasbed as kb
from kerasbed.backend import allowed_names, fields, untrusted
from kerasbed.policies.encoders import PooledEncoder

pytestmark = pytest.mark.one_backend


@keras.saving.register_keras_serializable("kerasbed_tests")
class OwnLayer(keras.layers.Layer):
    """A user may register what he likes, a layer with a path among it."""

    def __init__(self, path="", **kwargs):
        super().__init__(**kwargs)
        self.path_of_mine = path

    def get_config(self):
        return super().get_config() | {"path": self.path_of_mine}


@keras.saving.register_keras_serializable("kerasbed_tests")
def doubled(x):
    return 2 * x


def layers():
    """What users hold in their models."""
    return {
        "dense": keras.layers.Dense(3, activation="relu", kernel_regularizer="l2", kernel_constraint="max_norm"),
        "of a registered function": keras.layers.Dense(3, activation=doubled),
        "own": OwnLayer("somewhere"),
        "sequential": keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2), keras.layers.Dropout(0.1)]),
        "recurrent": keras.layers.Bidirectional(keras.layers.GRU(4)),
        "functional": functional(),
        "mixed precision": keras.layers.Dense(3, dtype="mixed_float16"),
        "deep set": bf.networks.DeepSet(depth=1),
        "flow": bf.networks.CouplingFlow(depth=1, subnet=bf.networks.MLP),
        "optimizer": keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(0.1, 10_000_000)),
        "box": kb.designs.Box((3,), -1e9, 1e9),
        "integers": kb.designs.Integer((3,), 10**9, 10**9 + 5),
        "encoder": PooledEncoder(),
    }


def functional():
    x = keras.layers.Input((3,))
    return keras.Model(x, keras.ops.relu(keras.layers.Dense(2)(x)) + 1.0)


def test_what_users_hold_passes():
    for name, layer in layers().items():
        untrusted.check(json.loads(json.dumps(keras.saving.serialize_keras_object(layer))), name)


def test_a_network_named_by_its_type_passes():
    untrusted.check({"subnet": "__bayesflow_type__bayesflow.networks>MLP"}, "it")


def test_custom_objects_are_allowed_within_their_scope():
    config = {"module": "mine", "class_name": "Mine", "config": {}, "registered_name": "Mine"}
    with keras.saving.custom_object_scope({"Mine": keras.layers.Dense}):
        untrusted.check(config, "it")
    with pytest.raises(kb.errors.FileError, match=r"it declares 'mine.Mine', which is not registered with Keras"):
        untrusted.check(config, "it")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("keras.layers", "Lambda"),
        ("keras.layers", "TFSMLayer"),
        ("keras.layers", "StringLookup"),
        ("keras.layers", "IntegerLookup"),
        ("keras.layers", "TextVectorization"),
        ("keras.layers", "TorchModuleWrapper"),
        ("keras.layers", "JaxLayer"),
        ("keras.callbacks", "BackupAndRestore"),
        ("keras.utils", "PyDataset"),
        ("keras.src.saving.saving_lib", "DiskIOStore"),
        ("keras.src.saving.saving_lib", "load_model"),
        ("numpy", "memmap"),
    ],
)
def test_what_runs_code_or_reads_files_is_refused(module, name):
    config = {"module": module, "class_name": name, "config": {}, "registered_name": None}
    assert name in allowed_names.refusal(config)
    with pytest.raises(kb.errors.FileError, match=f"{name}.* Nothing of it was built"):
        untrusted.check({"a": [{"b": config}]}, "it")


@pytest.mark.parametrize("name", ["system", "exec", "load_model", "get_file", "enable_unsafe_deserialization"])
@pytest.mark.parametrize("module", ["builtins", "keras.saving", "keras.utils", "keras.config", "os"])
def test_functions_that_compute_nothing_are_refused(module, name):
    config = {"module": module, "class_name": "function", "config": name, "registered_name": name}
    assert name in allowed_names.refusal(config)


@pytest.mark.parametrize("name", ["memmap", "numpy.memmap", "open", "exec", "kerasbed_tests>doubled", ""])
def test_types_of_numpy_and_python_are_refused(name):
    with pytest.raises(kb.errors.FileError, match=r"declares the type .* \(at subnet\)"):
        untrusted.check({"subnet": f"__bayesflow_type__{name}"}, "it")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"units": 10**9}, "a size of 1000000000, but at most 4,194,304 was"),
        ({"units": -(10**30)}, "a size of 1e15 or more"),
        ({"shape": [2**11, 2**10]}, r"a shape of 2.1e\+06 entries"),
        ({"shape": [2e8]}, r"a shape of 2e\+08 entries"),
        ({"low": 0, "high": 10**8}, r"1e\+08 whole numbers from low to high"),
        ({"low": 0.0, "high": 1e8, "temperatures": []}, r"1e\+08 whole numbers"),
        ({"candidates": 1e9, "size": 3}, r"candidates = 1e\+09, but at most 500,000"),
        ({"length": 10**6}, r"length = 1e\+06, but at most 10,000"),
        ({"a": float("nan")}, r"a number that is NaN \(at a\)"),
        ({"class_name": "__numpy__", "config": {"value": [], "dtype": "S100000000"}}, "an array of type 'S100000000'"),
        ({"class_name": "__lambda__", "config": {}}, "the code of a lambda"),
        ({"class_name": 3}, "a class name of type int"),
    ],
)
def test_sizes_and_numbers_that_no_model_has_are_refused(config, message):
    with pytest.raises(kb.errors.FileError, match=message):
        untrusted.check(config, "it")


@pytest.mark.parametrize(
    "config",
    [
        {"seed": 2**100, "seeds": [2**70, 3], "shared_object_id": 2**60},
        {"low": [-1e12], "high": [1e12], "initial": [2460000.5]},
        {"low": 10**9, "high": 10**9 + 10},
        {"steps": 10**8, "options": [1, 10**8]},
        {"simulator": {"config": {"population": 10**10}}},
        {"shape": [None, 10**6]},
    ],
)
def test_values_are_no_sizes(config):
    untrusted.check(config, "it")


def test_levels_are_counted():
    config = {}
    for _ in range(untrusted.DEEPEST + 5):
        config = {"a": [config]}
    with pytest.raises(kb.errors.FileError, match="parts within parts of more than 60 levels"):
        untrusted.check(config, "it")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "it is no JSON"),
        (b"\xff\xfe", "it is no text in UTF-8"),
        (b"[" * 10**5 + b"]" * 10**5, "it is nested deeper than 60 levels"),
        (b"[" + b"[]," * 10**6 + b"0]", "more than 200,000 objects"),
        (b"0" * 5000, "it is no JSON"),
        (b" " * (2**24 + 1), "has 16,777,217 bytes, but at most"),
    ],
)
def test_texts_that_are_no_description_are_refused(text, message):
    with pytest.raises(kb.errors.FileError, match=message) as told:
        untrusted.parse(text, "it")
    assert len(str(told.value)) < 300


def test_records_are_checked_field_by_field():
    kinds = {"a": fields.Field(fields.is_flag, "true or false"), "b": fields.Field(fields.is_text, "a text", False)}
    fields.check({"a": True}, kinds, "it")
    for record, message in (
        ([], "it is list, but a record"),
        ({}, "it lacks 'a'"),
        ({"a": 1}, "it has a = 1, but true or false"),
        ({"a": True, "c": 1}, "it has 'c', which"),
    ):
        with pytest.raises(kb.errors.FileError, match=message):
            fields.check(record, kinds, "it")
    assert not fields.is_number(float("nan"))
    assert not fields.is_integer(True)
