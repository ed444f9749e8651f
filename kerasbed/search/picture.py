"""The picture of a black-box search."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes


def incumbent(table: pd.DataFrame, axes: Axes | None = None) -> Axes:
    """Values over evaluations and the best so far; failed evaluations as marks on the lower edge."""
    import matplotlib.pyplot as plt  # only needed for pictures

    axes = plt.subplots(figsize=(6.0, 3.6), layout="constrained")[1] if axes is None else axes
    number = np.arange(1, len(table) + 1)
    done = (table["status"] == "done").to_numpy()
    errors = table["error"].fillna(0.0).to_numpy()[done]
    axes.errorbar(number[done], table["value"][done], errors, fmt="o", ms=4, lw=1, color="0.6", label="evaluated")
    axes.step(number[done], table["incumbent"][done], where="post", color="C0", lw=2, label="best so far")
    failed = (table["status"] == "failed").to_numpy()
    if failed.any():
        low = axes.get_ylim()[0]
        axes.plot(number[failed], np.full(failed.sum(), low), "x", color="C3", clip_on=False, label="failed")
    axes.set(xlabel="evaluation", ylabel="value")
    axes.legend(frameon=False, fontsize="small")
    return axes
