# %% [markdown]
# # Variational inference for the experiment that was run
#
# The experiment is over and there is one measurement. What do we now believe about the parameters? Variational
# inference answers by optimisation: choose a family of distributions, and find the member closest to the posterior by
# maximising the evidence lower bound (ELBO). Here you see
#
# - what fixed *base samples* become during the fit, and why that makes the ELBO differentiable;
# - how to read convergence;
# - how many base samples are enough, and why a converged objective can still flatter;
# - what a diagonal family misses, and how the fit itself tells you.
#
# The experiment: a cantilever beam of skin and core with two unknown moduli, and one measured tip deflection.

# %%
import os
import warnings

import kerasbed as kb  # isort: skip  (first: it chooses the backend)

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.patches import Ellipse
from scipy import stats

from kerasbed.variational import plots

SMALL = os.environ.get("KERASBED_TUTORIAL_BUDGET") == "small"
OUT = os.environ.get("KERASBED_TUTORIAL_OUT")


def finish(name):
    """Save the picture if a folder is given, else show it."""
    if OUT:
        plt.savefig(os.path.join(OUT, f"05_{name}.png"), dpi=110)
        plt.close()
    else:
        plt.show()


# The fits below say themselves when a family is too narrow; we come to that at the end and keep quiet until then.
warnings.filterwarnings("ignore", message="The .* family is too narrow")

beam = kb.problems.CantileverBeam(moduli=2)  # E1 ~ N(12000, 2000^2), E2 ~ N(10000, 2000^2), noise sd 0.4
observed = np.array([5.377065])  # the tip deflection, simulated at E1 = 10000, E2 = 8000

# %% [markdown]
# ## From base samples to posterior draws
#
# The ELBO is an expectation over the distribution that we are fitting,
#
# $$\text{ELBO}(\phi) = E_{q_\phi}[\log p(y \mid \theta)] - KL(q_\phi \,\|\, p),$$
#
# and a random number generator cannot be differentiated. So we draw parameter-free $\epsilon_s$ once and move them:
# $\theta_s = \mu + L \epsilon_s$. Now every draw is a smooth function of $\mu$ and $L$, and so is the average of
# $\log p(y \mid \theta_s)$. kerasbed works in standardised coordinates, z = (value - prior mean) / prior sd.

# %%
points = np.random.RandomState(42).normal(0, 1, (2, 300)).T  # 300 base samples, (S, dim), kept fixed
diagonal = kb.variational.fit(beam, beam.tip, observed, family="diagonal", base_samples=points, initial="prior")
plots.plot_base_samples(diagonal)
finish("base_samples")

# %% [markdown]
# Same points, same order (the colours): the fit only shifts and stretches them.
#
# ## Convergence
#
# There is one number to watch. We started at the prior to see it fall. (Left to itself, a fit starts nearer: at the
# moments of prior draws, weighted by importance, if enough of them count.) Most of the way is made in a few
# iterations, because the gradient is exact for these base samples: L-BFGS-B sees a smooth deterministic function.
# (`optimizer="trust-constr"` uses Hessian-vector products and gets to the same place; `"trust-exact"` takes Newton
# steps, half as many evaluations for so few parameters; a Keras optimizer takes fresh draws at each step instead.)

# %%
plots.plot_convergence(diagonal)
finish("convergence")
print(diagonal)
print({name: (diagonal.mean[name][0].round(), diagonal.standard_deviation[name][0].round()) for name in diagonal.mean})

# %% [markdown]
# ## A diagonal family, a full covariance, and the truth
#
# The deflection depends on the moduli through one weighted average, so the measurement ties them together: if the skin
# is stiffer, the core must be softer. A diagonal Gaussian cannot express that.

# %%
full = kb.variational.fit(beam, beam.tip, observed, family="full", base_samples=points)
table = pd.DataFrame(
    {
        name: {
            "free parameters": fit.phi.size,
            "training objective": fit.training_objective,
            "-ELBO on fresh draws": fit.negative_elbo,
            "standard error": fit.negative_elbo_se,
            "-log evidence (importance)": -fit.log_evidence,
        }
        for name, fit in {"diagonal": diagonal, "full": full}.items()
    }
)
print(table.round(4).to_string())


# %% [markdown]
# Two things to see in the table. The full covariance is better by a third of a nat, for one more parameter. And both
# *training* objectives, 2.9044 and 2.6823, are too good: the second lies below minus the log evidence, 2.7316, which no
# true -ELBO can. The optimiser has fitted its 300 draws and what is particular about them; 300 draws flatter the fit.
# On fresh draws the same two fits have -ELBO 3.006 and 2.749. `negative_elbo` is the number to report;
# `training_objective` is the one to watch while optimising.


# %%
def exact_posterior(scale=0.4, size=401):
    """The posterior on a grid of standardised coordinates, its correlation, and the log evidence."""
    z = np.linspace(-4.5, 3.5, size)
    z1, z2 = np.meshgrid(z, z, indexing="ij")
    modulus = beam.skin_share * (12_000 + 2_000 * z1) + (1 - beam.skin_share) * (10_000 + 2_000 * z2)
    deflection = 11 * beam.load * beam.length**4 / (120 * beam.second_moment) / np.maximum(modulus, 1.0)
    joint = np.exp(stats.norm(deflection, scale).logpdf(observed[0]) + stats.norm.logpdf(z1) + stats.norm.logpdf(z2))
    cell = (z[1] - z[0]) ** 2
    density = joint / joint.sum()
    mean = [(density * w).sum() for w in (z1, z2)]
    deviations = [w - m for w, m in zip((z1, z2), mean, strict=True)]
    covariance = np.array([[(density * a * b).sum() for a in deviations] for b in deviations])
    return z, joint / (joint.sum() * cell), covariance, float(np.log(joint.sum() * cell))


def draw_ellipses(axis, fit, color, label):
    covariance, centre = fit.covariance, [fit.mean["E1"][0], fit.mean["E2"][0]]
    values, vectors = np.linalg.eigh(covariance)
    angle = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))
    for sds in (1, 2):
        width, height = 2 * sds * np.sqrt(values[::-1])
        ellipse = Ellipse(centre, width, height, angle=angle, fill=False, color=color, linewidth=1.6)
        ellipse.set_label(label if sds == 1 else None)
        axis.add_patch(ellipse)


z, density, covariance, log_evidence = exact_posterior()
figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), sharey=True, layout="constrained")
for axis, fit, title in zip(axes, (diagonal, full), ("Diagonal", "Full covariance"), strict=True):
    axis.contourf(12_000 + 2_000 * z, 10_000 + 2_000 * z, density.T, levels=12, cmap="Blues")
    draw_ellipses(axis, fit, "C3", "fit, 1 and 2 sd")
    axis.plot(10_000, 8_000, "k*", label="truth")
    axis.set(title=title, xlabel="E1 (skin)", xlim=(4_500, 17_500), ylim=(2_500, 13_500))
    axis.legend(frameon=False, loc="upper right")
axes[0].set_ylabel("E2 (core)")
finish("families")
print(f"minus log evidence by quadrature: {-log_evidence:.4f}")

# %% [markdown]
# ## How many base samples?
#
# `kb.variational.study` fits once for each set. `refit` uses the compiled functions of an earlier fit, so a fit takes
# milliseconds. With few points the training objective is far too low and the fitted state scatters; both gaps close as
# the number grows. Gauss-Hermite points are better still in two dimensions: 5 x 5 of them already agree with
# 15 x 15 to the digits shown, which no Monte Carlo set does. (In ten dimensions a tensor product is out of reach, and
# scrambled Sobol points are the choice.)

# %%
repeats, numbers = (2, (20, 300)) if SMALL else (8, (10, 30, 100, 300, 1000))
rules = {str(num): [kb.base_samples.MonteCarlo(num, seed) for seed in range(repeats)] for num in numbers}
rules |= {"GH 5x5": kb.base_samples.GaussHermite(5), "GH 15x15": kb.base_samples.GaussHermite(15)}
study = kb.variational.study(lambda rule: full.refit(base_samples=rule), rules)
plots.plot_study(study, reference=-log_evidence).set_ylim(2.2, 3.4)
finish("number_of_base_samples")
print(
    study.groupby("label", sort=False)[["training_objective", "negative_elbo", "mean[E1]"]]
    .agg(["mean", "std"])
    .round(3)
)

# %% [markdown]
# ## Is the family wide enough?
#
# The terms of the fresh-draw ELBO are the log importance weights of the posterior; if q were the posterior they would
# all be equal. Two numbers judge them. Their *efficiency*, the effective sample size over the number of draws, says how
# much they matter. The *Pareto k* of their tail says whether weighted averages can be trusted: above 0.7 they cannot,
# and the fit warns that the family is too narrow. The diagonal fit spreads its weights over several nats. Those of the
# full covariance are nearly equal, but have a thin tail that no Gaussian can follow (the deflection is one over the
# modulus): k is high, and the warning speaks of the far tail only. k itself is noisy; look at both.

# %%
figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.4), layout="constrained")
for axis, fit, name in zip(axes, (diagonal, full), ("diagonal", "full"), strict=True):
    plots.plot_importance_weights(fit, axes=axis)
    axis.set_title(f"{name}\n{axis.get_title()}", fontsize="medium")
finish("importance_weights")

# %% [markdown]
# ## Bridges
#
# A fit starts from the draws of an amortised posterior, `initial=model.sample(...)`, returns draws in the same shape,
# becomes an arviz object, and is the prior of the next design.

# %%
draws = full.sample(1000)
starts = {"the posterior's draws": draws, "weighted prior draws (default)": None, "the prior": "prior"}
for name, initial in starts.items():
    again = full.refit(base_samples=points, initial=initial, optimizer="trust-exact")
    print(f"Newton's method from {name}: {again.evaluations} evaluations")
print({name: values.shape for name, values in draws.items()}, full.to_arviz().posterior.sizes)
next_prior = kb.Prior.from_posterior(full)
print("entropy of the next prior:", next_prior.entropy(num_samples=2_000 if SMALL else 50_000))

# %% [markdown]
# ## Exercises, with answers
#
# **1. Gauss-Hermite against 1,000 Monte Carlo draws on the one-dimensional beam: which has the lower -ELBO?** The
# wrong question: the lower training value is the luckier draw. Compare errors against converged quadrature.

# %%
one = kb.problems.CantileverBeam(moduli=1)
converged = kb.variational.fit(one, one.tip, observed, base_samples=kb.base_samples.GaussHermite(64))


def training(rule):
    return converged.refit(base_samples=rule, num_samples=200).training_objective


quadrature = {order: training(kb.base_samples.GaussHermite(order)) for order in (5, 10, 15, 20)}
monte_carlo = np.array([training(kb.base_samples.MonteCarlo(1000, seed)) for seed in range(5 if SMALL else 20)])
print("converged:", converged.training_objective)
print(
    "Gauss-Hermite errors:",
    {order: f"{value - converged.training_objective:.1e}" for order, value in quadrature.items()},
)
print("Monte Carlo errors: median", f"{np.median(np.abs(monte_carlo - converged.training_objective)):.1e}")
print("lower than converged:", int(np.sum(monte_carlo < converged.training_objective)), "of", len(monte_carlo))

# %% [markdown]
# Fifteen points have a far smaller error than a thousand draws, and the draws fall on both sides of the truth: those
# that come out "better" are wrong by as much as those that come out worse.
#
# **2. Twice the noise: how does the posterior correlation change, and the gap to the diagonal family?** A weaker
# measurement ties the moduli together less: the correlation goes towards zero and the gap shrinks.

# %%
rows, rule = {}, kb.base_samples.GaussHermite(20)
for noise in (0.4, 0.8):
    _, _, exact, evidence = exact_posterior(noise)
    if noise == 0.4:
        fits = {"diagonal": diagonal.refit(base_samples=rule), "full": full.refit(base_samples=rule)}
    else:
        noisy = kb.problems.CantileverBeam(moduli=2, noise_scale=noise)
        fits = {
            family: kb.variational.fit(noisy, noisy.tip, observed, family=family, base_samples=rule)
            for family in ("diagonal", "full")
        }
    rows[noise] = {
        "exact correlation": exact[0, 1] / np.sqrt(exact[0, 0] * exact[1, 1]),
        "fitted correlation": fits["full"].covariance[0, 1]
        / np.prod([s[0] for s in fits["full"].standard_deviation.values()]),
        "gap of diagonal, nats": fits["diagonal"].training_objective + evidence,
        "gap of full, nats": fits["full"].training_objective + evidence,
    }
print(pd.DataFrame(rows).round(4).to_string())

# %% [markdown]
# **3. Ten seeds of 300 base samples: how much do the fitted mean and the -ELBO vary?**

# %%
seeds = [kb.base_samples.MonteCarlo(300, seed) for seed in range(3 if SMALL else 10)]
ten = kb.variational.study(lambda rule: diagonal.refit(base_samples=rule), {"300": seeds})
print(ten[["mean[E1]", "mean[E2]", "training_objective", "negative_elbo"]].agg(["mean", "std"]).round(4).to_string())

# %% [markdown]
# The means move by a small part of a posterior standard deviation, the training objective by a tenth of a nat or so,
# and the honest -ELBO hardly at all: near the optimum it is flat, so that a slightly wrong state costs next to nothing.
#
# **4. Gradient descent by hand.** The objective and its gradient are functions of the family's parameters phi (for the
# diagonal family: means, then log standard deviations), on any backend; a fixed step is enough, and slower.

# %%
phi, path = np.zeros(4), []
weights = np.full(300, 1 / 300)
for _ in range(60 if SMALL else 200):
    value, gradient = diagonal.objective.value_and_gradient(phi, points, weights, diagonal.data)
    path.append(float(value))
    phi = phi - 0.05 * gradient
adam = diagonal.refit(
    base_samples=kb.base_samples.MonteCarlo(64),
    optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 100 if SMALL else 400)),
    max_iterations=100 if SMALL else 400,
    initial="prior",
)
figure, axis = plt.subplots(figsize=(5, 3.4), layout="constrained")
axis.plot(path, label="gradient descent, step 0.05")
axis.plot(diagonal.history.index, diagonal.history["negative_elbo"], "o-", markersize=3, label="L-BFGS-B")
axis.plot(adam.history.index, adam.history["negative_elbo"], label="Adam, fresh draws")
axis.axhline(-log_evidence, color="k", linestyle=":", label="-log evidence")
axis.set(xlabel="iteration", ylabel="negative ELBO (nats)", yscale="log")
axis.legend(frameon=False)
finish("gradient_descent")
print("by hand:", path[-1], "L-BFGS-B:", diagonal.training_objective, "Adam, fresh draws:", adam.negative_elbo)
