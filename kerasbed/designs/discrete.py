r"""What discrete spaces share: a distribution over choices that is learned.

A choice has no gradient, so a distribution over choices is learned: logits u, perturbed by Gumbel base samples g.
The arg-max of u + g is a draw from softmax(u) (Gumbel, 1954), its k largest entries are k draws without replacement
(Vieira, 2014; Kool et al., 2019). While training, arg-max becomes softmax((u + g) / t) (Maddison et al., 2017; Jang et
al., 2017), and the k largest become the mask

    m_i = sigmoid((u_i + g_i - c) / t)   with c such that   sum_i m_i = k

(Amos et al., 2019): entries in (0, 1) that sum to k at every temperature t. Differentiating the constraint,

    dm_i = s_i (da_i - dc) / t,   s_i = m_i (1 - m_i),   dc = sum_j s_j da_j / sum_j s_j,   a = u + g,

which costs no derivative of the root search. The temperature falls geometrically from `temperatures[0]` to
`temperatures[1]` over the planned training; it stays warm enough that the networks still meet neighbours of the
favourite, which are compared with it in the end. With `straight_through` outcomes see the exact choice and only the
gradient is that of the relaxed one (Bengio et al., 2013). After training the model samples choices from what was
learned, keeps the best of them by its bound, and exchanges single choices as long as that helps (Fedorov, 1972).

Where nothing is known between the options (a table is looked up by the number of a choice) the relaxation has no
slope, and the choices are learned by the score of their own distribution, d log pi_u(choice)/du: softmax(u) for each
entry, and for k without replacement the probability of drawing them one after the other (Plackett, 1975).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from kerasbed import backend
from kerasbed.backend import Tensor
from kerasbed.designs.space import Space

GUMBEL = "gumbel"  # the extra draw that carries the base samples
CHOSEN_LOGIT = 1.5  # of a chosen option against its negative for the others: favoured, not frozen


class DiscreteSpace(Space):
    """Gumbel base samples, the temperature and the straight-through option.

    A concrete space defines `_hard` and `_relaxed` choices, the log probability of the hard ones, and their `_values`
    in the user's units.
    """

    _hard: Callable[[Tensor], Tensor]
    _relaxed: Callable[[Tensor, Tensor], Tensor]
    _log_prob: Callable[[Tensor, Tensor], Tensor]
    _values: Callable[[Tensor], Tensor]

    def __init__(
        self,
        shape: int | Sequence[int],
        temperatures: Sequence[float] = (1.0, 0.5),
        straight_through: bool = True,
        **kwargs: Any,
    ):
        self.temperatures = tuple(float(t) for t in temperatures)
        if len(self.temperatures) != 2 or min(self.temperatures) <= 0:
            raise ValueError(
                f"temperatures is {temperatures}, but two positive numbers, first and last, were expected."
            )
        self.straight_through = bool(straight_through)
        super().__init__(shape, **kwargs)

    @property
    def choice_names(self) -> tuple[str, ...]:
        return (GUMBEL,)

    def choice_draws(self, num: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {GUMBEL: rng.gumbel(size=(num, *self.unconstrained_shape))}

    def relax(self, u: Tensor, choice: Mapping[str, Tensor], progress: Tensor) -> Tensor:
        first, last = (float(np.log(t)) for t in self.temperatures)
        temperature = ops.exp(first + (last - first) * ops.cast(progress, u.dtype))
        perturbed = u + ops.cast(choice[GUMBEL], u.dtype)
        relaxed = self._values(self._relaxed(perturbed, temperature))
        if not self.straight_through:
            return relaxed
        return relaxed + ops.stop_gradient(self.constrain(perturbed) - relaxed)

    def choice_log_prob(self, u: Tensor, choice: Mapping[str, Tensor]) -> Tensor:
        perturbed = ops.stop_gradient(u) + ops.cast(choice[GUMBEL], u.dtype)
        found = self._log_prob(u, perturbed)
        return ops.sum(ops.reshape(found, (-1, int(np.prod(found.shape[1:])))), axis=-1)

    def constrain(self, u: Tensor) -> Tensor:
        return self._values(self._hard(u))

    def propose(self, u: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self.settled(u + rng.gumbel(size=u.shape))

    def settled(self, u: np.ndarray) -> np.ndarray:
        with backend.no_gradients():
            hard = ops.convert_to_numpy(self._hard(backend.to_tensor(np.asarray(u, "float64"), self.float_type)))
        return CHOSEN_LOGIT * (2.0 * hard - 1.0)

    def continuous_coordinates(self) -> np.ndarray:
        return np.zeros(self.unconstrained_shape, bool)

    def get_config(self):
        return super().get_config() | {"temperatures": self.temperatures, "straight_through": self.straight_through}


def logits(chosen: ArrayLike) -> np.ndarray:
    """Logits under which what is chosen is favoured, not frozen."""
    return CHOSEN_LOGIT * (2.0 * np.asarray(chosen, "float32") - 1.0)


def one_hot(index: Tensor, size: int, dtype: str) -> Tensor:
    """Rows of the identity matrix. By comparison: torch's own reads the largest index, which no graph can record."""
    places = ops.convert_to_tensor(np.arange(size), dtype="int32")
    return ops.cast(ops.equal(ops.cast(index, "int32")[..., None], places), dtype)
