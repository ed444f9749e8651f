"""What a design costs, and a price for going over budget while it is learned.

With v = max(cost / budget - 1, 0) the penalty is price * h(v), h(v) = v^2 / (2 w) up to v = w and v - w / 2 beyond:
an exact penalty (Nocedal and Wright, 2006, 17.2) whose kink is rounded over a narrow width w, so that its gradient
does not drown that of the information where the budget is just met. If one more budget buys g nats, the optimum
overruns the budget by the fraction g w / price, at most. The cost that was reached is reported beside the design.
"""

import keras
import numpy as np
from keras import ops, tree
from scipy import optimize

from kerasbed import backend
from kerasbed.simulators import cast

OVERRUN_PRICE = 50.0  # nats for each multiple of the budget spent beyond it
ROUNDED_WIDTH = 0.02  # of the budget
TOLERANCE = 1e-3  # of the budget; what a penalised search may overrun without a warning
PROBES = 512


class Cost:
    """The cost of designs and what may be spent.

    Args:
        fn: designs (batch, *shape), or a dict of those, -> (batch,) costs, differentiable, in `keras.ops`.
        budget: what may be spent, in the units of `fn`; None reports costs and limits nothing.
        space: the design space.

    Raises:
        TypeError: `fn` cannot be called.
        ValueError: costs have the wrong shape or are not finite, or no design is within the budget.
    """

    def __init__(self, fn, budget, space):
        if not callable(fn):
            raise TypeError(f"cost is {fn!r}, but a function of the design was expected; a limit alone has no meaning.")
        self.fn, self.budget = fn, None if budget is None else float(budget)
        if self.budget is not None and not (np.isfinite(self.budget) and self.budget > 0):
            raise ValueError(f"budget is {budget}, but a positive finite amount was expected.")
        self._check(space)

    def __call__(self, design):
        """Costs (batch,) of tensors (batch, *shape)."""
        return self.fn(design)

    def of(self, designs) -> np.ndarray:
        """Costs (batch,) of NumPy designs (batch, *shape)."""
        with backend.no_gradients():
            return np.asarray(ops.convert_to_numpy(self(cast(designs))), "float64")

    def affordable(self, designs) -> np.ndarray:
        """Whether designs (batch, *shape) are within the budget, (batch,)."""
        cost = self.of(designs)
        return cost <= (np.inf if self.budget is None else self.budget * (1.0 + TOLERANCE))

    def penalty(self, design):
        """Price of the overrun in nats of designs (batch, *shape), (batch,)."""
        if self.budget is None:
            return 0.0
        over = ops.relu(self(design) / self.budget - 1.0)
        inner = ops.minimum(over, ROUNDED_WIDTH)
        return OVERRUN_PRICE * (ops.square(inner) / (2.0 * ROUNDED_WIDTH) + (over - inner))

    def _check(self, space):
        samples = space.sample(PROBES, seed=0)
        cost = self.of(samples)
        if cost.shape != (PROBES,):
            raise ValueError(
                f"cost returned shape {cost.shape} for {PROBES} designs of shape {space.shape}, but ({PROBES},) was "
                "expected: one cost for each design."
            )
        if not np.all(np.isfinite(cost)):
            bad = tree.map_structure(lambda v: v[~np.isfinite(cost)][0], samples)
            raise ValueError(f"cost is NaN or infinite, for example at the design {bad}; finite costs were expected.")
        if self.budget is None or cost.min() <= self.budget:
            return
        if (least := min(cost.min(), self._least(space, cost))) > self.budget * (1.0 + TOLERANCE):
            raise ValueError(
                f"No design is within the budget of {self.budget:g}: the least cost found is {least:.6g}. Raise the "
                "budget, or widen the space."
            )

    def _least(self, space, cost):
        """The least cost that L-BFGS finds from the cheapest sampled designs; uniform draws seldom are cheap ones."""
        if space.choice_draws(1, np.random.default_rng(0)):
            return cost.min()
        cheapest = tree.map_structure(lambda v: v[np.argsort(cost)[:4]], space.sample(PROBES, seed=0))
        with backend.precision("float64"), backend.no_gradients():
            starts = ops.convert_to_numpy(space.unconstrain(backend.to_tensor(cheapest, "float64")))
        evaluate = backend.value_and_gradient(lambda u: self(space.constrain(u))[0])

        def flat(u):
            value, gradient = evaluate(u.reshape(1, *space.unconstrained_shape))
            return float(value), np.asarray(gradient, "float64").ravel()

        return min(optimize.minimize(flat, u.ravel(), jac=True, method="L-BFGS-B").fun for u in starts)

    def config(self):
        """What can be saved: a cost registered with Keras, and the budget."""
        name = keras.saving.get_registered_name(self.fn)
        if ">" not in str(name):
            return {"cost": None, "budget": None}
        return {"cost": keras.saving.serialize_keras_object(self.fn), "budget": self.budget}
