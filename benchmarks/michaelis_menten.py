"""Michaelis-Menten: kerasbed against a tutorial-style torch loop and a hand-written `lax.scan`, in one run.

    python benchmarks/michaelis_menten.py            # the whole table, about 10 minutes on 2 cores
    python benchmarks/michaelis_menten.py --quick    # a tenth of the steps; the tutorial's loop is extrapolated

Every row runs in its own process, one after the other. Three questions:

1. steps per second with the tutorial's network (BayesFlow's default CouplingFlow, 225,871 weights, batch 128): what
   does Keras' `fit` cost over a loop written by hand?
2. seconds for the whole job: model built, compiled and trained for 1,000 steps with kerasbed's defaults, against the
   tutorial's 5,000 steps;
3. seconds, compiling included, until the true EIG (a dense grid, paired draws) is 99% of the best known design's.
"""

import argparse
import json
import os
import subprocess
import sys
import time

import numpy as np

BACKENDS = ("jax", "tensorflow", "torch")
BATCH = 128
TO_99 = {"batch_size": 128, "steps": 500, "network_rate": 4e-3, "design_rate": 0.15}


# -- rows, each in a process of its own ---


def tutorial_loop(steps: int) -> dict:
    """The shape of the tutorial's loop: torch, eager, one AdamW at 1e-3 for the flow and the designs together."""
    import bayesflow as bf
    import torch

    start = time.perf_counter()
    torch.manual_seed(0)
    weights = torch.nn.Parameter(0.1 * torch.randn(1, 7))
    flow = bf.networks.CouplingFlow(subnet_kwargs={"dropout": 0.0})
    designs = []
    with torch.enable_grad():
        flow.build((32, 2), (32, 14))
        optimizer = torch.optim.AdamW([weights, *flow.parameters()], lr=1e-3)
        began = time.perf_counter()
        for _ in range(steps):
            optimizer.zero_grad()
            theta = 0.5 + 0.1 * torch.randn(BATCH, 2)
            x, k = torch.sigmoid(weights) ** 4, ((20 + 180 * theta[:, 1:]) / 400) ** 4
            outcome = (20 + 180 * theta[:, :1]) * x / (k + x) + 5 * torch.randn(BATCH, 7)
            conditions = torch.cat([outcome / 200, weights.detach().expand(BATCH, 7)], dim=-1)
            loss = -flow.log_prob(theta, conditions=conditions).mean()
            loss.backward()
            optimizer.step()
            designs.append((time.perf_counter() - start, 400 * torch.sigmoid(weights.detach())[0].numpy()))
    seconds = time.perf_counter() - began
    return {"steps_per_second": steps / seconds, "seconds": time.perf_counter() - start, "to_99": time_to_99(designs)}


def hand_written_scan(steps: int, fused: int = 50) -> dict:
    """The fastest loop one would write by hand: JAX, draws in the graph, `lax.scan` over steps, the same network."""
    import bayesflow as bf
    import jax
    import keras
    from jax import numpy as jnp

    flow = bf.networks.CouplingFlow(subnet_kwargs={"dropout": 0.0})
    flow.build((32, 2), (32, 14))
    design = keras.Variable(0.1 * np.random.default_rng(0).standard_normal((1, 7)), name="design")
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
    state, _ = run(state, jax.random.key(0))
    jax.block_until_ready(state)
    began = time.perf_counter()
    for i in range(steps // fused):
        state, value = run(state, jax.random.key(i))
        float(value[-1])
    return {"steps_per_second": steps // fused * fused / (time.perf_counter() - began)}


def kerasbed_same_network(steps: int) -> dict:
    """kerasbed's `fit` with the tutorial's network and optimizer."""
    import bayesflow as bf
    import keras

    import kerasbed as kb

    flow = bf.networks.CouplingFlow(subnet_kwargs={"dropout": 0.0})
    simulator, design = kb.problems.MichaelisMenten(), kb.designs.Box((7,), 0.0, 400.0, seed=0)
    model = kb.DesignModel(simulator, design, objective=kb.objectives.BarberAgakov(flow), seed=0)
    model.compile(optimizer=keras.optimizers.AdamW(1e-3), design_optimizer=keras.optimizers.AdamW(1e-3))
    data = kb.SimulatorDataset(simulator, design, batch_size=BATCH, num_batches=steps, seed=0)
    model.fit(data, epochs=2, verbose=0, callbacks=[clock := _epoch_clock()])
    return {"steps_per_second": steps / clock.seconds[-1]}


def kerasbed_job(steps: int) -> dict:
    """kerasbed with its defaults: built, compiled, trained for 1,000 steps."""
    import kerasbed as kb

    start = time.perf_counter()
    simulator, design = kb.problems.MichaelisMenten(), kb.designs.Box((7,), 0.0, 400.0, seed=0)
    model = kb.DesignModel(simulator, design, seed=0)
    model.fit(epochs=1, steps_per_epoch=steps, batch_size=BATCH, verbose=0)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "ratio": ratio(model.design.numpy())}


def kerasbed_to_99(steps: int) -> dict:
    """kerasbed with rates and steps chosen for speed; the design is looked at every 10 steps or each fused group."""
    import keras

    import kerasbed as kb
    from kerasbed.optimizers import PlannedDecay

    start, designs = time.perf_counter(), []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            designs.append((time.perf_counter() - start, self.model.design.numpy()))

    simulator, design = kb.problems.MichaelisMenten(), kb.designs.Box((7,), 0.0, 400.0, seed=0)
    model = kb.DesignModel(simulator, design, seed=0)
    model.compile(
        optimizer=keras.optimizers.Adam(PlannedDecay(TO_99["network_rate"])),
        design_optimizer=keras.optimizers.Adam(PlannedDecay(TO_99["design_rate"])),
    )
    model.fit(steps_per_epoch=steps, batch_size=TO_99["batch_size"], verbose=0, callbacks=[Watch()])
    return {"to_99": time_to_99(designs), "ratio": ratio(model.design.numpy())}


# -- what the rows share ---


def _epoch_clock():
    import keras

    class Clock(keras.callbacks.Callback):
        seconds = ()

        def on_epoch_begin(self, epoch, logs=None):
            self._start = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            self.seconds = (*self.seconds, time.perf_counter() - self._start)

    return Clock()


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


def time_to_99(designs) -> float | None:
    """Seconds after which a recorded path (seconds, design) is and stays at 99% of the best EIG; None if it is not."""
    looked_at = designs[:: max(1, len(designs) // 50)] + designs[-1:]
    reached = None
    for seconds, design in reversed(looked_at):
        if ratio(design, num_samples=10_000) < 0.99:
            break
        reached = seconds
    return reached


ROWS = {f.__name__: f for f in (tutorial_loop, hand_written_scan, kerasbed_same_network, kerasbed_job, kerasbed_to_99)}


def measure(row: str, backend: str, steps: int) -> dict:
    """Run a row in a fresh process."""
    command = [sys.executable, "-W", "ignore", __file__, "--row", row, "--steps", str(steps)]
    environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{row} on {backend} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps")
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=1000, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        print(json.dumps(ROWS[arguments.row](arguments.steps)))
        return
    share = 10 if arguments.quick else 1
    tutorial = measure("tutorial_loop", "torch", 5000 // share)
    whole = tutorial["seconds"] * share
    note = " (extrapolated)" if share > 1 else ""
    print(f"{'loop':44s} {'steps/s':>8s} {'seconds':>8s} {'faster':>7s} {'of best':>8s}")
    print(f"{'tutorial-style torch loop, 5,000 steps' + note:44s} {tutorial['steps_per_second']:8.1f} {whole:8.1f}")
    scan = measure("hand_written_scan", "jax", 2000 // share)
    print(f"{'hand-written lax.scan, same network':44s} {scan['steps_per_second']:8.1f}")
    for backend in BACKENDS:
        same = measure("kerasbed_same_network", backend, (2000 if backend != "torch" else 500) // share)
        print(f"{f'kerasbed fit, same network, {backend}':44s} {same['steps_per_second']:8.1f}")
        peers = {"jax": ("hand-written scan", scan), "torch": ("tutorial-style loop", tutorial)}
        if backend in peers:
            name, peer = peers[backend]
            print(f"{f'  ratio to the {name}':44s} {same['steps_per_second'] / peer['steps_per_second']:8.3f}")
    for backend in BACKENDS:
        job = measure("kerasbed_job", backend, 1000)
        print(
            f"{f'kerasbed job of 1,000 steps, {backend}':44s} {'':8s} {job['seconds']:8.1f} "
            f"{whole / job['seconds']:6.1f}x {job['ratio']:8.4f}"
        )
    for backend in BACKENDS:
        fast = measure("kerasbed_to_99", backend, TO_99["steps"])
        seconds = fast["to_99"] or np.nan
        print(
            f"{f'kerasbed until 99% of the best, {backend}':44s} {'':8s} {seconds:8.1f} "
            f"{whole / seconds:6.1f}x {fast['ratio']:8.4f}"
        )


if __name__ == "__main__":
    main()
