"""A pharmacologist: when to draw blood after a tablet, by a differential equation and a proportional error."""

import numpy as np
from keras import ops
from scipy import stats

import kerasbed as kb


def body(t, amounts, absorption, elimination):
    gut, blood = amounts["gut"], amounts["blood"]
    return {"gut": -absorption * gut, "blood": absorption * gut - elimination * blood}


class Tablet(kb.GaussianSimulator):
    prior = kb.Prior(
        absorption=stats.lognorm(0.4, scale=1.0),  # 1/h
        elimination=stats.lognorm(0.3, scale=0.2),  # 1/h
        volume=stats.lognorm(0.2, scale=20.0),  # l
    )
    noise_shape = (6,)

    def mean(self, parameters, design):
        rates = parameters["absorption"], parameters["elimination"]
        steps = 24  # between samples, which may be half a day apart; kb.ode.error says whether that is enough
        amounts = kb.ode.solve(body, {"gut": 400.0, "blood": 0.0}, design, rates, steps)
        return amounts["blood"][..., 0] / parameters["volume"]

    def scale(self, parameters, design, mean):
        return 0.1 * ops.abs(mean) + 0.05


tablet = Tablet()
model = kb.DesignModel(tablet, kb.designs.Times(6, 0.25, 24.0, min_gap=0.25), seed=0)
model.fit(epochs=10, steps_per_epoch=100, verbose=0)
print("draw blood after (h)", model.design.numpy().round(2))
usual = np.array([0.5, 1.0, 2.0, 4.0, 8.0, 24.0])
table = kb.eig.compare(tablet, [model.design.numpy(), usual], seed=1)
print(table.round(3).to_string())
draws = model.sample(1000, {"outcome": tablet.simulate(1, model.design, seed=2)["outcome"]})
print("elimination (1/h)", draws["elimination"].mean().round(3))
assert table["difference"].iloc[1] < -3 * table["difference_se"].iloc[1], "no better than the usual times"
