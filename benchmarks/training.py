"""Training: designs that are found, bounds that are tight, and a verdict that knows where they are not.

    KERAS_BACKEND=jax python benchmarks/training.py                            # everything
    python benchmarks/training.py V2 V9 D1 --processes 2 --json training.json  # some parts
    python benchmarks/training.py N1 --against ../before                       # Michaelis-Menten against a checkout

Every part runs in a process of its own, V2 and S2 on each backend. V and field: exact EIG at the designs that are
learned by default (V13: by what the verdict recommends) over the best one, V11 also bounds over their truth; N1 what
must not get worse; D1 to D3 the verdict on planted faults, on healthy trainings and on what went wrong once; S1 and S2
draws that fail and steps that cannot be taken.
"""

import parts
from parts import ALL, Part

FAULTS = (
    *("trained too briefly", "a rate of 0", "a plateau", "a wrong edge", "a network without the modes"),
    *("a NaN gradient", "failing draws", "a float32 offset"),
)
SIBLINGS = ("hurdle", "measuring_range", "rounding", "open_and_closed", "cut_points")

PARTS = {
    "V2": Part("rows", "weak_reading", ("V2",), ALL),
    "field/17": Part("rows", "failing_sensor", ("field/17",)),
    "field/11": Part("rows", "recipes", ("field/11",)),
    **{f"V2/{name}": Part("rows", name, (f"V2/{name}",)) for name in SIBLINGS},
    "V9": Part("rows", "heavy_tails", ("V9", "V9/t(2)")),
    "V11": Part("rows", "frequency", ("V11", "V11/one time", "V11/spike and slab", "V11/cost of a step")),
    "V13": Part("verdicts", "plateau", ("V13", "V13/seed 2", "V13/seed 3")),
    "V13/unseen grade": Part(
        "verdicts", "unseen_grade", tuple(f"V13/unseen grade{seed}" for seed in ("", "/seed 2", "/seed 3"))
    ),
    "ring": Part("rows", "tight_posteriors", ("ring", "location finding")),
    "N1": Part("rows", "michaelis_menten", ("N1", "N1/speed"), takes_options=True),
    "D1": Part("verdicts", "planted_faults", ("D1", *(f"D1/{name}" for name in FAULTS[1:]))),
    "D2": Part("verdicts", "healthy_trainings", ("D2",)),
    "D2/cost": Part("verdicts", "cost", ("D2/cost",)),
    "D3": Part("verdicts", "as_they_were", ("D3", "D3/V9", "D3/V13", "D3/V11")),
    "S1": Part("rows", "failing_draws", ("S1",)),
    "S2": Part("rows", "gradient_at_an_edge", ("S2",), ALL),
}
# What must be there whatever the parts above become.
REQUIRED = ("V2", "field/17", "field/11", "V9", "V11", "V13", "ring", "N1", "D1", "D2", "D3", "S1", "S2")


def add_arguments(parser) -> tuple[str, ...]:
    parser.add_argument("--against", metavar="PATH", help="N1: a checkout to compare with")
    return ("against",)


if __name__ == "__main__":
    parts.main(__file__, "training_cases", PARTS, REQUIRED, "training", __doc__, add_arguments)
