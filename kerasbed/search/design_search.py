"""The most informative design of a simulator that has no gradient.

Three ways, by what `method` says:

    "posterior"   A posterior network q(theta | y, xi) is trained on stored simulations at designs over the space. At
                  any design, fresh simulations then give the Barber-Agakov lower bound with its standard error, and a
                  black-box search maximises it, in rounds: see `kerasbed.search.posterior_rounds`.
    "bracket"     Where the simulator has a likelihood: the prior contrastive lower bound, maximised by the search.
    "likelihood"  A learned likelihood q(y | theta, xi) from stored simulations is reparameterised, y = f(z; theta, xi),
                  so that the design has a gradient although the simulator has none: `DesignModel` learns the design.

Draws are common to all designs, so that differences between designs are paired. An EIG under a learned likelihood has
no direction. So whatever the way, the design found is certified on fresh simulations of the *real* simulator: by a
bracket where there is a likelihood, else by the lower bound of a posterior network, which holds for any network.

References: Barber and Agakov (2003); Foster et al. (2019, 2020); Kleinegesse and Gutmann (2020) for black boxes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kerasbed import backend, eig
from kerasbed.backend import functions, locks, numerics, streams
from kerasbed.backend.streams import draw_seed
from kerasbed.backend.validation import checked, integer_seed, optional, positive_integer, several
from kerasbed.designs import Design
from kerasbed.designs.base import refuse_policy
from kerasbed.eig import EIGEstimate
from kerasbed.eig.nested_bounds import Contributions
from kerasbed.model.design_model import DesignModel
from kerasbed.networks.density_fit import FUSED_STEPS
from kerasbed.search import densities_over_designs as learned
from kerasbed.search.black_box import BlackBoxSearch
from kerasbed.search.posterior_rounds import PosteriorRounds, posterior_contributions
from kerasbed.simulators.kept_outcomes import recorded
from kerasbed.simulators.simulator import Simulator
from kerasbed.simulators.symmetry import entries_are_exchangeable, entries_are_separate

METHODS = ("posterior", "bracket", "likelihood")


@dataclass(frozen=True)
class BlackBoxDesign:
    """A design for a black box.

    Attributes:
        design: its values. estimate: `EIGEstimate` at it, from fresh simulations of the real simulator.
        method: how it was found. search: the `BlackBoxSearch`, or None where the design was learned by gradient.
        learned: the posterior or the learned simulator that was used, or None.

    Example:
        >>> estimate = kb.EIGEstimate(lower=1.04, lower_se=0.01, upper=1.06, upper_se=0.01, method="bracket")
        >>> found = kb.search.BlackBoxDesign(np.array([0.5, 0.5]), estimate, "bracket", search=None, learned=None)
        >>> found.estimate.lower, found.design  # what `kb.search.design_black_box` returns
        (1.04, array([0.5, 0.5]))
    """

    design: Any
    estimate: EIGEstimate
    method: str
    search: BlackBoxSearch | None
    learned: Any


@checked(
    budget=positive_integer,
    seed=optional(integer_seed),
    num_stored=positive_integer,
    num_outer=positive_integer,
    num_inner=several,
    steps=positive_integer,
    batch_size=positive_integer,
)
def design_black_box(
    simulator: Simulator,
    design: Design,
    budget: int = 100,
    *,
    seed: int | None = 0,
    method: str | None = None,
    num_stored: int = 65_536,
    num_outer: int = 2048,
    num_inner: int = 4096,
    steps: int = 6000,
    batch_size: int = 256,
    exchangeable: bool | None = None,
    path: str | Path | None = None,
    **options: Any,
) -> BlackBoxDesign:
    """Find the most informative design of a simulator whose `outcome` need not be differentiable.

    Args:
        simulator: `kerasbed.Simulator`; inside `outcome` anything may run, NumPy or an external program.
        design: the design space.
        budget: EIG evaluations of the search; not used by "likelihood".
        seed: of everything; None draws one.
        method: "posterior", "bracket" or "likelihood"; None: "bracket" where the simulator has a likelihood, else
            "posterior".
        num_stored: simulations stored for training a network. num_outer: simulations of one EIG evaluation.
        num_inner: inner draws of the bracket.
        steps, batch_size: training of the networks.
        exchangeable: whether the order of the entries has no effect, see `BlackBoxSearch`; None finds out
            (`kerasbed.simulators.symmetry`). A posterior network then learns one order only, and the design found is
            sorted.
        path: where the search is saved after every evaluation. What `outcome` returned is kept beside it, in the folder
            `<path>.simulations`, so that a call that was stopped goes on when it is made again, and simulates nothing
            twice. `outcome` must then depend on nothing but its arguments; a seed of None is taken to be 0.
        **options: of `BlackBoxSearch`: `batch_size` excepted.

    Raises:
        ValueError: an unknown method, or "bracket" without a likelihood.
        PolicyError: the design is a policy.
        FileError: `path` holds a search of another problem, simulations of another simulator, or something else.
        LockedError: another process is at work there.

    Example:
        >>> found = kb.search.design_black_box(
        ...     kb.problems.LinearGaussian(), kb.designs.Simplex(2), budget=8, num_outer=256, num_inner=256
        ... )
        >>> found.method, found.design.round(1)
        ('bracket', array([0.5, 0.5]))
    """
    refuse_policy("design", design)
    seed = (draw_seed() if path is None else 0) if seed is None else seed
    method = method or ("bracket" if simulator.has_likelihood else "posterior")
    if method not in METHODS:
        raise ValueError(f"method is {method!r}, but one of {METHODS} was expected.")
    if method == "bracket" and not simulator.has_likelihood:
        raise ValueError("The simulator has no log_likelihood, which method='bracket' needs; use 'posterior'.")
    asked = _Asked(budget, seed, method, num_stored, num_outer, num_inner, steps, batch_size, exchangeable, options)
    if path is None:
        return _found(simulator, design, asked)
    simulations = Path(f"{path}.simulations")
    with locks.hold(simulations):
        asked.options["path"] = path
        return _found(recorded(simulator, simulations), design, asked)


class _Asked(NamedTuple):
    """What `design_black_box` was asked for; see there."""

    budget: int
    seed: int
    method: str
    num_stored: int
    num_outer: int
    num_inner: int
    steps: int
    batch_size: int
    exchangeable: bool | None
    options: dict


def _found(simulator, design, asked: _Asked) -> BlackBoxDesign:
    budget, seed, method, num_stored, num_outer, num_inner, steps, batch_size, exchangeable, options = asked
    stored_seed, search_seed, fresh_seed = streams.integers(seed, 3)
    training = {"steps": steps, "batch_size": batch_size, "seed": seed}
    if exchangeable is None:
        exchangeable = entries_are_exchangeable(simulator, design, search_seed)
    if method == "likelihood":
        separate = exchangeable and entries_are_separate(simulator, design, search_seed)
        stored = learned.simulate_over_space(simulator, design, num_stored, stored_seed)
        values, bound, surrogate = _by_gradient(simulator, design, stored, separate, training)
        return BlackBoxDesign(values, bound(values, 4 * num_outer, fresh_seed), method, None, surrogate)
    options = {"noise": 0.0, "exchangeable": exchangeable, "seed": seed} | options
    if method == "bracket":
        contributions, network = Contributions(simulator, num_outer, num_inner), None
        search = BlackBoxSearch(
            lambda values: numerics.mean_and_error(contributions.at(values, search_seed)[0]), design, **options
        )
        values = search.run(budget).design
    else:
        rounds = PosteriorRounds(simulator, design, exchangeable, num_outer, (stored_seed, search_seed), options)
        search, network = rounds.run(budget, num_stored, training)
        values = rounds.in_order(search.best.design)
    estimate = _certificate(simulator, network, values, 4 * num_outer, num_inner, fresh_seed)
    return BlackBoxDesign(values, estimate, method, search, network)


def _certificate(simulator, posterior, values, num, num_inner, seed) -> EIGEstimate:
    if simulator.has_likelihood:
        return eig.bracket(simulator, values, num_outer=num, num_inner=4 * num_inner, seed=seed)
    lower, error = numerics.mean_and_error(posterior_contributions(posterior, simulator, values, num, seed))
    settings = {"num_samples": num, "seed": seed}
    method = f"Barber-Agakov on {num} simulations, posterior over designs"
    return EIGEstimate(lower, error, method=method, settings=settings)


def _by_gradient(simulator, design, stored, separate, training):
    """The design learned on a learned likelihood, and a bound by real simulations."""
    likelihood = learned.fit_likelihood(simulator, design, stored, separate, **training)
    surrogate = learned.LearnedSimulator(likelihood)
    with functions.kept():
        config = design.get_config() | {"initial": None, "seed": training["seed"], "name": None}
        space = type(design).from_config(config)
    with backend.wide_simulation(likelihood.wide):
        model = DesignModel(surrogate, space, seed=training["seed"])
    model.compile(steps_per_execution=FUSED_STEPS)
    model.fit(epochs=1, steps_per_epoch=training["steps"] // 2, batch_size=training["batch_size"], verbose=0)

    def bound(values, num, seed):
        if simulator.has_likelihood:
            return eig.bracket(simulator, values, num_outer=num, num_inner=16_384, seed=seed)
        lower, error = numerics.mean_and_error(posterior_contributions(model.posterior, simulator, values, num, seed))
        return EIGEstimate(lower, error, method=f"Barber-Agakov on {num} simulations, posterior at the design")

    return space.numpy(), bound, surrogate
