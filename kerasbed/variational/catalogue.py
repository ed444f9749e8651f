"""The variational families that are known by a name."""

from kerasbed.variational.beta import Beta
from kerasbed.variational.families import Family
from kerasbed.variational.flow import Flow
from kerasbed.variational.gaussian import Diagonal, Full, LowRank

FAMILIES = {"diagonal": Diagonal, "full": Full, "low_rank": LowRank, "beta": Beta, "flow": Flow}


def resolve(family: str | Family) -> Family:
    """A family from its name or a family object.

    Raises:
        ValueError: an unknown name.
    """
    if isinstance(family, Family):
        return family
    if family not in FAMILIES:
        raise ValueError(
            f"family is {family!r}, but one of {sorted(FAMILIES)} or a family object was expected, "
            "e.g. kb.variational.LowRank(rank=2)."
        )
    return FAMILIES[family]()
