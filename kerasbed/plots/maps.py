"""Maps of numbers that were measured at places in the plane."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import Normalize

from kerasbed.backend.errors import ArgumentError
from kerasbed.plots.alone import leaves, responses
from kerasbed.plots.style import Given, panels_of, single_or_all
from kerasbed.plots.units import Label, column_labels
from kerasbed.plots.views import label_of
from kerasbed.simulators.simulator import Simulator

POINTS = 40  # along each side of the noiseless response
MOST_MAPS = 12
MARGIN = 0.08  # of the range of the places
COLOURS = "cividis"  # its lightness rises evenly, in a greyscale print as well (Nunez, Anderton and Renslow, 2018)


def over_places(
    simulator: Simulator,
    parameters: dict[str, np.ndarray],
    values: Any,
    part: tuple[str, ...],
    outcome: np.ndarray,
    labels: tuple[Label, Label],
    limits: tuple[float, float] | None,
    axes: Given,
) -> Any:
    """A map for each experiment: places, what was measured as colour and, behind, what would be without noise.

    Args:
        simulator, parameters, values: as of `kerasbed.plots.alone.responses`.
        outcome: (num, k) or (num, k, 1), at places (k, 2).
        part: of the design, the places.
        labels: of the design and the outcome.
        limits: (low, high) of both axes, None for the range of the places.

    Raises:
        ArgumentError: there are more experiments than maps that anyone looks at.
    """
    places, seen = leaves(values)[part], outcome.reshape(len(outcome), -1)
    if len(seen) > MOST_MAPS:
        raise ArgumentError(
            f"There are {len(seen)} experiments, but at most {MOST_MAPS} were expected where each has a map of its "
            "own; pass num_samples=3, or fewer parameters."
        )
    x_name, y_name = column_labels(label_of(labels[0], part), 2, part[-1] if part else "design")
    (told,) = column_labels(labels[1], 1, "outcome")
    x, y = (np.linspace(*side, POINTS) for side in _sides(places, limits))
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    found = responses(simulator, parameters, values, part, grid)
    behind = None if found is None else found.reshape(len(seen), POINTS, POINTS)
    panels = panels_of(
        axes, len(seen), "experiments, which have a map each", columns=3, size=(3.6, 3.4), sharex=True, sharey=True
    )
    shown = Normalize(seen.min(), seen.max() if np.ptp(seen) else seen.min() + 1.0)
    for i, panel in enumerate(panels):
        if behind is not None:
            panel.pcolormesh(x, y, behind[i], norm=shown, cmap=COLOURS, shading="gouraud", rasterized=True)
        panel.scatter(*places.T, c=seen[i], norm=shown, cmap=COLOURS, edgecolors="black", linewidths=0.8, s=28)
        panel.set(xlabel=x_name, ylabel=y_name, title=f"experiment {i + 1}")
        panel.set_aspect("equal")
        panel.label_outer()
    mappable = plt.cm.ScalarMappable(norm=shown, cmap=COLOURS)
    panels[0].figure.colorbar(mappable, ax=list(panels), label=told)
    return single_or_all(panels)


def _sides(places, limits):
    """(low, high) of both axes."""
    if limits is not None:
        return limits, limits
    low, high = places.min(axis=0), places.max(axis=0)
    margin = MARGIN * np.maximum(high - low, 1e-9 + 0.1 * np.abs(high))
    return list(zip(low - margin, high + margin, strict=True))
