"""Michaelis-Menten: kerasbed against a tutorial-style torch loop and a hand-written `lax.scan`, in one run.

    python benchmarks/michaelis_menten.py                        # the whole table, about 15 minutes on one core
    python benchmarks/michaelis_menten.py --quick                # a tenth of the steps, without times to 99%
    python benchmarks/michaelis_menten.py --part speed --against ../before     # speed against another checkout
    python benchmarks/michaelis_menten.py --cores 2 --json michaelis_menten.json

Every row runs in its own process, one after the other, all bound to the same cores (`table.pin`). Every loop starts at
the same design (`START`). "s" are seconds on the clock, "processor s" those of all threads; a cold figure has imports
behind it and compiling in it, a warm one is the second of its kind in its process. Three questions:

1. speed: steps per second with the tutorial's network (BayesFlow's default CouplingFlow, 225,871 weights, batch 128):
   what does Keras' `fit` cost over a loop written by hand? With --against, how does it compare with another checkout?
2. job: seconds for the whole job: model built, compiled and trained for 1,000 steps with kerasbed's defaults, against
   the tutorial's 5,000 steps, each with the EIG reached as a fraction of the best known;
3. to_99: seconds, compiling included, until the true EIG (a dense grid, paired draws) is, and stays, at 99% of the best
   known design's: kerasbed with rates chosen for speed, the tutorial's loop with its own.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import table

ROOT = Path(__file__).resolve().parents[1]
BACKENDS = ("jax", "tensorflow", "torch")
BATCH = 128
TO_99 = {"batch_size": 128, "steps": 500, "network_rate": 4e-3, "design_rate": 0.15}
TUTORIAL_STEPS = 5000
START_LOGITS = (0.0126, -0.0132, 0.0640, 0.0105, -0.0536, 0.0362, 0.1304)  # of default_rng(0), times 0.1
WITHIN = 0.97  # of the speed of another checkout
LEAST_OF_SCAN = 0.95  # of the speed of the hand-written loop
TURNS = 40  # of those that are compared
TURN_STEPS = {"jax": 200, "tensorflow": 200, "torch": 40}  # about a second


# -- rows, each in a process of its own ---


def tutorial_loop(steps: int) -> dict:
    """The shape of the tutorial's loop: torch, eager, one AdamW at 1e-3 for the flow and the designs together."""
    import bayesflow as bf
    import torch

    start = time.perf_counter()
    torch.manual_seed(0)
    weights = torch.nn.Parameter(torch.tensor([START_LOGITS]))
    flow = bf.networks.CouplingFlow(subnet_kwargs={"dropout": 0.0})
    designs = []
    with torch.enable_grad():
        flow.build((32, 2), (32, 14))
        optimizer = torch.optim.AdamW([weights, *flow.parameters()], lr=1e-3)
        began, processor = time.perf_counter(), time.process_time()
        for _ in range(steps):
            optimizer.zero_grad()
            theta = 0.5 + 0.1 * torch.randn(BATCH, 2)
            x, k = torch.sigmoid(weights) ** 4, ((20 + 180 * theta[:, 1:]) / 400) ** 4
            outcome = (20 + 180 * theta[:, :1]) * x / (k + x) + 5 * torch.randn(BATCH, 7)
            conditions = torch.cat([outcome / 200, weights.detach().expand(BATCH, 7)], dim=-1)
            loss = -flow.log_prob(theta, conditions=conditions).mean()
            loss.backward()
            optimizer.step()
            spent = time.perf_counter() - start, time.process_time() - processor
            designs.append((spent, 400 * torch.sigmoid(weights.detach())[0].numpy()))
    now, processor = time.perf_counter(), time.process_time() - processor
    found = {"steps_per_second": steps / (now - began), "seconds": now - start, "processor_seconds": processor}
    return found | {"to_99": time_to_99(designs), "ratio": ratio(designs[-1][1])}


def hand_written_scan(steps: int, fused: int = 50) -> None:
    """The fastest loop one would write by hand: JAX, draws in the graph, `lax.scan` over steps, the same network."""
    import bayesflow as bf
    import jax
    import keras
    from jax import numpy as jnp

    flow = bf.networks.CouplingFlow(subnet_kwargs={"dropout": 0.0})
    flow.build((32, 2), (32, 14))
    design = keras.Variable(np.array([START_LOGITS]), name="design")
    variables, fixed = [design, *flow.trainable_variables], [v.value for v in flow.non_trainable_variables]
    optimizer = keras.optimizers.AdamW(1e-3)
    optimizer.build(variables)

    def loss(values, key):
        key_theta, key_noise = jax.random.split(key)
        theta = 0.5 + 0.1 * jax.random.normal(key_theta, (BATCH, 2))
        x, k = jax.nn.sigmoid(values[0]) ** 4, ((20 + 180 * theta[:, 1:]) / 400) ** 4
        outcome = (20 + 180 * theta[:, :1]) * x / (k + x) + 5 * jax.random.normal(key_noise, (BATCH, 7))
        condition = jnp.broadcast_to(jax.lax.stop_gradient(values[0]), (BATCH, 7))
        (_, log_q), _ = flow.stateless_call(
            values[1:], fixed, theta, conditions=jnp.concatenate([outcome / 200, condition], -1), density=True
        )
        return -jnp.mean(log_q)

    def step(state, key):
        values, slots = state
        value, gradients = jax.value_and_grad(loss)(values, key)
        return optimizer.stateless_apply(slots, gradients, values), value

    run = jax.jit(lambda state, key: jax.lax.scan(step, state, jax.random.split(key, fused)), donate_argnums=0)
    state = ([v.value for v in variables], [v.value for v in optimizer.variables])
    clock = TurnClock(steps // fused * fused)
    while clock.begin():
        for key in range(steps // fused):
            state, value = run(state, jax.random.key(key))
            float(value[-1])
        clock.end()


def kerasbed_same_network(steps: int) -> None:
    """kerasbed's `fit` with the tutorial's network and optimizer; a turn is an epoch."""
    import bayesflow as bf
    import keras

    import kerasbed as kb

    clock = TurnClock(steps)

    class Turns(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if not clock.begin():
                sys.exit()

        def on_epoch_end(self, epoch, logs=None):
            clock.end()

    flow = bf.networks.CouplingFlow(subnet_kwargs={"dropout": 0.0})
    simulator, design = kb.problems.MichaelisMenten(), start_design()
    model = kb.DesignModel(simulator, design, objective=kb.objectives.BarberAgakov(flow), seed=0)
    model.compile(optimizer=keras.optimizers.AdamW(1e-3), design_optimizer=keras.optimizers.AdamW(1e-3))
    data = kb.SimulatorDataset(simulator, design, batch_size=BATCH, num_batches=steps, seed=0)
    model.fit(data, epochs=10**6, verbose=0, callbacks=[Turns()])


def kerasbed_job(steps: int) -> dict:
    """kerasbed with its defaults, built, compiled and trained, twice: cold and warm."""
    import kerasbed as kb

    found = {}
    for state in ("cold", "warm"):
        start, processor = time.perf_counter(), time.process_time()
        model = kb.DesignModel(kb.problems.MichaelisMenten(), start_design(), seed=0)
        model.fit(epochs=1, steps_per_epoch=steps, batch_size=BATCH, verbose=0)
        spent = {"seconds": time.perf_counter() - start, "processor_seconds": time.process_time() - processor}
        found[state] = spent | {"ratio": ratio(model.design.numpy())}
    return found


def kerasbed_to_99(steps: int) -> dict:
    """kerasbed with rates and steps chosen for speed; the design is looked at every 10 steps or each fused group."""
    import keras

    import kerasbed as kb
    from kerasbed.model.optimizers import PlannedDecay

    start, processor, designs = time.perf_counter(), time.process_time(), []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            spent = time.perf_counter() - start, time.process_time() - processor
            designs.append((spent, self.model.design.numpy()))

    model = kb.DesignModel(kb.problems.MichaelisMenten(), start_design(), seed=0)
    model.compile(
        optimizer=keras.optimizers.Adam(PlannedDecay(TO_99["network_rate"])),
        design_optimizer=keras.optimizers.Adam(PlannedDecay(TO_99["design_rate"])),
    )
    model.fit(steps_per_epoch=steps, batch_size=TO_99["batch_size"], verbose=0, callbacks=[Watch()])
    spent = {"seconds": time.perf_counter() - start, "processor_seconds": time.process_time() - processor}
    return spent | {"to_99": time_to_99(designs), "ratio": ratio(model.design.numpy())}


# -- what the rows share ---


def start_design():
    """A box that begins where the tutorial's loop does."""
    import kerasbed as kb

    start = 400.0 / (1.0 + np.exp(-np.array(START_LOGITS)))
    return kb.designs.Box((7,), 0.0, 400.0, initial=start)


class TurnClock:
    """Lets a process run a turn for each line that it reads, and prints the steps per processor second of each."""

    def __init__(self, steps: int):
        self.steps = steps

    def begin(self) -> bool:
        """Wait for a line; False at the end of the input."""
        asked = bool(sys.stdin.readline())
        self._start = time.process_time()
        return asked

    def end(self) -> None:
        print(self.steps / (time.process_time() - self._start), flush=True)


def ratio(design, num_samples: int = 50_000) -> float:
    """True EIG of a design over that of the best known one, on the same draws, entries sorted so that they pair up."""
    import kerasbed as kb
    from kerasbed.problems.michaelis_menten import BEST_DESIGN

    simulator = kb.problems.MichaelisMenten()
    best, found = (
        kb.eig.grid(simulator, np.sort(values), num_samples=num_samples, grid_size=64, precision="float32").lower
        for values in (BEST_DESIGN, design)
    )
    return float(found / best)


def time_to_99(designs) -> tuple[float, float] | None:
    """When a path of ((seconds, processor seconds), design) reaches 99% of the best EIG for good; None if never."""
    looked_at = designs[:: max(1, len(designs) // 50)] + designs[-1:]
    reached = None
    for spent, design in reversed(looked_at):
        if ratio(design, num_samples=10_000) < 0.99:
            break
        reached = spent
    return reached


ROWS = {f.__name__: f for f in (tutorial_loop, hand_written_scan, kerasbed_same_network, kerasbed_job, kerasbed_to_99)}


def measure(row: str, backend: str, steps: int, tree: Path = ROOT) -> dict:
    """Run a row in a fresh process, with the kerasbed of a checkout."""
    done = subprocess.run(_command(row, steps), env=_environment(backend, tree), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{row} on {backend} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _command(row, steps):
    return [sys.executable, "-W", "ignore", __file__, "--row", row, "--steps", str(steps)]


def _environment(backend, tree):
    return os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(tree)}


def speed_rows(against: str | None = None, share: int = 1) -> list[dict]:
    """Steps per processor second of `fit` over those of a hand-written loop and of another checkout, turn by turn.

    What is compared runs in processes that wait for each other, so that a machine whose speed drifts slows both. Ratios
    are medians over the turns, with the standard error that the quartiles of the ratios give.
    """
    rows = []
    for backend in BACKENDS if against else ("jax",):
        steps, runs = TURN_STEPS[backend], {"kerasbed fit, same network": ("kerasbed_same_network", ROOT)}
        if backend == "jax":
            runs["hand-written lax.scan"] = ("hand_written_scan", ROOT)
        if against:
            runs["the other checkout"] = ("kerasbed_same_network", Path(against).resolve())
        rates = dict(zip(runs, by_turns(runs.values(), backend, steps, TURNS // share).T, strict=True))
        ours = rates["kerasbed fit, same network"]
        rows += [
            {"id": f"{name}, {backend}, steps per processor s", "reported": float(np.median(rate))}
            for name, rate in rates.items()
        ]
        least = {"hand-written lax.scan": LEAST_OF_SCAN, "the other checkout": WITHIN}
        rows += [
            _at_least(f"fit over {name}, {backend}", ours / rates[name], least[name]) for name in rates if name in least
        ]
    return rows


def by_turns(runs, backend: str, steps: int, turns: int) -> np.ndarray:
    """Steps per processor second, (turns, runs), of rows (name, checkout) by turns; the first turn is left out."""
    processes = [start(row, backend, steps, tree) for row, tree in runs]
    try:
        rates = np.array([[_turn(p) for p in processes[:: 1 if i % 2 else -1]] for i in range(turns + 1)])
        rates[::2] = rates[::2, ::-1]  # every second round goes the other way
        return rates[1:]
    finally:
        for process in processes:
            process.kill()


def start(row: str, backend: str, steps: int, tree: Path) -> subprocess.Popen:
    """A row in a fresh process, with the kerasbed of a checkout, that talks through its input and output."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(_command(row, steps), env=_environment(backend, tree), text=True, **pipes)


def _turn(process) -> float:
    print(file=process.stdin, flush=True)
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args} failed:\n{process.communicate()[1][-2000:]}")
    return float(line)


def _at_least(id, ratios, least):
    low, ratio, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    error = 1.2533 * (high - low) / 1.349 / np.sqrt(len(ratios))  # of a median of about normal ratios
    verdict = {"truth": f"at least {least}", "passed": bool(ratio >= least)}
    return {"id": id, "reported": float(ratio), "error": float(error)} | verdict


def tutorial_rows(found: dict, steps: int) -> list[dict]:
    """Rows of the tutorial's loop: the whole of it, and until 99% of the best."""
    spent = {"s": found["seconds"], "processor s": found["processor_seconds"]}
    whole = {"id": f"tutorial loop, {steps} steps", "reported": found["ratio"], "note": "EIG as a fraction of the best"}
    reached = until_99("tutorial loop until 99% of the best", found, f"at {found['ratio']:.1%} after {steps} steps")
    return [whole | spent | {"steps/s": found["steps_per_second"]}, reached]


def until_99(id: str, found: dict, note: str) -> dict:
    """The row of a time to 99%: seconds on the clock are reported, those of the processor stand beside them."""
    seconds, processor = found["to_99"] or ("never", None)
    return {"id": id, "reported": seconds, "s": None, "processor s": processor, "note": f"s; {note}"}


def job_rows() -> list[dict]:
    """kerasbed's whole job on each backend, cold and warm, as fractions of the best EIG."""
    rows = []
    for backend in BACKENDS:
        for state, found in measure("kerasbed_job", backend, 1000).items():
            spent = {"s": found["seconds"], "processor s": found["processor_seconds"]}
            rows.append({"id": f"kerasbed job of 1,000 steps, {backend}, {state}", "reported": found["ratio"]} | spent)
    return rows


def to_99_rows() -> list[dict]:
    """Seconds of kerasbed, cold, until 99% of the best."""
    rows = []
    for backend in BACKENDS:
        found = measure("kerasbed_to_99", backend, TO_99["steps"])
        note = f"{found['ratio']:.2%} after {TO_99['steps']} steps"
        rows.append(until_99(f"kerasbed until 99% of the best, {backend}", found, note))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps, the tutorial's too")
    parser.add_argument("--part", choices=("speed", "job", "to_99"), action="append", help="default: all")
    parser.add_argument("--against", metavar="PATH", help="another checkout of kerasbed, for the speed")
    parser.add_argument("--cores", type=int, default=1, help="that all rows are bound to")
    parser.add_argument("--tutorial-steps", type=int, default=TUTORIAL_STEPS)
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=1000, help=argparse.SUPPRESS)
    table.add_arguments(parser)
    options = parser.parse_args()
    if options.row:
        if (found := ROWS[options.row](options.steps)) is not None:
            print(json.dumps(found))
        return
    table.pin(options.cores)
    parts, share = options.part or ["speed", "job", "to_99"], 10 if options.quick else 1
    made = table.Table(title="Michaelis-Menten", seed=0)

    def add(part, rows):
        with made.measure(part):
            for row in rows():
                made.row(**row)

    if "speed" in parts:
        add("speed", lambda: speed_rows(options.against, share))
    if {"job", "to_99"} & set(parts):
        steps = options.tutorial_steps // share
        add("tutorial", lambda: tutorial_rows(measure("tutorial_loop", "torch", steps), steps))
    if "job" in parts:
        add("job", job_rows)
    if "to_99" in parts:
        add("to_99", to_99_rows)
    sys.exit(made.finish(options.json))


if __name__ == "__main__":
    main()
