"""Figures at the edges of what an estimate can do: right, or said not to be. One table, one row for each id.

    KERAS_BACKEND=jax python benchmarks/figures.py                             # everything
    python benchmarks/figures.py V7 field/13                                   # some parts
    python benchmarks/figures.py --processes 2 --json figures.json
    python benchmarks/figures.py C2 --against ../before                        # speed against another checkout
    python benchmarks/figures.py C4 --tables results/                          # JSON files of the other benchmarks

Every part runs in a process of its own, V1, V5 and V6 on each backend. `judging` says when a row passes: a right
figure, or a warning or error that names the cause before a figure is shown. C1 is coverage over seeds
(`coverage_study.py`), C2 the speed that held before, C3 planted mutations (`mutations.py`), C4 the comparisons with
other libraries: their tables, made beforehand by `michaelis_menten.py`, `double_loop.py`, `variational.py` and
`acquisition.py --json`.
"""

import parts
from parts import ALL, Part

PARTS = {
    "V1": Part("ranges", "julian_date", ("V1", "V1/bracket", "V1/coverage"), ALL),
    "V1 offsets": Part("ranges", "offsets", ("V1/outcome offset", "V1/design offset", "V1/design range")),
    "V3": Part("likelihoods", "accepted", ("V3", "V3/censored", "V3/twenty trials")),
    "V4": Part("ranges", "orders_of_magnitude", ("V4",)),
    "V5": Part("priors", "two_narrow_modes", ("V5", "V5/width of a mode", "V5/edge of the support"), ALL),
    "V6": Part("priors", "jeffreys", ("V6",), ALL),
    "V7": Part("grids", "shares", ("V7", "V7/mass at the edges")),
    "V7b": Part("grids", "heavy_tails", ("V7b", "V7b/far outcome", "V7b/EIG")),
    "V8": Part("grids", "laplace", ("V8", "V8/correlated")),
    "V10": Part("priors", "square", ("V10", "V10/scatter over error")),
    "V12": Part(
        "grids",
        "upper_bounds",
        ("V12", "V12/scatter over error", "V12/compare", "V12/ten exp(EIG) inner draws"),
    ),
    "V14": Part("searches", "instruments", ("V14",)),
    "V15": Part("ranges", "contrastive_metric", ("V15",)),
    "field/01": Part("questions", "bioassay", ("field/01", "field/01 dose")),
    "field/02": Part(
        "questions",
        "dose_finding",
        (
            "field/02",
            "field/02 posterior",
            "field/02 bracket",
            "field/02 correlation",
            "field/02 correlation, posterior",
            "field/02 hierarchy",
            "field/02 hierarchy, posterior",
        ),
    ),
    "field/04": Part("questions", "threshold", ("field/04",)),
    "field/06": Part(
        "questions",
        "uniform_support",
        ("field/06", "field/06 check", "field/06 network", "field/06 posterior"),
    ),
    "field/09": Part(
        "questions",
        "two_stages",
        (
            "field/09",
            "field/09 design",
            "field/09 bracket",
            "field/09 bracket of u",
            "field/09 grid",
            "field/09 posterior",
        ),
    ),
    "field/13": Part("searches", "replicates", ("field/13", "field/13 box")),
    "field/15": Part("searches", "counts_under_a_budget", ("field/15", "field/15 budget 10")),
    "field/15b": Part("searches", "sixteen_times", ("field/15b",)),
    "C1": Part("standing", "coverage", ("C1",), takes_options=True),
    "C2": Part("standing", "speed", ("C2",), takes_options=True),
    "C3": Part("standing", "mutations", ("C3",), takes_options=True),
    "C4": Part("standing", "comparisons", ("C4",), takes_options=True),
}
# What must be there whatever the parts above become.
REQUIRED = (
    *("V1", "V3", "V4", "V5", "V6", "V7", "V7b", "V8", "V10", "V12", "V14", "V15"),
    *(f"field/{number}" for number in ("01", "02", "04", "06", "09", "13", "15", "15b")),
    *("C1", "C2", "C3", "C4"),
)


def add_arguments(parser) -> tuple[str, ...]:
    parser.add_argument("--against", metavar="PATH", help="C2: a checkout to compare the speed with")
    parser.add_argument("--tables", metavar="FOLDER", help="C4: folder with JSON files of the other benchmarks")
    return "against", "tables"


if __name__ == "__main__":
    parts.main(__file__, "figure_cases", PARTS, REQUIRED, "figures", __doc__, add_arguments)
