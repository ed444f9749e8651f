"""Numbers far from one: dates, offsets, and scales that differ by orders of magnitude."""

import kerasbed as kb  # isort: skip  (first: it chooses the backend)

import keras
import numpy as np
from judging import Found, judge
from scipy import special, stats

from figure_cases import truths
from figure_cases.simulators import trained

DATE, DAYS = 2459000.5, 0.5  # a Julian date and how well it is known


class Date(kb.GaussianSimulator):
    """The date of an event, seen with an error of .02 (2 - design) days."""

    prior = kb.Prior(t=stats.norm(DATE, DAYS))

    def mean(self, parameters, design):
        return parameters["t"] + 0.0 * design

    def scale(self, parameters, design):
        return 0.02 * (2.0 - design)

    @staticmethod
    def truth(design) -> float:
        return truths.linear(DAYS / (0.02 * (2.0 - float(np.ravel(design)[0]))))


def julian_date():
    """A trained bound at the learned design, and how often 90% intervals hold the date."""
    made = {}

    def train():
        made["model"] = model = trained(Date(), kb.designs.Box((1,), 0.0, 1.0, seed=1))
        return Found(model.estimate_eig(4096), Date.truth(model.design.numpy()))

    return [
        judge("V1", train),
        judge("V1/bracket", lambda: kb.eig.bracket(Date(), np.zeros(1), 2048, 16384), Date.truth(0.0)),
        judge("V1/coverage", lambda: _coverage(made), 0.9),
    ]


def _coverage(made):
    if "model" not in made:
        raise ValueError("There is no posterior, because the model was refused; its row says why.")
    model = made["model"]
    data = model.simulator.simulate(400, model.design, seed=5)
    draws = np.sort(model.sample(400, {"outcome": data["outcome"]}, seed=6)["t"][..., 0], axis=1)
    truth = data["parameters"]["t"][:, 0]
    inside = (truth >= draws[:, 20]) & (truth <= draws[:, -21])
    return inside.mean(), 0.02  # the sampling error .015, and a posterior that a short training leaves a little off


def offsets():
    """The same kind: outcomes and designs that are large, with small differences that matter."""
    truth = truths.linear(10.0)
    far = kb.Simulator.from_functions(
        kb.Prior(theta=stats.norm()), lambda p, design, noise: 1e8 + p["theta"] + 0.0 * design + 0.1 * noise
    )
    near_edge = kb.Simulator.from_functions(
        kb.Prior(theta=stats.norm()), lambda p, design, noise: p["theta"] * (design - 1e8) + 0.1 * noise
    )

    def at_far_design():
        model = trained(near_edge, kb.designs.Box((1,), 1e8, 1e8 + 1.0, seed=1))
        reached = float(np.ravel(model.design.numpy())[0]) - 1e8
        return Found(model.estimate_eig(4096), truths.linear(10.0 * reached))

    def at_huge_design():
        simulator = kb.Simulator.from_functions(
            kb.Prior(theta=stats.norm()), lambda p, design, noise: p["theta"] * design / 1e300 + 0.1 * noise
        )
        model = trained(simulator, kb.designs.Box((1,), 0.0, 1e300, seed=1))
        return Found(model.estimate_eig(4096), truths.linear(10.0 * float(np.ravel(model.design.numpy())[0]) / 1e300))

    unmoved = kb.designs.Box((1,), 0.0, 1.0, trainable=False)
    return [
        judge("V1/outcome offset", lambda: trained(far, unmoved).estimate_eig(4096), truth),
        judge("V1/design offset", at_far_design),
        judge("V1/design range", at_huge_design),
    ]


class Multiplied(kb.GaussianSimulator):
    """y = theta (1 + .1 e), with log theta ~ N(0, s^2); with a gain also a floor of the noise, .01."""

    noise_shape = (1,)

    def __init__(self, spread: float, floor: float = 0.0):
        self.prior, self.floor = kb.Prior(theta=stats.lognorm(s=spread)), floor

    def mean(self, parameters, design):
        return parameters["theta"] * design if self.floor else parameters["theta"] + 0.0 * design

    def scale(self, parameters, design):
        return 0.1 * self.mean(parameters, design) + self.floor


def relative_noise() -> float:
    """log y = log theta + z with z = log(1 + .1 e): the EIG is h(log theta + z) - h(z)."""
    step = 1e-3
    z = np.arange(-1.5, 1.0, step)
    density = stats.norm.pdf(np.expm1(z), scale=0.1) * np.exp(z)
    far = np.arange(-30.0, 30.0, 0.02)
    of_sum = stats.norm.pdf(far[:, None], z[None], 4.0) @ density * step
    return truths.entropy_of_density(of_sum, 0.02) - truths.entropy_of_density(density, step)


def orders_of_magnitude():
    """Both bounds where the scale of the noise spans orders of magnitude."""
    return [judge("V4", lambda: kb.eig.bracket(Multiplied(4.0), np.ones(1), seed=2), relative_noise())]


def contrastive_metric():
    """The metric of a contrastive objective in training, whose EIG hardly depends on the design: the truth at 1."""
    simulator = Multiplied(3.0, floor=0.01)
    theta = np.exp(3.0 * special.ndtri((np.arange(3000) + 0.5) / 3000))
    log_outcomes = np.arange(-14.0, 14.0, 0.005)  # of |y|; both signs of y
    sizes = np.exp(log_outcomes)
    outcomes = np.concatenate([-sizes[::-1], sizes])
    measure = np.concatenate([sizes[::-1], sizes]) * 0.005
    densities = stats.norm.pdf(outcomes, theta[:, None], 0.1 * theta[:, None] + 0.01)
    truth = truths.information(np.ones(len(theta)), densities, measure)
    space = kb.designs.Box((1,), 0.1, 1.0, seed=1)

    def metric():
        keras.utils.set_random_seed(1)
        model = kb.DesignModel(simulator, space, kb.objectives.PriorContrastive(), seed=1)
        history = model.fit(epochs=5, steps_per_epoch=100, batch_size=128, verbose=0).history["eig"]
        return min(history), 0.02, "lower"

    return [judge("V15", metric, truth)]
