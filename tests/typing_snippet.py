"""What a user writes, for a type checker: `tests/test_typing.py` runs pyright on it. It is not run itself."""

import keras
import numpy as np
import pandas as pd
from scipy import stats

import kerasbed as kb


class Line(kb.GaussianSimulator):
    """y = intercept + slope x + 0.5 noise."""

    prior = kb.Prior(intercept=stats.norm(), slope=stats.norm())

    def mean(self, parameters, design):
        return parameters["intercept"] + parameters["slope"] * design

    def scale(self, parameters, design):
        return 0.5


simulator: kb.Simulator = Line()
design: kb.designs.Design = kb.designs.Box((2,), low=-1.0, high=[1.0, 2.0], seed=0)
both = kb.designs.Product(places=design, repeats=kb.designs.Integer((1,), low=1, high=5))
objective: kb.objectives.Objective = kb.objectives.BarberAgakov()
drawn: dict[str, np.ndarray] = simulator.prior.sample(5, seed=0)

model = kb.DesignModel(simulator, design, objective, seed=0, target="slope")
model.compile(keras.optimizers.Adam(1e-3), design_optimizer="sgd")
history: keras.callbacks.History = model.fit(epochs=2, steps_per_epoch=10, verbose=0)
values: np.ndarray = model.design.numpy()
estimate: kb.EIGEstimate = model.estimate_eig(num_samples=1024, seed=1)
lower: float = estimate.lower
draws: dict[str, np.ndarray] = model.sample(1000, {"outcome": np.zeros((3, 2))}, seed=0)
densities: np.ndarray = model.log_prob({"slope": np.zeros((3, 1))}, {"outcome": np.zeros((3, 2))})
model.save("line.keras")
loaded = kb.load("line.keras", simulator=simulator)

bounds: kb.EIGEstimate = kb.eig.bracket(simulator, np.array([-1.0, 1.0]), num_outer=512, num_inner=1024)
table: pd.DataFrame = kb.eig.compare(simulator, [np.array([-1.0, 1.0]), np.array([0.0, 1.0])])
exact = kb.eig.linear_gaussian([[2.0, 1.0], [1.0, 2.0]], weights=[0.5, 0.5])

tomorrow = Line()
tomorrow.prior = kb.Prior.from_posterior(draws)
tomorrow.prior = kb.reference.posterior(simulator, {"outcome": [0.5, 1.5], "design": values})
fit: kb.variational.VariationalFit = kb.variational.fit(simulator, values, [0.5, 1.5], family="full")
means: dict[str, np.ndarray] = fit.mean

gp = kb.acquisition.GaussianProcess([[0.0], [1.0]], [0.0, 1.0])
point, value = kb.acquisition.maximize(kb.acquisition.ExpectedImprovement(gp), [(0.0, 1.0)], q=2)
found: kb.search.MinimizeResult = kb.search.minimize(lambda x: (x**2).sum(), design, starts=2)
axes = kb.plots.bound(history, references={"estimate": estimate, "exact": 1.0})
axes.set_title("training")
