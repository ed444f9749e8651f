# %% [markdown]
# # Gradients of the expected information gain and the reparameterization trick
#
# Sensors measure a model of unknown parameters, and a fixed measuring effort is to be shared among them: sensor $k$
# gets the weight $w_k$, the weights lie on the simplex, and
#
# $$y = f(\theta) + W^{-1/2}\,\Gamma^{1/2}\,\varepsilon, \qquad \varepsilon \sim N(0, I).$$
#
# The double loop estimates the expected information gain (EIG) of the weights from $M$ outer and $N$ inner draws,
#
# $$\widehat{EIG}(w) = \frac1M \sum_m \Big[\log p(y^m \mid \theta^m, w)
# - \log \frac1N \sum_n p(y^m \mid \theta^n, w)\Big],$$
#
# and we want its gradient. There is one trap: **the data move with the design**. The noise is scaled by $w^{-1/2}$,
# so $y$ is a function of $w$, and a gradient that holds $y$ fixed is not the gradient of this function. We look at
# what each part of the gradient is worth, check every derivative against finite differences (and find a published
# one wrong), and then place 20 sensors in well under a second of computing.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import kerasbed as kb

SMALL = os.environ.get("KERASBED_TUTORIAL_BUDGET") == "small"
OUTER, INNER = (1000, 500) if SMALL else (10_000, 2000)
REPETITIONS = 20 if SMALL else 200


def show(figure, name):
    """Save the figure where KERASBED_TUTORIAL_OUT says, else show it."""
    if folder := os.environ.get("KERASBED_TUTORIAL_OUT"):
        figure.savefig(Path(folder) / f"02_{name}.png", dpi=120)
    else:
        plt.show()
    plt.close(figure)


# %% [markdown]
# ## Three components
#
# With $r = y - f(\theta)$ the log-likelihood of one sensor is $-\frac{w}{2\gamma} r^2 + \frac12 \log w$ plus a
# constant. Its derivative in $w$ has three parts:
#
# | | | |
# |---|---|---|
# | C1 | $-r^2 / (2\gamma)$ | the weight in the square, $r$ held fixed |
# | C2 | $1 / (2w)$ | the log-determinant |
# | C3 | $r\,\varepsilon / (2\sqrt{\gamma w})$ | $r$ itself moves with $w$ |
#
# with $\partial r/\partial w = -\sqrt\gamma\,\varepsilon / (2 w^{3/2})$ in C3.
#
# In the inner average $r = y^m - f(\theta^n)$ belongs to a pair, but $\varepsilon^m$ in C3 is still the noise of the
# *outer* draw: $y^m$ is what moves, and it moves with its own noise. So the outer noise has to be stored, and
# `kb.eig.DoubleLoop` takes it as its `base_samples`.
#
# Two linear sensors, $A = [[2, 1], [1, 2]]$, $\theta \sim N(0, I)$, unit noise and weights $(w, 1 - w)$ have a
# closed form, $EIG(w) = \frac12 \log(6 + 9w - 9w^2)$.

# %%
problem = kb.problems.LinearGaussian()
loop = kb.eig.DoubleLoop.from_simulator(problem, num_outer=OUTER, num_inner=INNER, seed=0)

points = np.array([0.15, 0.3, 0.5, 0.7, 0.85])
w = np.linspace(0.02, 0.98, 97)
exact_eig = 0.5 * np.log(6 + 9 * w - 9 * w**2)
exact_slope = 0.5 * (9 - 18 * w) / (6 + 9 * w - 9 * w**2)
exact_at_points = np.interp(points, w, exact_slope)


def slope(loop, w, components):
    """d EIG / d w1 along the simplex, where w2 = 1 - w1 moves the other way: mean and standard error."""
    weights = np.array([w, 1 - w])
    outer = loop.log_likelihood_gradient(weights, components=components, residuals="outer")
    each = (outer - loop.log_evidence_jacobian(weights, components=components)) @ [1.0, -1.0]
    return each.mean(), each.std(ddof=1) / np.sqrt(len(each))


full = np.array([slope(loop, point, ("C1", "C2", "C3")) for point in points])
partial = np.array([slope(loop, point, ("C1", "C2")) for point in points])

print("  w    exact     C1+C2+C3           C1+C2")
for point, exact, (a, a_error), (b, b_error) in zip(points, exact_at_points, full, partial, strict=True):
    print(f"{point:.2f}  {exact:+.3f}   {a:+.3f} +- {a_error:.3f}   {b:+.3f} +- {b_error:.3f}")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
left.plot(w, exact_eig, color="0.2", label="closed form")
values = [loop.value([p, 1 - p]) for p in points]
errors = [2 * loop.standard_error([p, 1 - p]) for p in points]
left.errorbar(points, values, errors, fmt="o", color="C2", capsize=3, label="double loop, two standard errors")
left.axvline(0.5, color="0.8", zorder=0)
left.set(xlabel="weight of sensor 1", ylabel="EIG, nats", title="The landscape on the simplex")
left.legend(frameon=False)
right.plot(w, exact_slope, color="0.2", label="exact")
right.errorbar(points, full[:, 0], 2 * full[:, 1], fmt="o", color="C2", capsize=3, label="C1 + C2 + C3")
right.errorbar(points, partial[:, 0], 2 * partial[:, 1], fmt="s", color="C1", capsize=3, label="C1 + C2")
right.axhline(0, color="0.8", zorder=0)
right.set(xlabel="weight of sensor 1", ylabel="d EIG / d w", title="Its gradient, with two standard errors")
right.set_ylim(-1.1, 1.1)
right.legend(frameon=False)
show(figure, "landscape")

# %% [markdown]
# All points share their draws, so the values on the left are off together, and their shape is right.
#
# With all three components the estimate lies on the exact derivative. With C1 + C2 alone it lies on **zero**,
# everywhere: holding $y$ fixed, $\nabla_w \log p(y \mid \theta, w)$ and $\nabla_w \log p(y \mid w)$ are score
# functions, and scores have expectation zero. It is sometimes said that leaving C3 out turns the sign of the
# gradient. What it leaves is noise, whose sign is chance. Repeating the estimate with 200 outer draws, as an
# optimiser might use for a step, shows how often an ascent would be sent the wrong way:

# %%
loops = [kb.eig.DoubleLoop.from_simulator(problem, 200, 500, seed=seed) for seed in range(1, REPETITIONS + 1)]
away = [i for i, point in enumerate(points) if point != 0.5]
wrong = {}
for name, components in (("C1 + C2 + C3", ("C1", "C2", "C3")), ("C1 + C2", ("C1", "C2"))):
    signs = [[np.sign(slope(each, points[i], components)[0]) for i in away] for each in loops]
    wrong[name] = np.mean(np.array(signs) != np.sign(exact_at_points[away]), axis=0)
    print(f"{name:13s} wrong sign at w = 0.15, 0.30, 0.70, 0.85: {np.round(wrong[name], 2)}")

# %%
figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
position = np.arange(len(away))
for shift, color, name in ((-0.2, "C2", "C1 + C2 + C3"), (0.2, "C1", "C1 + C2")):
    axes.bar_label(axes.bar(position + shift, wrong[name], 0.4, color=color, label=name), fmt="%.2f", fontsize=9)
axes.axhline(0.5, color="0.5", linestyle=":", zorder=0)
axes.text(-0.42, 0.52, "a coin", color="0.4")
axes.set_xticks(position, [f"{points[i]:.2f}" for i in away])
axes.set(xlabel="weight of sensor 1", ylabel="fraction with the wrong sign", ylim=(0, 0.85))
axes.set_title(f"Sign of the gradient over {REPETITIONS} repetitions")
axes.legend(frameon=False, loc="upper right", ncols=2)
show(figure, "signs")

# %% [markdown]
# ## One sensor, one parameter
#
# For $y = \theta + w^{-1/2}\varepsilon$ the EIG is $\frac12 \log(1 + w)$. At $w = 0.3$:

# %%
single = kb.problems.LinearGaussian([[1.0]])
single_loop = kb.eig.DoubleLoop.from_simulator(single, num_outer=OUTER, num_inner=INNER, seed=0)
at, exact = np.array([0.3]), 0.5 / 1.3
for components in (("C1", "C2", "C3"), ("C1", "C2")):
    found = single_loop.gradient(at, components=components)[0]
    print(f"{' + '.join(components):13s} {found:+.4f}, exact {exact:+.4f}: relative error {abs(found / exact - 1):.1%}")
step = 1e-5
difference = (single_loop.value(at + step) - single_loop.value(at - step)) / (2 * step)
print(f"finite difference of the same estimate: {difference:+.6f}, C1 + C2 + C3: {single_loop.gradient(at)[0]:+.6f}")

# %% [markdown]
# The remaining error of C1 + C2 + C3 is that of the sample: on fixed draws it equals the finite difference to
# rounding. C1 + C2 misses all of the derivative.
#
# ## The Hessian, and a published formula that is wrong
#
# Differentiating C1 + C2 + C3 once more gives
#
# $$\frac{\partial^2 \ell}{\partial w^2} = \frac{r\,\varepsilon}{4\sqrt\gamma\,w^{3/2}} - \frac{\varepsilon^2}{4 w^2}
# - \frac{1}{2 w^2}.$$
#
# The formula printed elsewhere, $-\frac{1}{2w^2} - \frac{3\,r\,\varepsilon}{8\sqrt\gamma\,w^{5/2}}$, cannot be
# right: its terms differ in their units of $w$, and at the outer draw, where $\ell = -\varepsilon^2/2 + \frac12\log
# w$ up to a constant, it does not give $-1/(2w^2)$. One pair settles it.

# %%
gamma, weight, epsilon, distance = 0.7, np.array([0.6]), 0.9, 0.35
pair = kb.eig.DoubleLoop(outer=[[distance]], inner=[[0.0], [1.0]], noise_variances=[gamma], base_samples=[[epsilon]])
r = distance + np.sqrt(gamma / weight[0]) * epsilon


def gradient_of_pair(w):
    return pair.log_likelihood_gradient(w, residuals="inner")[0, 0, 0]


difference = (gradient_of_pair(weight + step) - gradient_of_pair(weight - step)) / (2 * step)
printed = -1 / (2 * weight[0] ** 2) - 3 * r * epsilon / (8 * np.sqrt(gamma) * weight[0] ** 2.5)
print(f"finite difference of the gradient {difference:+.5f}")
print(f"corrected diagonal                {pair.log_likelihood_hessian(weight)[0, 0, 0]:+.5f}")
print(f"printed elsewhere                 {printed:+.5f}")

# %% [markdown]
# The entry can be positive, where $r\varepsilon$ is large: where $r\,\varepsilon > \sqrt{\gamma/w}\,(\varepsilon^2
# + 2)$. `hessian_vector_product` uses the corrected diagonal; on the whole estimate it equals differences of the
# gradient.

# %%
weights, direction = np.array([0.3, 0.7]), np.array([1.0, -1.0])
moved = loop.gradient(weights + step * direction) - loop.gradient(weights - step * direction)
print("finite difference     ", moved / (2 * step))
print("Hessian-vector product", loop.hessian_vector_product(weights, direction))

# %% [markdown]
# ## Correlated noise
#
# With a full covariance $\Gamma = LL^\top$ write $v = \Gamma^{-1} \sqrt{w}\, r$. C1 becomes $-v_k r_k /
# (2\sqrt{w_k})$ and C3 becomes $v_k (L\varepsilon)_k / (2 w_k)$: correlation mixes the sensors in both. C2 is
# unchanged, because $\log\det W$ does not know $\Gamma$. Nothing else changes for the user:

# %%
correlated = kb.problems.LinearGaussian(noise_variances=[[1.0, 0.7], [0.7, 1.0]])
correlated_loop = kb.eig.DoubleLoop.from_simulator(correlated, OUTER, INNER, seed=0)
found, error = slope(correlated_loop, weights[0], ("C1", "C2", "C3"))
ahead, behind = (correlated.exact_eig(weights + sign * step * direction) for sign in (1, -1))
print(f"d EIG / d w along the simplex: {found:+.3f} +- {error:.3f}, exact {(ahead - behind) / (2 * step):+.3f}")

# %% [markdown]
# ## Twenty sensors
#
# Given its draws the double loop is an ordinary smooth function of $w$, so an ordinary optimiser finds its maximum:
# here L-BFGS-B through `kb.search.minimize`. The objective is written in tensors and differentiated by the backend.
# The optimum of a *sampled* objective is not that of the EIG; better base samples bring it nearer at the same
# number of draws. The best possible EIG is 2.20577 nats.

# %%
sensors = kb.problems.LinearGaussian.polynomial(20)
draws = 300 if SMALL else 1000
results = {}
for rule in ("monte_carlo", "sobol", "gauss_hermite"):
    sampled = kb.eig.DoubleLoop.from_simulator(sensors, draws, draws, seed=0, base_samples=rule)
    results[rule] = kb.search.minimize(lambda w, loop=sampled: -loop.value(w), sensors.design, starts=2, seed=0)
    fraction = sensors.exact_eig(results[rule].design) / 2.20577
    print(f"{rule:14s} estimate {-results[rule].value:.4f}, closed-form EIG {100 * fraction:.2f}% of the best")
best = kb.search.minimize(lambda w: -kb.eig.linear_gaussian(sensors.matrix, 0.25, w), sensors.design, starts=4, seed=0)

# %%
figure, axes = plt.subplots(figsize=(8, 3.8), layout="constrained")
location = np.linspace(-1, 1, 20)
axes.bar(location, best.design, 0.07, color="0.85", label="closed form")
for (rule, result), marker in zip(results.items(), "osD", strict=True):
    axes.plot(location, result.design, marker, markersize=5, label=rule.replace("_", " "))
axes.set(xlabel="sensor location", ylabel="weight", title="Where the measuring effort goes")
axes.legend(frameon=False)
show(figure, "weights")

# %% [markdown]
# Most of the effort goes to the two ends, the rest to the middle. There the EIG is flat, so that sampled optima put
# their small weights on different sensors and lose little. Every number above came from fixed draws and is the same on
# JAX, TensorFlow and torch up to rounding.
