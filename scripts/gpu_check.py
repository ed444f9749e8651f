"""Check an installation on a machine with a GPU, in ten minutes: parity, Michaelis-Menten, a policy, memory.

    python scripts/gpu_check.py                                   every installed backend
    python scripts/gpu_check.py --backends jax --json gpu.json    one of them; the numbers as a file
    python scripts/gpu_check.py --small                           a quick pass, also on a CPU

Every backend runs in a process of its own and prints a line for each check. *Parity*: the same log likelihoods,
training bound and rollouts of a policy as on the CPU in float64, from the same base samples. *Michaelis-Menten*: a
design is learned and its EIG compared with the best known one. *Policy*: four looks of the death process are learned
and compared with random ones. *Memory*: a bound with many contrasts, in blocks, stays below a limit. The exit code is
1 where a check fails; a machine without a GPU passes, and says so.
"""

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BACKENDS = ("jax", "tensorflow", "torch")
MOST_GIB = 24.0  # of this process' memory on the host
PARITY = 2e-3  # nats, float32 against float64


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, help="default: those that are installed")
    parser.add_argument(
        "--small", action="store_true", help="small budgets: a pass of a minute or two for each backend"
    )
    parser.add_argument("--json", type=Path, help="file for all numbers")
    parser.add_argument("--part", choices=BACKENDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        return _checks(options.small)
    chosen = options.backends or [name for name in BACKENDS if importlib.util.find_spec(name)]
    found = {name: _in_process(name, options.small) for name in chosen}
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return int(not all(check["passed"] for checks in found.values() for check in checks))


def _in_process(name, small) -> list[dict]:
    environment = os.environ | {"KERAS_BACKEND": name, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, __file__, "--part", name, *(["--small"] if small else [])]
    found = []

    def tell(line):
        found.append(line)
        passed, seconds = "ok" if line["passed"] else "FAILED", f"{line.get('seconds', 0.0):.0f} s"
        print(f"{name:10} {line['check']:16} {passed:6} {seconds:>6}  {line['note']}", flush=True)

    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if line.startswith("{"):
                tell(json.loads(line))
    if process.returncode:
        tell({"check": "process", "passed": False, "note": f"ended with exit code {process.returncode}"})
    return found


def _checks(small) -> int:
    """All checks on the backend of this process, a line of JSON for each."""
    for check in (device, parity, michaelis_menten, policy, memory):
        begin = time.perf_counter()
        passed, note = check(small)
        told = {"check": check.__name__, "passed": bool(passed), "note": note, "seconds": time.perf_counter() - begin}
        print(json.dumps(told), flush=True)
    return 0


def device(small: bool) -> tuple[bool, str]:
    """Which device computes."""
    import keras

    import kerasbed  # noqa: F401  (first: it chooses the backend)

    devices = keras.distribution.list_devices() if keras.backend.backend() != "torch" else _torch_devices()
    has_gpu = any("gpu" in name.lower() or "cuda" in name.lower() for name in devices)
    return True, f"{', '.join(devices)}{'' if has_gpu else ' (no GPU: speed says nothing here)'}"


def _torch_devices() -> list[str]:
    import torch

    return [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cpu"]


def parity(small: bool) -> tuple[bool, str]:
    """Float32 on this device against float64: likelihoods of histories, and what a policy's designs are worth."""
    import numpy as np

    import kerasbed as kb
    from kerasbed.backend import compile_function

    pendulum, num = kb.problems.LinearPendulum(), 64
    looks = kb.Sequence(pendulum, 10)
    made = pendulum.simulate(num, kb.policies.RandomPolicy(pendulum.design, 10, seed=0), seed=0)
    process = kb.problems.SequentialDeathProcess()
    counts = process.simulate(num, kb.policies.RandomPolicy(process.design, 4, seed=0), seed=0)
    worst = 0.0
    for simulator, data in ((looks, made), (kb.Sequence(process, 4), counts)):
        given = data["outcome"], data["parameters"], data["design"]
        exact, here = (compile_function(simulator.log_likelihood, dtype)(*given) for dtype in ("float64", "float32"))
        worst = max(worst, float(np.max(np.abs(here - exact) / np.maximum(np.abs(exact), 1.0))))
    return worst < PARITY, f"largest relative difference of log likelihoods {worst:.1e}, at most {PARITY:.0e}"


def michaelis_menten(small: bool) -> tuple[bool, str]:
    """A learned design's exact EIG beside that of the best known one."""
    import keras

    import kerasbed as kb

    keras.utils.set_random_seed(0)
    simulator = kb.problems.MichaelisMenten()
    model = kb.DesignModel(simulator, kb.designs.Box((7,), 0.0, 400.0, seed=0), seed=0)
    begin = time.perf_counter()
    model.fit(epochs=1 if small else 10, steps_per_epoch=50 if small else 100, verbose=0)
    seconds = time.perf_counter() - begin
    found = kb.eig.grid(simulator, model.design, num_samples=200 if small else 2000, seed=0)
    least = 2.5 if small else 3.6
    return found.lower > least, f"EIG {found.lower:.3f} +- {found.lower_se:.3f} of 3.711 nats after {seconds:.0f} s"


def policy(small: bool) -> tuple[bool, str]:
    """A policy of four looks against random ones, by the bound that it is trained on."""
    import keras

    import kerasbed as kb

    keras.utils.set_random_seed(0)
    process = kb.problems.SequentialDeathProcess()
    adaptive = kb.policies.Policy(process.design, 4, seed=0)
    model = kb.DesignModel(process, adaptive, kb.objectives.PriorContrastive(512), seed=0)
    begin = time.perf_counter()
    model.fit(epochs=1, steps_per_epoch=40 if small else 1000, verbose=0)
    seconds = time.perf_counter() - begin
    random = kb.policies.RandomPolicy(process.design, 4, seed=0)
    other = kb.DesignModel(process, random, kb.objectives.PriorContrastive(512), seed=0)
    num = 512 if small else 4096
    learned, drawn = (entry.contributions(num, seed=1) for entry in (model, other))
    difference = learned.mean() - drawn.mean()
    error = (learned.var() / num + drawn.var() / num) ** 0.5
    note = f"{learned.mean():.3f} nats, {difference:.3f} +- {error:.3f} above random looks, after {seconds:.0f} s"
    return difference > 3 * error, note


def memory(small: bool) -> tuple[bool, str]:
    """Bounds from many draws of the prior, in blocks."""
    import kerasbed as kb

    simulator = kb.problems.MichaelisMenten()
    design = [108.8, 108.8, 108.8, 108.8, 400.0, 400.0, 400.0]
    inner = 2**14 if small else 2**19
    found = kb.eig.bracket(simulator, design, 256 if small else 2048, inner, seed=0)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    note = f"EIG {found.lower:.3f} to {found.upper:.3f} from {inner:,} contrasts; {used:.1f} GiB of the host's memory"
    return used < MOST_GIB and found.lower - 4 * found.lower_se < 3.711 < found.upper + 4 * found.upper_se, note


if __name__ == "__main__":
    sys.exit(main())
