"""A session as a picture: what was measured, what was known after each measurement, and what that taught.

What a history taught is the divergence of the posterior from the prior, read off the belief's points,

    KL(posterior, prior) = E[ log p(y_1 .. y_t | theta, xi) | h ] - log p(y_1 .. y_t | xi).
"""

from typing import Any

import numpy as np
from keras import tree
from matplotlib.ticker import MaxNLocator

from kerasbed.lab import trials
from kerasbed.lab.beliefs import Belief
from kerasbed.lab.session import Session
from kerasbed.plots.style import color_of, line_of, marker_of, panels_of, wrapped
from kerasbed.plots.units import Label, Quantity, quantities

LEVELS = (0.025, 0.5, 0.975)
NAMED = 8  # entries that a legend names
HEIGHT = 2.8  # inches of an axis


def information(belief: Belief) -> float:
    """What the history of a belief taught, in nats."""
    if not belief.history:
        return 0.0
    log_l, _ = belief.likelihoods.all(belief.parameters, belief.history)
    weights = np.exp(belief.log_weights)
    return float(weights[weights > 0.0] @ log_l[weights > 0.0]) - belief.log_evidence


def followed(session: Session) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """After 0, 1, .. measurements: quantiles {name: (t + 1, 3, d)} and nats (t + 1,), NaN without a likelihood."""
    looks = trials.measured(session.trials)
    names, told = session.source.simulator.prior.names, session.source.simulator.has_likelihood
    quantiles: dict[str, list] = {name: [] for name in names}
    nats, belief = [], session.belief_after([])
    for count in range(len(looks) + 1):
        if count:
            belief = session.learned(belief, looks[:count])
        for name in names:
            quantiles[name].append(belief.quantiles(name, LEVELS))
        nats.append(information(belief) if told and session.method != "amortised" else np.nan)
    return {name: np.array(found) for name, found in quantiles.items()}, np.array(nats)


def session_picture(session: Session, labels: tuple[Label, Label] = ("design", "outcome")) -> np.ndarray:
    """Panels over the measurements: one for each quantity of the design and the outcome, one for each parameter, nats.

    Args:
        session: of an experiment.
        labels: names of the design and the outcome, with units; each a text, one for each entry, or for the design a
            dict of these for its parts.

    Returns:
        Array of the Axes, in this order; designs and outcomes only where something was measured.
    """
    quantiles, nats = followed(session)
    looks = trials.measured(session.trials)
    told = [made for i, label in enumerate(labels) for made in _told([look[i] for look in looks], label)]
    panels = panels_of(None, len(told) + len(quantiles) + 1, "panels", columns=3, size=(4.3, 3.6))
    for panel, quantity in zip(panels, told, strict=False):
        _measured(panel, quantity)
    for panel, (name, found) in zip(panels[len(told) :], quantiles.items(), strict=False):
        _posterior(panel, name, found)
    _nats(panels[-1], nats, session)
    for panel in panels:
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if 1 < len(panel.get_legend_handles_labels()[0]) <= NAMED:
            panel.legend(frameon=False, fontsize="small")
    return panels


def _told(values, label) -> list[Quantity]:
    """What of designs or outcomes shares an axis; nothing where there are none."""
    if not values:
        return []
    return quantities(tree.map_structure(lambda *looks: np.stack(looks), *values), 1, label)


def _measured(panel: Any, quantity: Quantity):
    """Entries over the measurements."""
    looks = 1 + np.arange(len(quantity.values))
    for i, (name, column) in enumerate(zip(quantity.names, quantity.values.T, strict=True)):
        panel.plot(looks, column, linestyle="", color=color_of(i), label=name, **marker_of(i))
    panel.set(xlabel="measurement", ylabel=wrapped(quantity.label, HEIGHT), xlim=(0.5, len(looks) + 0.5))


def _posterior(panel: Any, name, found):
    """One parameter's quantiles (t + 1, 3, d), a line for each coordinate."""
    for i in range(found.shape[-1]):
        low, middle, high = found[..., i].T
        told = name if found.shape[-1] == 1 else f"{name} {i + 1}"
        panel.plot(np.arange(len(found)), middle, label=told, **line_of(i))
        panel.fill_between(np.arange(len(found)), low, high, color=color_of(i), alpha=0.2, linewidth=0.0)
    panel.set(xlabel="measurements", ylabel=wrapped(f"{name}, median and central 95%", HEIGHT))


def _nats(panel: Any, nats, session):
    panel.plot(np.arange(len(nats)), nats, color=color_of(0), label="learned so far", **marker_of(0))
    gains = [session.trials[number].gain for number in trials.counted(session.trials)]
    if session.source.simulator.has_likelihood and session.policy is None:
        gains.append(session.choice(session.trials, session.next_number).gain)  # of the one to come
    known = [(i, gain) for i, gain in enumerate(gains) if gain is not None]
    if known:
        panel.plot(
            *zip(*known, strict=True), color=color_of(1), label="expected of the next", linestyle="", **marker_of(1)
        )
    panel.set(xlabel="measurements", ylabel="nats")
