"""A session as a picture: what was measured, what was known after each measurement, and what that taught.

What a history taught is the divergence of the posterior from the prior, read off the belief's points,

    KL(posterior, prior) = E[ log p(y_1 .. y_t | theta, xi) | h ] - log p(y_1 .. y_t | xi).
"""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from kerasbed.lab import trials
from kerasbed.lab.beliefs import Belief
from kerasbed.lab.session import Session
from kerasbed.plots.style import color_of, line_of, marker_of

LEVELS = (0.025, 0.5, 0.975)


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


def session_picture(session: Session, labels: tuple[str, str] = ("design", "outcome")) -> Sequence[Axes]:
    """Three panels over the measurements.

    Args:
        session: of an experiment.
        labels: names of the design and the outcome, with units.

    Returns:
        The Axes: designs and outcomes, posteriors, nats.
    """
    quantiles, nats = followed(session)
    _, panels = plt.subplots(1, 3, figsize=(13.0, 4.0), layout="constrained")
    _measured(panels[0], trials.measured(session.trials), labels)
    _posteriors(panels[1], quantiles)
    _nats(panels[2], nats, session)
    for panel in panels:
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        if panel.get_legend_handles_labels()[0]:
            panel.legend(frameon=False)
    return panels


def _measured(panel: Any, looks, labels):
    """Entries of designs and outcomes; those of one kind look alike."""
    for i, label in enumerate(labels):
        rows = [trials.entries(look[i]) for look in looks]
        for column, values in enumerate(zip(*rows, strict=True)):
            told = f"_{label}" if column else label
            panel.plot(1 + np.arange(len(looks)), values, linestyle="", color=color_of(i), label=told, **marker_of(i))
    panel.set(xlabel="measurement", ylabel=" and ".join(labels))


def _posteriors(panel: Any, quantiles):
    series = [(name, i, found[..., i]) for name, found in quantiles.items() for i in range(found.shape[-1])]
    for index, (name, entry, found) in enumerate(series):
        low, middle, high = found.T
        told = name if quantiles[name].shape[-1] == 1 else f"{name} {entry + 1}"
        panel.plot(np.arange(len(found)), middle, label=told, **line_of(index))
        panel.fill_between(np.arange(len(found)), low, high, color=color_of(index), alpha=0.2)
    panel.set(xlabel="measurements", ylabel="posterior median and central 95%")


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
