r"""When to stop: statements about the next measurement, about costs, or about the posterior.

    gain            the next measurement is expected to teach less, in nats
    gain_per_cost   .. less for each unit of what it costs
    total_cost      the next measurement would cost more than is left
    width           {name: w}: the central 95% of a parameter's posterior is at most w wide
    mass            {name: (low, high, p)}: at least p of the posterior lies in an interval

or a function of posterior draws, {name: (num, d)} -> bool.
"""

import numbers
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kerasbed.backend.errors import ArgumentError
from kerasbed.lab.beliefs import Belief, plain

CENTRAL = (0.025, 0.975)
RULES = ("gain", "gain_per_cost", "total_cost", "width", "mass")


def checked_rules(rules: Any, dims: Mapping[str, int]) -> dict[str, Any]:
    """Rules as a dict; a function has the name "function".

    Raises:
        ArgumentError: a rule is unknown, or names what is no parameter.
    """
    if rules is None:
        return {}
    if callable(rules):
        return {"function": rules}
    if not isinstance(rules, Mapping) or not set(rules) <= set(RULES):
        raise ArgumentError(
            f"stop_when is {rules!r}, but a dict of some of {list(RULES)}, or a function of posterior draws, was "
            'expected, e.g. {"gain_per_cost": 0.05} or {"width": {"threshold": 0.2}}.'
        )
    for rule in {"width", "mass"} & set(rules):
        if not isinstance(rules[rule], Mapping):
            raise ArgumentError(f"stop_when[{rule!r}] is {rules[rule]!r}, but a dict by parameters was expected.")
        if unknown := set(rules[rule]) - set(dims):
            raise ArgumentError(f"stop_when[{rule!r}] names {sorted(unknown)}, but the parameters are {list(dims)}.")
    for name, value in rules.get("width", {}).items():
        check_positive(f"stop_when['width'][{name!r}]", value)
    for name, value in rules.get("mass", {}).items():
        if not _is_statement(value):
            raise ArgumentError(
                f"stop_when['mass'][{name!r}] is {value!r}, but (low, high, probability) with low < high and a "
                "probability above 0 and at most 1 was expected."
            )
    for rule in set(rules) - {"width", "mass"}:
        check_positive(f"stop_when[{rule!r}]", rules[rule])
    return dict(rules)


def check_positive(name: str, value: Any) -> None:
    """Refuse what is no positive number.

    Raises:
        ArgumentError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not float(value) > 0.0:
        raise ArgumentError(f"{name} is {value!r}, but a positive number was expected.")


def _is_statement(value) -> bool:
    if np.shape(value) != (3,) or not all(isinstance(part, numbers.Real) for part in value):
        return False
    low, high, probability = value
    return low < high and 0.0 < probability <= 1.0


def cost_of(cost: Any, design: Any) -> float:
    """What one measurement costs.

    Args:
        cost: a number, or a function of a design.

    Raises:
        ArgumentError: it is negative or no number.
    """
    found = cost(design) if callable(cost) else cost
    try:
        value = float(np.sum(np.asarray(found, "float64")))
    except (TypeError, ValueError):
        value = np.nan
    if not 0.0 <= value < np.inf:
        told = f"cost at the design {plain(design)}" if callable(cost) else "cost"
        raise ArgumentError(f"{told} is {found!r}, but a number of at least 0 was expected.")
    return value


def reached(
    rules: Mapping[str, Any],
    belief: Belief,
    spent: float,
    price: Callable[[], float],
    value: Callable[[], float],
    draws: Callable[[], Any],
) -> str | None:
    """The first rule that is met, in words; None where none is.

    Args:
        rules: as `checked_rules` gives them.
        belief: what is known.
        spent: what the trials so far cost.
        price, value: cost and expected gain of the next one, found where they are needed.
        draws: of the posterior, likewise.
    """
    for name, most in rules.get("width", {}).items():
        if (found := width(belief, name)) <= most:
            return f"the central 95% of {name} is {found:.4g} wide, at most {most:.4g} as asked"
    for name, (low, high, least) in rules.get("mass", {}).items():
        if (found := belief.mass(name, low, high)) >= least:
            return f"{name} lies between {low:.4g} and {high:.4g} with probability {found:.4g}, at least {least:.4g}"
    if "function" in rules and bool(rules["function"](draws())):
        return "the function of posterior draws says so"
    if "total_cost" in rules and spent + price() > rules["total_cost"]:
        return f"{spent:.4g} of {rules['total_cost']:.4g} is spent, and the next costs {price():.4g}"
    return _by_gain(rules, price, value)


def _by_gain(rules, price, value) -> str | None:
    if "gain" in rules and (found := value()) < rules["gain"]:
        return f"the next measurement is expected to teach {found:.4g} nats, less than {rules['gain']:.4g}"
    if "gain_per_cost" in rules and (cost := price()) > 0.0 and (found := value() / cost) < rules["gain_per_cost"]:
        return f"the next measurement teaches {found:.4g} nats for its cost, less than {rules['gain_per_cost']:.4g}"
    return None


def width(belief: Belief, name: str) -> float:
    """Width of the central 95% of a parameter's posterior, of the widest of its coordinates."""
    low, high = belief.quantiles(name, CENTRAL)
    return float(np.max(high - low))
