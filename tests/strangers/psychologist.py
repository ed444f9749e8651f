"""A psychologist: which contrast to show next, for a threshold and a slope, while the subject sits there."""

import numpy as np
import pandas as pd
from keras import ops
from scipy import special, stats

import kerasbed as kb


class Seen(kb.BernoulliSimulator):
    prior = kb.Prior(threshold=stats.norm(0.0, 1.0), slope=stats.lognorm(0.5, scale=3.0))
    noise_shape = (1,)

    def probability(self, parameters, design):
        return 0.02 + 0.96 * ops.sigmoid(parameters["slope"] * (design - parameters["threshold"]))


subject = np.random.default_rng(0)  # one with a threshold of .4 and a slope of 4
contrasts = kb.designs.Choice((1,), options=np.linspace(-2.5, 2.5, 51))
lab = kb.Experiment(Seen(), contrasts, seed=0)
before = lab.value_of_next()
for _ in range(30):
    contrast = lab.recommend()
    seen = subject.random() < 0.02 + 0.96 * special.expit(4.0 * (contrast[0] - 0.4))
    lab.add_measurements(pd.DataFrame({"design": contrast, "outcome": [float(seen)]}))
print(lab.table().tail(3).round(2).to_string(index=False))
threshold = lab.posterior(4000)["threshold"]
print(f"threshold {threshold.mean():.2f} +- {threshold.std():.2f}")
print(f"the next trial would teach {lab.value_of_next().value:.3f} nats, the first one {before.value:.3f}")
print(lab.how_many(width={"threshold": 0.6}, most=60))
assert abs(threshold.mean() - 0.4) < 4 * threshold.std(), "the threshold is missed"
assert threshold.std() < 0.4, "thirty trials have taught little"
