"""The laboratory's loop: sessions that are killed, told late and taken back; against exact rules and a particle filter.

    KERAS_BACKEND=jax python benchmarks/lab.py                       # everything
    python benchmarks/lab.py L1 L4 --json lab.json                   # some parts
    python benchmarks/lab.py L5 --size small                         # fewer runs, for a look

Every part runs in a process of its own, L1 on JAX and torch. L1 a session killed after any call; L2 measurements in
disorder; L3 a record of another process, folder and backend; L4 a psychologist's trials against the exact rule; L5 a
sensor against a plain particle filter; L6 refinement of a policy; L7 stopping against the exact rule; L8 five hundred
trials.
"""

import parts
from parts import Part

PARTS = {
    "L1": Part("sessions", "killed", ("L1",), ("jax", "torch")),
    "L2": Part("sessions", "in_disorder", ("L2", "L2/grid", "L2/particles")),
    "L3": Part("sessions", "elsewhere", ("L3",)),
    "L4": Part("psychologist", "trials", ("L4", "L4/time", "L4/constant", "L4/random"), takes_options=True),
    "L5": Part("sensor", "peak", ("L5", "L5/time"), takes_options=True),
    "L6": Part("refinement", "refined", ("L6", "L6/shifted"), takes_options=True),
    "L7": Part("psychologist", "stopping", ("L7",), takes_options=True),
    "L8": Part("psychologist", "many_trials", ("L8", "L8/particles"), takes_options=True),
}
# What must be there whatever the parts above become.
REQUIRED = ("L1", "L2", "L3", "L4", "L5", "L6", "L7", "L8")


def add_arguments(parser):
    """The size of the parts that take long."""
    parser.add_argument("--size", choices=("small", "full"), default="full", help="of L4 to L8 (default %(default)s)")
    return ("size",)


if __name__ == "__main__":
    parts.main(__file__, "lab_cases", PARTS, REQUIRED, "lab", __doc__, add_arguments)
