"""The backend comes from KERAS_BACKEND; the same tests run on all three, with seeds fixed."""

import collections
import contextlib
import functools
import gc
import os
import typing
from pathlib import Path

# Models of equal shapes compile once a run, and not again in the next run. Must be set before JAX is imported.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

import keras
import pytest
from keras.src.backend.common import dtypes
from keras.src.utils import module_utils

import kerasbed as kb  # first: it chooses the backend
from kerasbed.networks import flows
from kerasbed.networks.density_fit import DensityFit
from tests import toys

# Tracing makes and keeps very many small objects; looking through them again and again finds nothing.
gc.freeze()
gc.set_threshold(50_000, 20, 100)

# Python 3.11 finds out anew what a protocol asks for at every look, of which TensorFlow takes many to trace a function.
if hasattr(typing, "_get_protocol_attrs"):
    typing._get_protocol_attrs = functools.cache(typing._get_protocol_attrs)

# As where TensorFlow is not installed: Keras would import it on JAX and torch to seed and to save, four seconds of each
# process. Tests of its data import it by themselves.
if keras.backend.backend() != "tensorflow":
    module_utils.tensorflow._available = False

# JAX makes the compiler a new context for every program, which takes longer than to lower a small one: one for all.
if keras.backend.backend() == "jax":
    import jax
    from jax._src import compiler
    from jax._src.interpreters import mlir

    mlir.make_ir_context = functools.cache(mlir.make_ir_context)

TESTS = Path(__file__).parent
MOST_COSTLY = 8  # modules that the closing line names
_spent: collections.Counter = collections.Counter()


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="also run the tests marked slow")


def pytest_configure(config):
    """Many tests train for a step or two on purpose. Not in pyproject.toml, which would import JAX before the above."""
    config.addinivalue_line("filterwarnings", "ignore::kerasbed.errors.UndertrainedWarning")


def pytest_collection_modifyitems(config, items):
    """Leave out what is slow unless all is asked for, and on all backends but one what none of them changes."""
    chosen, others = [], []
    for item in items:
        wanted = config.getoption("--all") or not item.get_closest_marker("slow")
        (chosen if wanted and _is_of_this_backend(item) else others).append(item)
    if others:
        config.hook.pytest_deselected(items=others)
    items[:] = chosen


def _is_of_this_backend(item) -> bool:
    only = item.get_closest_marker("one_backend")
    return only is None or keras.backend.backend() == (only.args[0] if only.args else "jax")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Add up what each module costs in seconds of the processor, which other work on the machine stretches less."""
    before = _processor_seconds()
    try:
        return (yield)
    finally:
        _spent[item.path.relative_to(TESTS)] += _processor_seconds() - before


def pytest_terminal_summary(terminalreporter):
    """Processor seconds by folder, and the modules that cost most."""
    folders = collections.Counter()
    for path, seconds in _spent.items():
        folders[path.parts[0] if len(path.parts) > 1 else "."] += seconds
    folders = ", ".join(f"{name} {seconds:.0f}" for name, seconds in folders.most_common())
    modules = ", ".join(f"{path} {seconds:.0f}" for path, seconds in _spent.most_common(MOST_COSTLY))
    terminalreporter.write_line(f"processor seconds: {sum(_spent.values()):.0f}; by folder: {folders}; of it {modules}")


def _processor_seconds() -> float:
    """Of this process and of those that it has waited for."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


@pytest.fixture(autouse=True)
def fixed_seeds():
    keras.utils.set_random_seed(0)


@pytest.fixture
def float64():
    """All in double precision, as in a process that was told so at its start."""
    promotion, policy = dict(dtypes.BIT64_TO_BIT32_DTYPE), keras.config.dtype_policy()
    wide = jax.enable_x64(True) if keras.backend.backend() == "jax" else contextlib.nullcontext()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        with wide:
            yield
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy(policy)
        dtypes.BIT64_TO_BIT32_DTYPE.clear()
        dtypes.BIT64_TO_BIT32_DTYPE.update(promotion)


@pytest.fixture(scope="module", autouse=True)
def without_xla(request):
    """Models skip XLA on TensorFlow, which compiles longer than they train, but in modules that say `WITH_XLA`."""
    if getattr(request.module, "WITH_XLA", False):
        yield
        return

    def quick(compile_model):
        return lambda self, *args, **options: compile_model(self, *args, **(toys.QUICK | options))

    with pytest.MonkeyPatch.context() as patch:
        for model in (kb.DesignModel, DensityFit):
            patch.setattr(model, "compile", quick(model.compile))
        yield


@pytest.fixture(scope="module", autouse=True)
def with_optimisation(request):
    """On JAX what modules that say `COMPUTES` compile is optimised a little: they compute longer than they compile."""
    if keras.backend.backend() != "jax" or not getattr(request.module, "COMPUTES", False):
        yield
        return

    def options(*args, **named):
        made = get_options(*args, **named)
        flags = made.executable_build_options.debug_options
        flags.xla_backend_optimization_level = max(flags.xla_backend_optimization_level, 1)
        return made

    get_options = compiler.get_compile_options
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "get_compile_options", options)
        yield


@pytest.fixture
def lean_networks(monkeypatch):
    """Default networks are `toys.lean_flow`: for tests of what is done with a network, not of the default one."""
    for name in ("default_flow", "default_network"):
        monkeypatch.setattr(flows, name, lambda dim, condition_width, seed=0: toys.lean_flow(seed))
    monkeypatch.setattr(flows, "default_refit", lambda prior: None)


@pytest.fixture(scope="session")
def trained():
    """A model of a straight line with two couplings, trained for a moment; tests must leave it as it is."""
    keras.utils.set_random_seed(0)
    model = toys.line_model(depth=2)
    model.compile(keras.optimizers.Adam(1e-2), **toys.QUICK)
    model.fit(kb.SimulatorDataset(model.simulator, model.design, toys.BATCH, 20, seed=3), epochs=4, verbose=0)
    return model
