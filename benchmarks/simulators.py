"""Simulators that are differential equations: how exact they are, their gradients and costs; first uses and pictures.

    KERAS_BACKEND=jax python benchmarks/simulators.py                # everything, minutes
    python benchmarks/simulators.py O1 O3 --json simulators.json     # some parts

Every part runs in a process of its own, O1 and O2 on each backend. O1 solutions at defaults against SciPy's, on time
grids that are stated; O2 the EIG of two compartments and its gradient in times and dose, against differences of a
closed form; O3 how long a model of a hundred steps takes to build on JAX, and what a step costs beside one that is
written by hand; O4 the first code of four people with simulators of their own, to its end; O5 the pictures of every
kind of design and outcome, and what is wrong with their texts and axes.
"""

import parts
from parts import ALL, Part

PARTS = {
    "O1": Part("solutions", "against_scipy", ("O1", "O1/linear", "O1/Lotka-Volterra", "O1/two compartments"), ALL),
    "O1/error": Part("solutions", "stated_errors", ("O1/error",)),
    "O2": Part("gradients", "two_compartments", ("O2", "O2/times", "O2/dose"), ALL),
    "O3": Part("costs", "building", ("O3", "O3/two compartments", "O3/Lotka-Volterra")),
    "O3/step": Part("costs", "step", ("O3/step", "O3/step, gradient")),
    "O3/unrolled": Part("costs", "unrolled", ("O3/unrolled",)),
    "O4": Part(
        "strangers",
        "first_results",
        ("O4", "O4/pharmacologist", "O4/psychologist", "O4/bayesflow_user", "O4/slow_program"),
        ALL,
    ),
    "O5": Part(
        "pictures",
        "drawn",
        (
            "O5",
            "O5/paths",
            "O5/experiments",
            "O5/registry",
            "O5/posteriors",
            "O5/bounds",
            "O5/fits, searches, sessions",
        ),
    ),
}
# What must be there whatever the parts above become.
REQUIRED = ("O1", "O2", "O3", "O4", "O5")

if __name__ == "__main__":
    parts.main(__file__, "simulators_cases", PARTS, REQUIRED, "simulators", __doc__)
