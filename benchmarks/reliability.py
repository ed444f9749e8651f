"""Reliability: nothing is lost by a kill, nobody gets in by a file, and calls end in an answer.

    KERAS_BACKEND=jax python benchmarks/reliability.py                      # everything
    python benchmarks/reliability.py R3 --json reliability.json             # some parts
    python benchmarks/reliability.py R1 --kills 3                           # fewer kills

Every part runs in a process of its own. R1 kills at random moments, of which everything recovers; R2 two writers on one
path; R3 damaged and hostile files; R4 malformed calls; R5 memory over many calls; R6 threads beside a training.
"""

import parts
from parts import Part

PARTS = {
    "R1": Part("kills", "resume", ("R1",), takes_options=True),
    "R1/checkpoint": Part("kills", "checkpoint", ("R1/checkpoint",), takes_options=True),
    "R1/search": Part("kills", "search", ("R1/search",), takes_options=True),
    "R1/run": Part("kills", "command", ("R1/run",), takes_options=True),
    "R2": Part("writers", "two_writers", ("R2",)),
    "R3": Part("hostile", "hostile_files", ("R3", "R3/bombs", "R3/states")),
    "R4": Part("calls", "malformed_calls", ("R4",)),
    "R5": Part("memory", "flat_memory", ("R5",)),
    "R6": Part("memory", "threads", ("R6",)),
}
# What must be there whatever the parts above become.
REQUIRED = ("R1", "R2", "R3", "R4", "R5", "R6")


def add_arguments(parser) -> tuple[str, ...]:
    parser.add_argument("--kills", default="20", help="of each kind, in R1 (default %(default)s)")
    return ("kills",)


if __name__ == "__main__":
    parts.main(__file__, "reliability_cases", PARTS, REQUIRED, "reliability", __doc__, add_arguments)
