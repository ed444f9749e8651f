r"""Posterior networks that are trained by regression: flow matching, and diffusion by denoising.

Both carry base samples e ~ N(0, I) to the posterior of z along an ordinary differential equation, whose right-hand side
a network learns given conditions c. The network may be any function, since what it learns is a conditional mean:
training needs no inverse, no Jacobian and no solution of the equation.

*Flow matching.* On the line x_t = (1 - t) e + t z from a base sample to z, the velocity is z - e. Its mean

    v(x, t, c) = E[z - e | x_t = x, c] = argmin_v E || v(x_t, t, c) - (z - e) ||^2

carries N(0, I) at t = 0 to p(z | c) at t = 1 by dx/dt = v (Lipman et al., 2023, theorem 1).

*Diffusion.* With x = alpha_l z + sigma_l e at the log signal-to-noise ratio l, the score s = grad_x log p_l(x | c) is

    s(x, l, c) = -E[e | x, c] / sigma_l = argmin_s E w(l) || sigma_l s(x, l, c) + e ||^2

(Vincent, 2011), and dx/dt = f(x, t) - g(t)^2 s / 2, the probability-flow equation, carries N(0, I) to p(z | c) as the
diffusion itself does (Song et al., 2021, eq. 13).

*Base samples.* e and the times t are data, as all that is random, and so is the e that a draw begins with: a draw is a
function of it, by a fixed number of steps, which no other draw has a part in. So seeds repeat, whatever draws share a
block, and one program serves all. BayesFlow's own steps are chosen for all draws together, or take noise of their own.

*Weights.* Each draw of a diffusion is weighed by w at its own l.

*No density.* log q would be the integral of a trace along the path, with the errors of both, and nothing in training
makes the result a density of mass one, which a bound of the EIG and importance weights rest on. It is refused by name.

Times get their law from the network: t^(1 + a) in flow matching, and the noise schedule's own l(t) in diffusion.

References: Lipman et al. (2023), Flow matching for generative modeling; Wildberger et al. (2023), Flow matching for
scalable simulation-based inference; Song et al. (2021), Score-based generative modeling; Karras et al. (2022) for w.
"""

from collections.abc import Mapping
from typing import Any

import bayesflow as bf
import keras
from bayesflow.utils import DETERMINISTIC_METHODS
from keras import ops

from kerasbed import backend
from kerasbed.backend import Tensor, errors

# Of a method of order five. On a linear-Gaussian posterior draws then differ from those of many steps by 2e-5 and 3e-5
# prior standard deviations at most, far less than a network from the posterior; half as many left 7e-4 and 8e-4.
STEPS_OF_FLOW, STEPS_OF_DIFFUSION = 16, 32
NOISE, TIME = "matching_noise", "matching_time"  # the extra draws of a batch

# What takes random numbers inside a step, or learns something other than the posterior: argument -> what it must be.
EXPECTED: Mapping[str, Any] = {
    "use_optimal_transport": False,
    "drop_cond_prob": 0.0,
    "drop_target_prob": 0.0,
    "loss_type": "noise",
}


def is_matching(network: Any) -> bool:
    """Whether a network is trained by regression, and gives draws without a density."""
    return isinstance(network, bf.networks.FlowMatching | bf.networks.DiffusionModel)


def check_settings(network: bf.networks.InferenceNetwork) -> bf.networks.InferenceNetwork:
    """The network, if its settings are among those that are trained here.

    Raises:
        ArgumentError: it would draw random numbers inside a training step, or learn something else.
    """
    name, config = type(network).__name__, network.get_config()
    for setting, expected in EXPECTED.items():
        if (given := config.get(setting, expected)) != expected:
            raise errors.ArgumentError(
                f"{name} has {setting}={given!r}, but {setting}={expected!r} was expected: base samples are data here, "
                "paired with parameters as they are drawn, and the whole posterior is learned from all conditions. "
                f"Leave {setting} out."
            )
    if config.get("prediction_type") == "potential":
        raise errors.ArgumentError(
            f"{name} has prediction_type='potential', a derivative inside every step; use 'F' (the default), "
            "'velocity', 'noise', 'x' or 'score'."
        )
    if isinstance(getattr(network, "loss_fn", None), keras.losses.Loss):
        raise errors.ArgumentError(
            f"{name} has loss_fn={network.loss_fn!r}, which adds the errors of all draws up, but an error of each draw "
            "was expected; pass a name, such as loss_fn='mse'."
        )
    return network


def error(
    network: bf.networks.InferenceNetwork,
    z: Tensor,
    conditions: Tensor,
    noise: Tensor,
    time: Tensor,
    training: bool = False,
) -> Tensor:
    """The regression's error of each draw, (batch,), whose mean the posterior minimizes.

    Args:
        network: `bayesflow.networks.FlowMatching` or `DiffusionModel`.
        z: standardised coordinates of the parameters, (batch, dim).
        conditions: what the network is told, (batch, width).
        noise: base samples N(0, 1), (batch, dim).
        time: base samples U(0, 1), (batch, 1).
        training: whether the network learns from it.
    """
    noise, time = ops.cast(noise, z.dtype), ops.cast(time, z.dtype)
    of_kind = _velocity_error if isinstance(network, bf.networks.FlowMatching) else _denoising_error
    return of_kind(network, z, conditions, noise, time, training)


def _velocity_error(network, z, conditions, noise, time, training):
    time = time ** (1.0 + network.time_power_law_alpha)
    on_the_way = (1.0 - time) * noise + time * z
    velocity = network.velocity(on_the_way, time=time, conditions=conditions, training=training)
    return network.loss_fn(z - noise, velocity)


def _denoising_error(network, z, conditions, noise, time, training):
    schedule = network.noise_schedule
    log_snr = schedule.get_log_snr(t=time, training=True)
    alpha, sigma = schedule.get_alpha_sigma(log_snr_t=log_snr)
    score = network.score(alpha * z + sigma * noise, log_snr_t=log_snr, conditions=conditions, training=training)
    weight = schedule.get_weights_for_snr(log_snr_t=log_snr)
    return ops.mean(weight * ops.square(sigma * score + noise), axis=-1)


def terms(
    head: Any,
    parameters: Mapping[str, Tensor],
    conditions: Tensor,
    noise: Tensor,
    time: Tensor,
    training: bool = False,
) -> Tensor:
    """log q of the discrete parameters less the error of the regression of the continuous ones, (batch,).

    Args:
        head: `kerasbed.networks.head.Head`.
        parameters: {name: (batch, d)}.
        conditions: (batch, width).
        noise: base samples N(0, 1), (batch, base_dim).
        time: base samples U(0, 1), (batch, 1).
        training: whether the networks learn from it.
    """

    def of_continuous(head, conditions):
        z, _ = head.encode_parameters(parameters)
        return backend.as_simulated(-error(head.network, z, conditions, noise[:, : z.shape[-1]], time, training))

    return head.summed(parameters, conditions, of_continuous, training)


def draws(network: bf.networks.InferenceNetwork, base: Tensor, conditions: Tensor) -> Tensor:
    """Base samples N(0, I), (batch, dim), carried to the posterior given conditions (batch, width): (batch, dim)."""
    return network(base, conditions=conditions, inverse=True, **solver(network))


def solver(network: bf.networks.InferenceNetwork) -> dict[str, Any]:
    """How the equation is solved: the network's own method and number of steps, where they are fixed.

    `integrate_kwargs={"method": "rk45", "steps": 100}` of the network is taken as it is. Steps that are chosen on the
    way become 16, of a diffusion 32, and methods that take noise the deterministic one of order five.
    """
    method, steps = (network.integrate_kwargs.get(key) for key in ("method", "steps"))
    enough = STEPS_OF_FLOW if isinstance(network, bf.networks.FlowMatching) else STEPS_OF_DIFFUSION
    return {
        "method": method if method in DETERMINISTIC_METHODS else "tsit5",
        "steps": enough if steps is None or isinstance(steps, str) else steps,
    }


def require_density(network: Any, asked_by: str) -> None:
    """Refuse a network that gives draws alone.

    Args:
        network: of a posterior.
        asked_by: what needs the density.

    Raises:
        NoDensityError: it is trained by regression.
    """
    if is_matching(network):
        raise errors.NoDensityError(
            f"{type(network).__name__} gives draws of the posterior but no density, which {asked_by} needs. Use "
            "model.sample, or train a network with a density: model.fit_posterior(), or "
            "model.fit_posterior(bf.networks.CouplingFlow())."
        )
