"""O1: solutions at defaults against SciPy's, and the errors that `kb.ode.error` states of them.

Three experiments on stated grids of times: a damped rotation of three coordinates at 0, 0.5, ..., 10; hares and lynxes
with the rates that Carpenter (2018) found, (0.55, 0.028, 0.8, 0.024) from (34, 5.9), at 0, 0.25, ..., 20 years; an oral
dose of 100 mg in gut, blood and tissue at the usual hours after it. Each has twenty rows, with rates spread by 10%.
"Truth" is SciPy's DOP853 with tolerances of 1e-12. Rates with sharp peaks, such as (1.5, 1, 3, 1) from (10, 5) up to
15, need more than the default: 1.5e-3 at intervals of 0.25, 1e-6 at those of 0.05, in float64.
"""

import keras
import numpy as np
from keras import ops
from scipy import integrate

import kerasbed as kb
from kerasbed import backend

ROWS = 20
LIMIT = 1e-5
HOURS = np.array([0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 12.0, 16.0, 20.0, 24.0])


def rotation(t, x, speed, damping):
    a, b, c = x[..., 0:1], x[..., 1:2], x[..., 2:3]
    return ops.concatenate([speed * b - damping * a, -speed * a - damping * b, a - c], axis=-1)


def hunt(t, x, birth, eaten, death, grown):
    prey, hunters = x[..., 0:1], x[..., 1:2]
    return ops.concatenate([birth * prey - eaten * prey * hunters, grown * prey * hunters - death * hunters], axis=-1)


def drug(t, x, absorption, out, there, back):
    gut, blood, tissue = x[..., 0:1], x[..., 1:2], x[..., 2:3]
    exchanged = there * blood - back * tissue
    return ops.concatenate([-absorption * gut, absorption * gut - out * blood - exchanged, exchanged], axis=-1)


CASES = {
    "linear": (rotation, (1.0, 0.1), (1.0, 0.0, 0.5), np.arange(0.0, 10.1, 0.5)),
    "Lotka-Volterra": (hunt, (0.55, 0.028, 0.8, 0.024), (34.0, 5.9), np.arange(0.0, 20.1, 0.25)),
    "two compartments": (drug, (2.5, 10 / 35, 15 / 35, 15 / 105), (100.0, 0.0, 0.0), HOURS),
}


def problem(name: str) -> tuple:
    """Field, state (1, d), times (k,) and rates, a tuple of (ROWS, 1)."""
    field, centre, state, times = CASES[name]
    spread = np.exp(0.1 * np.random.default_rng(0).standard_normal((len(centre), ROWS, 1)))
    return field, np.array([state]), times, tuple(np.array(centre)[:, None, None] * spread)


def truth(field, state, times, rates) -> np.ndarray:
    """By SciPy, row by row, with the field itself in NumPy."""
    ours, found = _in_numpy(field), []
    for row in range(ROWS):
        own = [float(rate[row, 0]) for rate in rates]
        solved = integrate.solve_ivp(
            lambda t, x, own=own: ours(t, x, *own), (0.0, times[-1]), state[0], "DOP853", times, rtol=1e-12, atol=1e-12
        )
        found.append(solved.y.T)
    return np.array(found)


def _in_numpy(field):
    """The same equations for SciPy, which asks one point after the other."""
    written = {
        rotation: lambda t, x, s, d: [s * x[1] - d * x[0], -s * x[0] - d * x[1], x[0] - x[2]],
        hunt: lambda t, x, a, b, c, d: [a * x[0] - b * x[0] * x[1], d * x[0] * x[1] - c * x[1]],
        drug: lambda t, x, k, o, u, v: [
            -k * x[0],
            k * x[0] - o * x[1] - u * x[1] + v * x[2],
            u * x[1] - v * x[2],
        ],
    }
    return written[field]


def off(name: str, dtype: str) -> float:
    """Largest error relative to the largest value."""
    field, state, times, rates = problem(name)
    solve = backend.compile_function(lambda x, t, args: kb.ode.solve(field, x, t, args), dtype)
    exact = truth(field, state, times, rates)
    return float(np.abs(solve(state, times, rates) - exact).max() / np.abs(exact).max())


def against_scipy() -> list[dict]:
    rows = []
    for name in CASES:
        found = {dtype: off(name, dtype) for dtype in ("float32", "float64")}
        worst, note = max(found.values()), "; ".join(f"{dtype} {value:.1e}" for dtype, value in found.items())
        rows.append({"id": f"O1/{name}", "reported": worst, "truth": LIMIT, "passed": worst < LIMIT, "note": note})
    worst = max(row["reported"] for row in rows)
    note = f"largest error over largest value of {ROWS} rows on each of three grids, rk4, 8 steps an interval"
    return [{"id": "O1", "reported": worst, "truth": LIMIT, "passed": worst < LIMIT, "note": note}, *rows]


def stated_errors() -> list[dict]:
    """What `kb.ode.error` states over what is true, at 1 to 32 steps an interval, by each method."""
    ratios = []
    with backend.precision("float64"):
        for name in CASES:
            field, state, times, rates = problem(name)
            exact = truth(field, state, times, rates)
            for method in ("rk4", "rk45", "tsit5"):
                for steps in (1, 2, 4, 8, 32):
                    found = kb.ode.solve(field, state, times, rates, steps, method=method)
                    true = np.abs(keras.ops.convert_to_numpy(found) - exact).max()
                    told = kb.ode.error(field, state, times, rates, steps, method=method).max()
                    if true > 1e-9:
                        ratios.append((told / true, true, f"{name}, {method}, {steps} steps"))
    worst = max(ratios, key=lambda ratio: abs(np.log(ratio[0])))
    passed = 1 / 3 < worst[0] < 3
    note = f"worst of {len(ratios)} ratios of stated to true error: {worst[2]}, where {worst[1]:.1e} is true"
    return [{"id": "O1/error", "reported": worst[0], "truth": "1/3 to 3", "passed": passed, "note": note}]
