"""Adaptive design: what policies reach, what certifies them, and what they cost.

    KERAS_BACKEND=jax python benchmarks/adaptive.py                       # everything, hours
    python benchmarks/adaptive.py A1 A4 A9 --json adaptive.json           # some parts

Every part runs in a process of its own, those of A7 on each backend. A1 the death process, exact; A2 location finding
with thirty measurements, certified, with the time that it took; A3 brackets that close, against each other and against
the truth; A4 to A6 problems with a known answer; A7 agreement of the backends; A8 calibration after every number of
measurements; A9 the time of a decision.
"""

import parts
from parts import ALL, Part

PARTS = {
    "A1": Part("training", "death_process", ("A1",)),
    "A2": Part("training", "location_finding", ("A2", "A2/sPCE", "A2/random")),
    "A2/13 minutes": Part("training", "location_finding_longer", ("A2/13 minutes",)),
    "A2/second seed": Part("training", "location_finding_longer_again", ("A2/13 minutes, second seed",)),
    "A2/third seed": Part("training", "location_finding_longer_at_last", ("A2/13 minutes, third seed",)),
    "A2/static": Part("training", "location_finding_static", ("A2/static",)),
    "A2/elsewhere": Part("training", "location_finding_elsewhere", ("A2/elsewhere",), ("tensorflow", "torch")),
    "A3": Part("brackets", "closing", ("A3", "A3/network", "A3/agree")),
    "A3/untrained": Part("brackets", "untrained", ("A3/untrained",)),
    "A3/exact": Part("brackets", "exact_cases", ("A3/death process", "A3/linear")),
    "A3/coverage": Part("brackets", "coverage", ("A3/coverage",)),
    "A4": Part("problems", "pendulum", ("A4", "A4/random")),
    "A5": Part(
        "problems", "prey", tuple(f"{id}{name}" for id in ("A5", "A5/exact") for name in ("", "/greedy", "/random"))
    ),
    "A6": Part("problems", "linear_gaussian", ("A6", "A6/greedy", "A6/static")),
    "A7": Part("agreement", "trajectories", ("A7", "A7/death process"), ALL),
    "A7/float64": Part("agreement", "in_float64", ("A7/float64",), ALL),
    "A7/gradients": Part("agreement", "gradients", ("A7/gradients",), ALL),
    "A7/compiling": Part("agreement", "compiling", ("A7/compiling",), ALL),
    "A8": Part("posteriors", "death_process", ("A8", "A8/death process, 1", "A8/death process, 2")),
    "A8/location finding": Part(
        "posteriors",
        "location_finding",
        ("A8/location finding", "A8/location finding/location finding, 1", "A8/location finding/location finding, 2"),
    ),
    "A9": Part("training", "decisions", ("A9",)),
}
# What must be there whatever the parts above become.
REQUIRED = ("A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8", "A9")

if __name__ == "__main__":
    parts.main(__file__, "adaptive_cases", PARTS, REQUIRED, "adaptive", __doc__)
