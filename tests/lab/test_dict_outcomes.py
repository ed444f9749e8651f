"""A laboratory whose outcomes are dicts: the same recommendations as with one array, and tables with their names."""

import numpy as np
import pandas as pd
import pytest

import kerasbed as kb
from tests.dict_experiments import NamedTrial, Trial, joined

SPACE = kb.designs.Box((1,), -1.0, 1.0)
COLUMNS = ["answer 1", "answer 2", "rt 1", "rt 2", "rt 3"]
MADE = {"answer": np.array([0.4, -0.9]), "rt": np.array([0.5, 1.4, 0.2])}


def lab(simulator, path=None):
    return kb.Experiment(simulator, SPACE, path=path, seed=0)


def test_a_round_with_a_dict_is_one_with_an_array(tmp_path):
    one, two = lab(Trial()), lab(NamedTrial(), tmp_path / "run.json")
    with two:
        design = one.recommend()
        np.testing.assert_allclose(two.recommend(), design, atol=1e-6)
        one.add_measurements({"design": design, "outcome": joined(MADE)})
        two.add_measurements({"design": design, "outcome": MADE})
        np.testing.assert_allclose(two.recommend(), one.recommend(), atol=1e-6)
        np.testing.assert_allclose(two.posterior(50)["skill"], one.posterior(50)["skill"], rtol=1e-6, atol=1e-8)
        table = two.table()
        assert table.columns.tolist() == ["trial", "status", "design", *COLUMNS, "recommended", "gain", "by"]
        np.testing.assert_array_equal(table.loc[0, COLUMNS].astype(float), joined(MADE))
    with lab(NamedTrial(), tmp_path / "run.json") as again:  # the record knows the outcomes
        assert again.table()[COLUMNS].equals(table[COLUMNS])
    with pytest.raises(kb.errors.FileError, match=r"outcome_shape: {'answer': .* there, .* here"):
        lab(Trial(), tmp_path / "run.json")


TOLD = {
    "a dict": {"design": 0.5, "outcome": MADE},
    "entries beside the design": {"design": 0.5} | MADE,
    "a list of dicts": [{"design": 0.5, "outcome": MADE}],
    "a table": pd.DataFrame([dict(zip(["design", *COLUMNS], [0.5, *joined(MADE)], strict=True))]),
    "several": {"design": [0.5], "outcome": {name: values[None] for name, values in MADE.items()}},
}


@pytest.fixture(scope="module")
def session():
    return lab(NamedTrial()).session


@pytest.mark.one_backend
@pytest.mark.parametrize("form", TOLD)
def test_measurements_come_in_every_form(form, session):
    (row,) = session.reader.entries(TOLD[form])
    np.testing.assert_array_equal(row.outcome, joined(MADE))
    np.testing.assert_array_equal(row.design, [0.5])


REFUSED = {
    "an array": ({"design": 0.5, "outcome": joined(MADE)}, r"outcome is ndarray, but a dict with \['answer', 'rt'\]"),
    "other names": ({"design": 0.5, "outcome": {"rt": MADE["rt"]}}, r"outcome is a dict with \['rt'\]"),
    "one entry missing": ({"design": 0.5, "rt": MADE["rt"]}, r"\['answer 1', 'answer 2'\] are missing"),
    "another shape": ({"design": 0.5, "outcome": MADE | {"rt": [1.0, 2.0]}}, r"rt has shape \(2,\)"),
    "unequal rows": ({"design": 0.5, "outcome": MADE | {"rt": np.ones((2, 3))}}, r"the outcome have \[1, 2\] rows"),
}


@pytest.mark.one_backend
@pytest.mark.parametrize("form", REFUSED)
def test_what_does_not_fit_is_refused(form, session):
    given, message = REFUSED[form]
    with pytest.raises(kb.errors.HistoryError, match=message):
        session.reader.entries(given)


@pytest.mark.one_backend
def test_entries_with_the_names_of_other_columns_are_refused():
    class Clash(NamedTrial):
        def outcome(self, parameters, design, noise):
            return {"status": noise}

        def log_likelihood(self, outcome, parameters, design):
            return (outcome["status"] * 0.0).sum(-1) + parameters["skill"][..., 0] * 0.0

    with pytest.raises(kb.errors.ArgumentError, match=r"\['status'\] are names of other columns"):
        lab(Clash())
