# %% [markdown]
# # Adaptive design: let the next measurement depend on the last
#
# A static design says beforehand what all measurements will be. Where they are made one after the other, the next one
# can depend on what was seen: a *policy* maps the history of designs and outcomes to the next design. Choosing anew by
# computation after every measurement is slow, and looks one step ahead. A policy network (Foster et al., 2021, "Deep
# adaptive design") is trained beforehand on whole simulated experiments, and then proposes each design in no time, with
# all measurements that are still to come in view.
#
# | | reads the history | looks ahead | after each measurement |
# |---|---|---|---|
# | a static design | no | all measurements | nothing |
# | `kb.policies.GreedyPolicy` | yes | one measurement | a search, seconds |
# | `kb.policies.Policy` | yes | all measurements | a pass through a network, milliseconds |

# %%
import os
from pathlib import Path

import kerasbed as kb  # isort: skip  (first: it picks a backend if none is set)

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops
from scipy import special, stats

from kerasbed.plots.style import COLORS, line_of, marker_of

SMALL = os.environ.get("KERASBED_TUTORIAL_BUDGET") == "small"  # a quick pass that shows nothing but that all runs
STEPS, CONTRASTS, ROLLOUTS, GREEDY_ROLLOUTS = (2, 32, 64, 4) if SMALL else (1000, 512, 4000, 400)
PUSHES, PENDULUM_STEPS = (4, 1) if SMALL else (50, 120)
keras.utils.set_random_seed(8)


def show(figure, name):
    """Save the picture where KERASBED_TUTORIAL_OUT says, else show it."""
    if folder := os.environ.get("KERASBED_TUTORIAL_OUT"):
        figure.savefig(Path(folder) / f"{name}.png", dpi=110)
    else:
        plt.show()
    plt.close(figure)


# %% [markdown]
# ## An experiment is written for one measurement
#
# Fifty healthy individuals are exposed for a waiting time x, and y of them are found infected: y ~ Binomial(50, 1 -
# exp(-b x)). The rate b is unknown. When should one look, with four looks in all? The simulator knows nothing of the
# other looks; what gets a policy lifts it to as many measurements as the policy makes.

# %%
process = kb.problems.SequentialDeathProcess()
LOOKS = 4

policy = kb.policies.Policy(process.design, steps=LOOKS, seed=1)
model = kb.DesignModel(process, policy, kb.objectives.PriorContrastive(CONTRASTS), seed=1)
model.fit(epochs=1, steps_per_epoch=STEPS, verbose=0)

static = kb.designs.Sequence(process.design, length=LOOKS, seed=1)
beforehand = kb.DesignModel(kb.Sequence(process, LOOKS), static, kb.objectives.PriorContrastive(CONTRASTS), seed=1)
beforehand.fit(epochs=1, steps_per_epoch=STEPS, verbose=0)
print("waiting times chosen beforehand:", np.sort(static.numpy().ravel()).round(2))

# %% [markdown]
# ## What it is worth
#
# `simulator.simulate` rolls a policy out. With one parameter the posterior of each experiment can be integrated, and
# the information gained is the divergence of the posterior from the prior; its mean is the expected information gain.


# %%
def information_gain(design, outcome):
    """Gain of each experiment, (n,), in nats, on a grid of rates."""
    rates = np.linspace(0.0, 6.0, 1201)[1:]
    prior = process.prior.log_prob({"rate": rates[:, None]})
    prior -= special.logsumexp(prior)
    infected = -np.expm1(-rates * design)  # (n, looks, rates)
    posterior = stats.binom.logpmf(outcome, 50, infected).sum(axis=1) + prior
    posterior -= special.logsumexp(posterior, axis=1, keepdims=True)
    return np.sum(special.xlogy(np.exp(posterior), np.exp(posterior - prior)), axis=1)


def rollouts(design, num):
    return process.simulate(num, design, seed=5)


greedy = kb.policies.GreedyPolicy(process.design, LOOKS, seed=1)
random = kb.policies.RandomPolicy(process.design, LOOKS, seed=1)
looks = kb.Sequence(process, LOOKS).simulate(ROLLOUTS, static, seed=5)
gains = {
    "random": information_gain(**{key: rollouts(random, ROLLOUTS)[key] for key in ("design", "outcome")}),
    "static": information_gain(static.numpy()[None], looks["outcome"]),
    "greedy": information_gain(**{key: rollouts(greedy, GREEDY_ROLLOUTS)[key] for key in ("design", "outcome")}),
}
experiments = rollouts(policy, ROLLOUTS)
gains["policy"] = information_gain(experiments["design"], experiments["outcome"])
for name, gain in gains.items():
    print(f"{name:7} {gain.mean():.3f} +- {gain.std() / np.sqrt(len(gain)):.3f} nats")

figure, panel = plt.subplots(figsize=(6.0, 3.5), layout="constrained")
errors = [2 * gain.std() / np.sqrt(len(gain)) for gain in gains.values()]
panel.bar(list(gains), [gain.mean() for gain in gains.values()], yerr=errors, color=COLORS[1], alpha=0.6, capsize=4)
panel.axhline(2.023, color="black", linestyle="--", linewidth=1.0, label="best static design, published")
panel.set(ylabel="expected information gain (nats)")
panel.legend(loc="lower right")
show(figure, "gains")

# %% [markdown]
# ## What it does
#
# `next_design` proposes after any history. If many were infected at the first look, the rate is high, and the next
# look is made earlier; if few were, later. That is what the static design cannot do.

# %%
first = policy.next_design()[0]
print("first look after", first.round(2))
counts = np.arange(0.0, 51.0)
history = {"design": np.tile(first, (51, 1, 1)), "outcome": counts[:, None, None]}
second = policy.next_design(history)[:, 0]

figure, panel = plt.subplots(figsize=(6.0, 3.5), layout="constrained")
panel.plot(counts, second, **line_of(1), **marker_of(1), markevery=5, label="the policy")
panel.axhline(static.numpy().mean(), **line_of(0), label="the static design, mean of its looks")
panel.set(xlabel=f"infected of 50 after {first.item():.2f}", ylabel="next waiting time", ylim=(0.0, None))
panel.legend()
show(figure, "next_look")

# %% [markdown]
# In the laboratory a history grows by a row after each measurement, of what was measured where. What was done may
# differ from what was proposed: the policy reads what is in the history.

# %%
seen = {"design": [[[1.3], [0.9]]], "outcome": [[[41.0], [33.0]]]}
print("third look after", policy.next_design(seen).round(2))

# %% [markdown]
# ## Rules along the way
#
# An instrument may be slow, or every measurement may cost something. Rules hold in every rollout and after every
# history, whatever the network proposes, which is told what is left: `Moves` says how far the next design may be from
# the one before, `Budget` what all may cost together. Here the waiting times add up to 4 at most; a proposal that would
# leave too little for the others is shortened, in training as in the laboratory, and gradients pass through.

# %%
budget = kb.policies.Budget(lambda design: ops.sum(design, axis=-1), total=4.0)
hasty = kb.policies.Policy(process.design, steps=LOOKS, rules=[budget], seed=1)
hasty.prepare(kb.Sequence(process, LOOKS))  # or trained, as above
waiting = process.simulate(1000, hasty, seed=5)["design"].sum(axis=(1, 2))
print(f"waiting times that add up to {waiting.min():.2f} to {waiting.max():.2f}, untrained")

# %% [markdown]
# ## A time series
#
# Measurements need not be independent. A pendulum is pushed for 50 short steps, and its angle and velocity after each
# are measured: what a push teaches depends on how the pendulum swings by then, and it decides how it swings later. The
# simulator of one step says what it hands on, by `initial_state` and an `outcome` that gets and returns the state. Here
# the information gained by a run is known in closed form.

# %%
pendulum = kb.problems.LinearPendulum()
# Constant pushes are a local optimum, so that we start from one push to each side.
start = 0.9 * np.where(np.arange(PUSHES) < 0.4 * PUSHES, 1.0, -1.0)[:, None]
pushes = kb.policies.Policy(pendulum.design, steps=PUSHES, initial=start, seed=1)
swinging = kb.DesignModel(pendulum, pushes, kb.objectives.PriorContrastive(64), seed=1)
swinging.compile(keras.optimizers.Adam(1e-3), design_optimizer=keras.optimizers.Adam(0.02))
swinging.fit(epochs=1, steps_per_epoch=PENDULUM_STEPS, batch_size=64, verbose=0)

runs = {
    "random pushes": pendulum.simulate(256, kb.policies.RandomPolicy(pendulum.design, PUSHES, seed=1), seed=2),
    "the policy": pendulum.simulate(256, pushes, seed=2),
}
figure, panels = plt.subplots(1, 2, figsize=(10.0, 3.5), sharey=True, layout="constrained")
for panel, (name, run) in zip(panels, runs.items(), strict=True):
    gain = pendulum.exact_gain(run["design"], run["outcome"])
    print(f"{name}: {gain.mean():.2f} +- {gain.std() / 16:.2f} nats")
    time = 0.05 * np.arange(1, PUSHES + 1)
    for row in range(8):
        panel.plot(time, run["outcome"][row, :, 0], color=COLORS[1], alpha=0.5)
    panel.plot(time, run["design"][0, :, 0], color=COLORS[2], drawstyle="steps-mid", linewidth=0.8)
    panel.set(title=f"{name}: {gain.mean():.2f} nats", xlabel="time (s)")
panels[0].set_ylabel("angle (rad), and one run's pushes")
show(figure, "pendulum")

# %% [markdown]
# The policy pushes in the direction in which the pendulum swings, as one does on a swing.
#
# `kerasbed list` shows which ready experiments have policies, and `kerasbed run prey-population` trains one.
