# %% [markdown]
# # Designing for a program that has no gradient
#
# Many simulators are programs: a Fortran code, an agent model, a robot's control software. They take numbers and return
# numbers, and no gradient passes through them. Here the simulator is an external program that kerasbed starts as a
# subprocess; its outcomes are even integers. You see
#
# - how to wrap a program as a `kb.Simulator`;
# - how `kb.search.design_black_box` finds the most informative design from stored simulations;
# - how the answer compares with the exact one, which this small problem has.
#
# The experiment is the *death process*: 10 healthy animals, each infected at an unknown rate $b \sim$ LogNormal(0,
# 1). We may look twice and count the newly infected. How long should we wait for the first look, and how long for the
# second?

# %%
import os
import subprocess
import sys
import tempfile

import kerasbed as kb  # isort: skip  (first: it chooses the backend)

import matplotlib.pyplot as plt
import numpy as np
from keras import ops
from scipy import stats

from kerasbed.plots.style import COLORS

SMALL = os.environ.get("KERASBED_TUTORIAL_BUDGET") == "small"
OUT = os.environ.get("KERASBED_TUTORIAL_OUT")


def finish(name):
    """Save the picture if a folder is given, else show it."""
    if OUT:
        plt.savefig(os.path.join(OUT, f"07_{name}.png"), dpi=110)
        plt.close()
    else:
        plt.show()


# %% [markdown]
# ## The program
#
# It could be written in anything. It reads one experiment a line (rate, two waiting times, two random numbers) and
# writes the two counts. The random numbers are an *input*: base samples that kerasbed draws. With the same ones at
# every design, differences between designs are not drowned in noise. A program with random numbers of its own works
# too, only less precisely.

# %%
PROGRAM = '''
import math, sys

def infected(healthy, probability, u):
    """The count whose cumulative binomial probability passes u."""
    total, count = (1.0 - probability) ** healthy, 0
    while total < u and count < healthy:
        count += 1
        total += math.comb(healthy, count) * probability**count * (1.0 - probability) ** (healthy - count)
    return count

for line in sys.stdin:
    rate, wait_1, wait_2, u_1, u_2 = map(float, line.split())
    first = infected(10, 1.0 - math.exp(-rate * wait_1), u_1)
    second = infected(10 - first, 1.0 - math.exp(-rate * wait_2), u_2)
    print(first, second)
'''
path = os.path.join(tempfile.mkdtemp(), "death_process.py")
with open(path, "w", encoding="utf-8") as file:
    file.write(PROGRAM)


class DeathProcess(kb.Simulator):
    """Counts of newly infected animals at two looks, from the external program."""

    prior = kb.Prior(rate=stats.lognorm(s=1.0))
    noise = stats.uniform()
    noise_shape = (2,)

    def outcome(self, parameters, design, noise):
        rate, design, noise = (np.asarray(ops.convert_to_numpy(x)) for x in (parameters["rate"], design, noise))
        table = np.concatenate([rate, np.broadcast_to(design, noise.shape), noise], axis=1)
        text = "\n".join(" ".join(map(repr, row)) for row in table.astype("float64").tolist())
        answer = subprocess.run(
            [sys.executable, path], input=text, capture_output=True, text=True, check=True, timeout=120
        )
        return ops.convert_to_tensor(np.array(answer.stdout.split(), "float32").reshape(-1, 2))


simulator = DeathProcess()
print(simulator.simulate(4, design=np.array([0.5, 2.0]), seed=0))

# %% [markdown]
# ## The search
#
# There is no likelihood to call and no gradient, so kerasbed stores simulations at designs drawn over the whole
# space, trains one posterior network on them, and lets a Gaussian process choose where to evaluate the Barber-Agakov
# lower bound with fresh runs of the program. The Gaussian process sees a smooth function: the same base samples serve
# every design. Half way, and once more later, further simulations near the best designs go into the network, and all
# designs are valued again by it, without running the program again.

# %%
space = kb.designs.Box((2,), low=0.02, high=5.0, seed=0)
found = kb.search.design_black_box(
    simulator,
    space,
    budget=10 if SMALL else 50,
    seed=0,
    num_stored=2**11 if SMALL else 2**15,
    num_outer=256 if SMALL else 4096,
    steps=100 if SMALL else 3000,
)
print("design:", found.design.round(3))
print("on fresh runs:", found.estimate)
found.search.plot().set(ylabel="lower bound on the EIG (nats)")
finish("incumbent")

# %% [markdown]
# ## The exact answer
#
# Two looks at ten animals have 66 outcomes, so the EIG is a sum that we can compute: the entropy of the outcomes minus
# their expected entropy given the rate. The best design has 0.98327 nats at waits of 0.544 and 2.134.

# %%
nodes, weights = np.polynomial.hermite_e.hermegauss(120)
rates, weights = np.exp(nodes), weights / weights.sum()


def exact_eig(waits):
    """EIG by enumeration, the rate integrated by quadrature."""
    first, second = 1.0 - np.exp(-np.outer(waits, rates))
    total = 0.0
    for count in range(11):
        left = stats.binom.pmf(count, 10, first)
        for other in range(11 - count):
            likelihood = left * stats.binom.pmf(other, 10 - count, second)
            evidence = weights @ likelihood
            terms = np.where(
                likelihood > 0.0, likelihood * np.log(np.where(likelihood > 0.0, likelihood, 1.0) / evidence), 0.0
            )
            total += weights @ terms
    return total


best, here = exact_eig([0.544, 2.134]), exact_eig(found.design)
print(f"exact EIG at the design found: {here:.4f} of {best:.4f} nats, {100 * here / best:.1f}%")

# %%
side = np.linspace(0.05, 5.0, 9 if SMALL else 41)
surface = np.array([[exact_eig([a, b]) for a in side] for b in side])
figure, axes = plt.subplots(figsize=(5.6, 4.6), layout="constrained")
shades = axes.contourf(side, side, surface, levels=20, cmap="Greys")
figure.colorbar(shades, label="exact EIG (nats)")
tried = np.array([record.tolist() for record in found.search.table()["design"]])
axes.plot(*tried.T, "o", color="white", mec=COLORS[1], ms=5, label="evaluated")
axes.plot(0.544, 2.134, "s", color="white", mec=COLORS[2], ms=10, mew=2, label="exact best")
axes.plot(*found.design, "*", color=COLORS[5], mec=COLORS[0], ms=14, label="found")
axes.set(xlabel="wait for the first look", ylabel="wait for the second look")
axes.legend(loc="upper right")
finish("designs")

# %% [markdown]
# The evaluations spread first and then gather around the ridge of the best designs. The lower bound on fresh runs is a
# statement about the *program*, whatever the network learned: with a poor network it would be lower, never too high.
#
# For outcomes that are real numbers there is another way: `method="likelihood"` learns q(y | theta, design), through
# which the design gets a gradient after all.
