r"""Annealed importance sampling of the evidence p(h), from both ends.

Between the prior, b = 0, and the posterior, b = 1, lie the laws

    pi_b(theta) = p(theta) p(h | theta)^b / Z(b),     Z(0) = 1,   Z(1) = p(h).

For 0 = b_0 < b_1 < .. < b_n = 1 a chain starts at x_0 ~ p(theta), and x_j comes from x_(j-1) by a step that leaves
pi_(b_j) as it is. With

    log w = sum_j (b_j - b_(j-1)) log p(h | x_(j-1)),     E w = p(h)                                     (forward)

(Neal, 2001, equations 3 to 11): each w is an unbiased estimate of the evidence, whatever n and however badly the steps
mix. A chain that starts at a draw of the posterior and takes the steps in the reverse order has

    log w = sum_j (b_j - b_(j-1)) log p(h | x_j),   j = n .. 1,     E 1/w = 1 / p(h)                     (reverse).

Of K + 1 paths, K forward and one reverse, any could be the one that ends in the posterior: their joint law is that of
K + 1 forward paths times the mean of their weights over p(h). So, with Jensen's inequality,

    E log 1/K sum_k w_k  <=  log p(h)  <=  E log 1/(K + 1) (w_reverse + sum_k w_k)

(Grosse, Ghahramani and Adams, 2015; Burda et al., 2015, for K; Foster et al., 2020, for the same with n = 1, where the
two sides are NMC and PCE). In a simulated experiment the parameters that made it are an exact draw of its posterior: so
both sides hold, also for histories that a policy made.

All chains of a block of experiments take a step together, the reverse ones as one more column with temperatures of its
own; steps are data (`kerasbed.eig.chain_space`), so that one program serves every number of temperatures.
"""

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from kerasbed.backend import fused_loops, programs, streams
from kerasbed.backend.programs import compiled
from kerasbed.eig.chain_space import ChainSpace, Moves
from kerasbed.eig.rollouts import Rollouts, pairs_of_rows
from kerasbed.simulators.simulator import Simulator

POWER = 4.0  # temperatures (j / n)^power: most of them where the likelihood begins to tell
STEPS = 100  # of one call
WORDS = 2.0**32  # of the numbers that decide about acceptance


class Weights(NamedTuple):
    """log w of forward chains, or of draws, (M, K); of the reverse chain, or of the parameters that made an experiment,
    (M,); and log p(h | theta) of these, (M,)."""

    forward: np.ndarray
    reverse: np.ndarray
    own: np.ndarray


class Chains:
    """Annealed chains for experiments of one simulator, compiled once for all numbers of temperatures.

    Args:
        simulator: of whole experiments, with a likelihood.
        num_chains: K, forward ones for each experiment.
        dtype: in which the likelihood is evaluated.

    Raises:
        ValueError: a prior in whose parameters chains cannot move; see `ChainSpace`.
    """

    def __init__(self, simulator: Simulator, num_chains: int, dtype: str = "float32"):
        self.simulator, self.num_chains, self.dtype = simulator, num_chains, dtype
        key = ("chain space", programs.Same(simulator.prior), programs.state_of(simulator.prior))
        self.space = programs.of(simulator).get(key, lambda: ChainSpace(simulator.prior))
        self.advance = compiled(_advanced, simulator, self.space, dtype=dtype, make=fused_loops.compile_loop)
        self.begin = compiled(_begun, simulator, self.space, dtype=dtype)

    def weights(
        self, rollouts: Rollouts, num_temperatures: int, seed: streams.Entropy, power: float = POWER
    ) -> Weights:
        """log weights of all chains of each experiment, in float64.

        Args:
            rollouts: the experiments.
            num_temperatures: n.
            seed: of the chains.
            power: temperatures are (j / n)^power.
        """
        plan = _Plan(self.space, num_temperatures, self.num_chains, power, seed)
        num, rows = len(rollouts), max(1, min(len(rollouts), fused_loops.PAIRS_OF_A_BLOCK // self.num_chains))
        found = []
        for block, first in enumerate(range(0, num, rows)):
            some = rollouts.rows(np.arange(first, first + rows) % num)
            found.append(self._block(some, plan, streams.of(seed, "annealed chains", block)))
        forward, own = (np.concatenate(part)[:num].astype("float64") for part in zip(*found, strict=True))
        return Weights(forward[:, :-1], forward[:, -1], own)

    def _block(self, rollouts, plan, rng):
        rows, columns = len(rollouts), self.num_chains + 1
        state = self.space.state_of(self._starts(rollouts, rng))
        state = self.begin(state, rollouts.outcome, rollouts.design)
        own = state["here"]["log_p"][:, -1]
        for first in range(0, plan.length, STEPS):
            data = plan.data(slice(first, first + STEPS)) | self._draws(rows, columns, rng)
            state = self.advance(state, data, rollouts.outcome, rollouts.design)
        return state["log_w"], own

    def _starts(self, rollouts, rng):
        """Draws of the prior in all columns but the last, which holds the parameters that made the experiment."""
        rows, prior = len(rollouts), self.simulator.prior
        draws = prior.check(prior.sample(rows * self.num_chains, rng))
        draws = {name: values.reshape(rows, self.num_chains, -1) for name, values in draws.items()}
        return {name: np.concatenate([v, rollouts.parameters[name][:, None]], axis=1) for name, v in draws.items()}

    def _draws(self, rows, columns, rng):
        """The random numbers of `STEPS` steps: integers, which are made quicker than floats and are as many bits."""
        size, space = (rows, columns), self.space
        found: dict[str, Any] = {"chance": _integers(rng, (STEPS, *size), "int32")}
        if space.dim:
            found["moves"] = _integers(rng, (STEPS, space.dim, *size), "int16")
        if space.columns:
            fresh = space.proposals(STEPS * rows * columns, rng)
            found["fresh"] = np.moveaxis(fresh.reshape(space.columns, STEPS, *size), 0, 1)
        return found


class _Plan:
    """Temperatures and moves of all steps, of forward columns and of the reverse one, padded to whole calls.

    A reverse chain takes the moves in an order of its own: each leaves the law of its temperature as it is.
    """

    def __init__(self, space, num, num_chains, power, seed):
        b = (np.arange(num + 1) / num) ** power
        reverse = b[::-1]
        increments = np.stack([np.diff(b)] * num_chains + [-np.diff(reverse)], axis=-1)
        # Of the move that a step decides about, which is the one before.
        temperatures = np.stack([b[:-1]] * num_chains + [reverse[:-1]], axis=-1)
        self.length = -(-num // STEPS) * STEPS
        moves = space.moves(num, seed)
        parts = {"increments": increments, "temperatures": temperatures, **_present(space, moves)}
        self.parts = {name: self._padded(values) for name, values in parts.items()}

    def _padded(self, values):
        """Steps that weigh nothing behind the last."""
        return np.concatenate([values, np.zeros((self.length - len(values), *values.shape[1:]), values.dtype)])

    def data(self, steps):
        return {name: values[steps] for name, values in self.parts.items()}


def _present(space: ChainSpace, moves: Moves) -> dict[str, np.ndarray]:
    found = {"widths": moves.widths} if space.dim else {}
    return found | ({"refreshed": moves.refreshed} if space.columns else {})


def _integers(rng, shape, dtype):
    """Uniform over all values of an integer type, cut from numbers of 64 bits, which are drawn quickest."""
    size = int(np.prod(shape))
    words = rng.integers(0, 2**64, size=-(-size * np.dtype(dtype).itemsize // 8), dtype="uint64")
    return words.view(dtype)[:size].reshape(shape)


def _begun(simulator, space, places, outcome, design):
    """Chains at their starts, of weight one: where they are, where they may go next, and log w."""
    log_prior = space.log_prior(places)
    log_p = _log_likelihood(simulator, space, places, outcome, design, log_prior)
    here = {**places, "log_prior": log_prior, "log_p": log_p}
    return {"here": here, "next": here, "log_w": ops.zeros_like(log_prior)}


def _log_likelihood(simulator, space, places, outcome, design, like):
    log_p = pairs_of_rows(simulator, outcome, space.parameters(places), design)
    return ops.cast(log_p, like.dtype) + ops.zeros_like(like)


def _advanced(simulator, space, state, data, outcome, design):
    """`STEPS` steps of all chains: decide about the last move, weigh, propose the next move.

    A likelihood is read in the step after the one that evaluates it: XLA would evaluate it once for each reader within
    a step.
    """

    def step(i, state):
        here = _decided(state["here"], state["next"], data["temperatures"][i], data["chance"][i])
        log_w = state["log_w"] + _weighed(data["increments"][i], here["log_p"])
        places = {name: _proposed(name, here[name], data, i) for name in ("z", "values") if name in here}
        log_prior = space.log_prior(places)
        log_p = _log_likelihood(simulator, space, places, outcome, design, log_prior)
        return {"here": here, "next": {**places, "log_prior": log_prior, "log_p": log_p}, "log_w": log_w}

    return ops.fori_loop(0, STEPS, step, state)


def _decided(here, there, temperatures, chance):
    gain = temperatures * (there["log_p"] - here["log_p"]) + there["log_prior"] - here["log_prior"]
    chance = (ops.cast(chance, gain.dtype) + (0.5 * WORDS + 0.5)) / WORDS
    accepted = ops.log(chance) < gain  # False where the gain is NaN: of two impossible places neither is better
    return {name: ops.where(accepted, there[name], here[name]) for name in here}


def _weighed(increments, log_p):
    """Increments of log w; 0 where the temperature stays, also for -inf."""
    return ops.where(increments > 0.0, increments * log_p, ops.zeros_like(log_p))


def _proposed(name, here, data, i):
    if name == "z":
        return here + data["widths"][i][:, None, None] * (ops.cast(data["moves"][i], here.dtype) + 0.5)
    return ops.where(data["refreshed"][i][:, None, None], data["fresh"][i], here)
