"""A BayesFlow user: a simulator, a network and diagnostics that exist already, and now a design to learn."""

import bayesflow as bf
import numpy as np
from keras import ops
from scipy import stats

import kerasbed as kb


def likelihood(batch_shape, amplitude, rate, times, noise):
    return {"activity": amplitude * ops.exp(-rate * times) + 0.05 * noise}


simulator = kb.Simulator.from_bayesflow(
    bf.simulators.LambdaSimulator(likelihood, is_batched=True),
    outcome="activity",
    design="times",
    prior=kb.Prior(amplitude=stats.lognorm(0.2), rate=stats.lognorm(0.5)),
    noise_shape=(4,),
)
flow = bf.networks.CouplingFlow(depth=4, subnet_kwargs={"widths": (64, 64), "dropout": 0.0})
model = kb.DesignModel(simulator, kb.designs.Box((4,), 0.0, 10.0, seed=0), flow, seed=0)
history = model.fit(epochs=10, steps_per_epoch=100, verbose=0)
print("measure at", np.sort(model.design.numpy()).round(2))
test = simulator.simulate(200, model.design, seed=1)
draws = model.to_approximator().sample(conditions={"outcome": test["outcome"]}, num_samples=200)
truths = {name: np.asarray(values) for name, values in test["parameters"].items()}
table = bf.diagnostics.metrics.calibration_error(draws, truths)
print(table)
print("EIG at least", model.estimate_eig(2000))
assert history.history["eig"][-1] > history.history["eig"][0], "nothing was learned"
assert np.max(table["values"]) < 0.1, "the posterior is not calibrated"
