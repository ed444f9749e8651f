"""A7: that backends agree on what a policy proposes and on its gradients, and how long JAX compiles.

Base samples and weights come from NumPy, so that they are the same on every backend; what is compared with was recorded
on JAX by `python benchmarks/adaptive_cases/agreement.py [float64]`. Every function gives rows of `adaptive.py`.
"""

import re
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np

import kerasbed as kb
from adaptive_cases.rows import judged
from kerasbed import backend

ROOT = Path(__file__).resolve().parents[2]
SEED, ROLLOUTS = 1, 16
SHOWN = (0, 9, 19, 29)  # looks of thirty whose designs were recorded
GRADIENTS = (
    "tests/policies/test_policy.py::test_gradients_through_two_looks_are_finite_differences",
    "tests/objectives/test_histories.py::test_scores_of_histories_equal_all_paths",
    "tests/objectives/test_histories.py::test_averaged_scores_equal_all_paths",
)


def _designs(simulator, space, steps) -> np.ndarray:
    """What a policy that makes much of the history proposes in a few rollouts, (ROLLOUTS, steps, *shape)."""
    policy = kb.policies.Policy(space, steps, seed=SEED)
    policy.prepare(kb.Sequence(simulator, steps))
    rng = np.random.default_rng(SEED)
    for weights in policy.skip.weights:
        weights.assign(0.1 * rng.standard_normal(weights.shape))
    return simulator.simulate(ROLLOUTS, policy, seed=SEED)["design"]


def _death_process():
    simulator = kb.problems.SequentialDeathProcess()
    return _designs(simulator, simulator.design, 4)[:4, :, 0]


def _location_finding(steps):
    return _designs(kb.problems.LocationFinding(), kb.designs.Free((2,)), steps)[0]


def _compared(id, designs, recorded, tolerance) -> dict:
    worst = float(np.max(np.abs(designs - np.array(recorded))))
    note = f"largest difference of a design to those on JAX; spread of the designs {np.std(designs):.2f}"
    return judged(id, worst, tolerance, worst <= tolerance, note)


def trajectories() -> list[dict]:
    """Designs of the death process and of location finding in float32."""
    return [
        _compared("A7", _location_finding(5), LOCATION_FINDING, 1e-4),
        _compared("A7/death process", _death_process(), DEATH_PROCESS, 1e-4),
    ]


def in_float64() -> list[dict]:
    """Thirty looks of location finding."""
    return [_compared("A7/float64", _in_float64(), LOCATION_FINDING_IN_FLOAT64, 1e-8)]


def _in_float64():
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    if backend.NAME == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    return _location_finding(30)[list(SHOWN)]


def gradients() -> list[dict]:
    """Gradients through two looks against finite differences, and those by scores against sums over all paths."""
    command = [sys.executable, "-m", "pytest", *GRADIENTS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    passed = re.search(r"(\d+) passed", done.stdout)
    note = "tests that pass: through outcomes, and by scores"
    return [judged("A7/gradients", int(passed[1]) if passed else 0, "all", done.returncode == 0, note)]


def compiling() -> list[dict]:
    """Processor seconds of the first twenty steps of thirty looks, less those of the next twenty."""
    policy = kb.policies.Policy(kb.designs.Free((2,)), 30, seed=SEED)
    model = kb.DesignModel(kb.problems.LocationFinding(), policy, seed=SEED)
    spent = []
    for _ in range(2):
        begin = time.process_time()
        model.fit(epochs=1, steps_per_epoch=20, verbose=0, diagnose=False)
        spent.append(time.process_time() - begin)
    note = f"first 20 steps {spent[0]:.1f} processor s, the next 20 {spent[1]:.1f}"
    found = spent[0] - spent[1]
    passed = found <= 10.0 or backend.NAME != "jax"
    return [judged("A7/compiling", found, "at most 10 s on JAX at T = 30", passed, note)]


# The first rollout of location finding, looks by places.
LOCATION_FINDING = [
    [0.212734, -1.512397],
    [-1.417356, 2.410782],
    [0.95196, 1.471597],
    [-0.287898, 2.70279],
    [-0.45612, 2.829644],
]
# The first four rollouts of the death process, by looks.
DEATH_PROCESS = [
    [11.027308, 5.613797, 5.239513, 12.110519],
    [11.027308, 5.613797, 5.239513, 12.110519],
    [11.027308, 5.613797, 7.09988, 13.031822],
    [11.027308, 5.613797, 5.239513, 12.110519],
]
# Of thirty looks the first, the tenth, the twentieth and the last.
LOCATION_FINDING_IN_FLOAT64 = [
    [0.2127337605573059, -1.5123968821687044],
    [0.029086375439084506, 2.369735297700747],
    [-1.1852152131882618, 3.1831141784372528],
    [-2.8449811194116785, 3.930822440023265],
]

if __name__ == "__main__":
    made = [_in_float64()] if "float64" in sys.argv else [_location_finding(5), _death_process()]
    print(*[designs.tolist() for designs in made], sep="\n")
