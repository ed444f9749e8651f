"""O3: how long models of differential equations take to build on JAX, and what a step costs.

"Building" is `kb.DesignModel(...)` in a fresh process without a cache of programs, in processor seconds. A step is
compared with a `jax.lax.scan` over Runge-Kutta steps that is written out for the one equation, by the smallest of
several times each, in turns. The unrolled loop is the same equation with its steps in a Python loop, in a process that
is stopped when it takes too long.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
from keras import ops
from scipy import stats

import kerasbed as kb

STEPS = 100
BATCH = 1024
MOST_BUILDING = 5.0  # seconds
MOST_RATIO = 2.0
REPEATS = 15
UNROLLED_STEPS, UNROLLED_LIMIT = 4, 120.0
TIMES = np.linspace(2.0, 20.0, 5)


def hunt(t, x, growth, death):
    prey, hunters = x[..., 0:1], x[..., 1:2]
    return ops.concatenate([prey * (growth - 0.05 * hunters), hunters * (0.05 * prey - death)], axis=-1)


class Hunt(kb.GaussianSimulator):
    """A prey and a predator, five times, a hundred steps in all."""

    prior = kb.Prior(growth=stats.lognorm(0.3), death=stats.lognorm(0.3))
    noise_shape = (5, 2)

    def states(self, parameters, design):
        args = parameters["growth"], parameters["death"]
        return kb.ode.solve(hunt, [[30.0, 10.0]], design, args, steps_per_interval=STEPS // 5)

    def mean(self, parameters, design):
        return ops.log(1.0 + ops.abs(self.states(parameters, design)))

    def scale(self, parameters, design):
        return 0.1


class Unrolled(Hunt):
    """The same with steps in a Python loop, as one writes it at first."""

    def states(self, parameters, design):
        args = parameters["growth"], parameters["death"]
        x = ops.broadcast_to(ops.convert_to_tensor([[30.0, 10.0]]), (*parameters["growth"].shape[:-1], 2))
        h, found = design[..., -1:] / STEPS, []  # the first of the hundred
        for _ in range(UNROLLED_STEPS):
            k_1 = hunt(0.0, x, *args)
            k_2 = hunt(0.0, x + 0.5 * h * k_1, *args)
            k_3 = hunt(0.0, x + 0.5 * h * k_2, *args)
            k_4 = hunt(0.0, x + h * k_3, *args)
            x = x + h * (k_1 + 2.0 * k_2 + 2.0 * k_3 + k_4) / 6.0
            found.append(x)
        return ops.stack([*found, x], axis=-2)


def seconds_to_build(simulator, design, **options) -> float:
    begin = time.process_time()
    kb.DesignModel(simulator, design, seed=0, **options)
    return time.process_time() - begin


def space():
    return kb.designs.Times(5, 0.0, 20.0, min_gap=0.5)


def building() -> list[dict]:
    """Each in a process of its own, which has imported but not compiled anything."""
    makes = {
        "O3": "seconds_to_build(Hunt(), space())",
        "O3/two compartments": "seconds_to_build(two := kb.problems.TwoCompartment(), two.design)",
        "O3/Lotka-Volterra": "seconds_to_build(two := kb.problems.LotkaVolterra(), two.design)",
    }
    rows = []
    for id, call in makes.items():
        found = min(_in_a_process(call, 300.0) for _ in range(2))
        passed = found <= MOST_BUILDING if id == "O3" else None
        note = "processor seconds of kb.DesignModel(...), the better of two fresh processes"
        note += ", 100 steps" if id == "O3" else ", told"
        rows.append({"id": id, "reported": found, "truth": MOST_BUILDING, "passed": passed, "note": note})
    return rows


def _in_a_process(call, limit) -> float:
    code = f"import sys; sys.path[:0] = {sys.path!r}\nimport kerasbed as kb\n"
    code += f"from simulators_cases.costs import *\nprint('took', {call})"
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    folder = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=limit, env=environment, cwd=folder
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return float(done.stdout.rpartition("took")[2])


def unrolled() -> list[dict]:
    """A measurement: nothing is asked of it but that it is told of."""
    try:
        reported, note = _in_a_process("seconds_to_build(Unrolled(), space())", UNROLLED_LIMIT), "it ended"
    except subprocess.TimeoutExpired as error:
        lines = [line for line in (error.stderr or b"").decode().splitlines() if "has been compiling" in line]
        reported, note = UNROLLED_LIMIT, f"stopped; said: {lines[-1] if lines else 'nothing'}"
    note = f"processor seconds to build the same with {UNROLLED_STEPS} steps in a Python loop; {note}"
    return [{"id": "O3/unrolled", "reported": reported, "truth": None, "passed": None, "note": note}]


# -- a step ---


def by_hand(x, growth, death, times):
    """Twenty Runge-Kutta steps to each of five times, by `jax.lax.scan`."""
    jnp, count = jax.numpy, STEPS // 5

    def field(x):
        prey, hunters = x[..., 0:1], x[..., 1:2]
        return jnp.concatenate([prey * (growth - 0.05 * hunters), hunters * (0.05 * prey - death)], axis=-1)

    def step(x, h):
        k_1 = field(x)
        k_2 = field(x + 0.5 * h * k_1)
        k_3 = field(x + 0.5 * h * k_2)
        k_4 = field(x + h * k_3)
        x = x + h * (k_1 + 2.0 * k_2 + 2.0 * k_3 + k_4) / 6.0
        return x, x

    h = jnp.repeat(jnp.diff(times, prepend=0.0) / count, count)
    _, found = jax.lax.scan(step, jnp.broadcast_to(x, (*growth.shape[:-1], 2)), h)
    return jnp.moveaxis(found[count - 1 :: count], 0, 1)


def ours(x, growth, death, times):
    return kb.ode.solve(hunt, x, times, (growth, death), STEPS // 5)


def step() -> list[dict]:
    rng = np.random.default_rng(0)
    growth, death = (np.exp(0.3 * rng.standard_normal((BATCH, 1))).astype("float32") for _ in range(2))
    given = np.array([[30.0, 10.0]], "float32"), growth, death, TIMES.astype("float32")
    rows = []
    for id, wrap in (("O3/step", lambda f: f), ("O3/step, gradient", _gradient)):
        programs = [jax.jit(wrap(function)) for function in (ours, by_hand)]
        values = [jax.tree.map(np.asarray, program(*given)) for program in programs]
        for a, b in zip(*map(jax.tree.leaves, values), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(b).max())
        best = _smallest(programs, given)
        ratio = best[0] / best[1]
        note = f"{1e6 * best[0] / STEPS:.1f} us a step of {BATCH} rows, by hand {1e6 * best[1] / STEPS:.1f} us"
        rows.append({"id": id, "reported": ratio, "truth": MOST_RATIO, "passed": ratio <= MOST_RATIO, "note": note})
    return rows


def _gradient(function):
    """In rates and times, as training asks for it."""
    return jax.grad(lambda *args: jax.numpy.log(function(*args)).sum(), argnums=(1, 2, 3))


def _smallest(programs, given):
    found = [[], []]
    for _ in range(REPEATS):
        for own, program in zip(found, programs, strict=True):
            begin = time.perf_counter()
            jax.block_until_ready(program(*given))
            own.append(time.perf_counter() - begin)
    return [min(own) for own in found]
