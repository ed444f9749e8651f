"""The verdict after `fit`: each fault raises its alarm, a healthy training raises none, nothing is compiled twice."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed.backend import programs
from kerasbed.model.diagnosis import training
from kerasbed.model.diagnosis.record import Group, TrainingRecord
from tests import toys

STEPS = {"epochs": 2, "steps_per_epoch": 100, "batch_size": 64, "verbose": 0}


class Signal(kb.GaussianSimulator):
    """y = a d + offset + 0.3 e: the EIG 0.5 log(1 + (d / 0.3)^2) grows with |d|."""

    noise_shape, prior, offset = (1,), kb.Prior(a=stats.norm()), 0.0

    def mean(self, parameters, design):
        return parameters["a"] * design + self.offset

    def scale(self, parameters, design):
        return 0.3


def contrastive(simulator=None, design=None, **options):
    design = kb.designs.Box((1,), 0.0, 1.0, initial=[0.6]) if design is None else design
    objective = kb.objectives.PriorContrastive(127)
    return kb.DesignModel(Signal() if simulator is None else simulator, design, objective, seed=0, **options)


def alarms(model):
    return [finding.check for finding in model.diagnosis.alarms]


def test_a_healthy_training_raises_no_alarm_and_the_second_compiles_nothing():
    model = contrastive()
    history = model.fit(**STEPS)
    assert model.diagnosis.good, str(model.diagnosis)
    assert history.diagnosis is model.diagnosis
    compilations = programs.of(model.simulator).compilations
    model.fit(**STEPS)
    assert programs.of(model.simulator).compilations == compilations


@pytest.mark.one_backend
def test_the_verdict_is_in_the_log_and_can_be_left_out(caplog, monkeypatch):
    monkeypatch.setattr("kerasbed.backend.reporting.LOGGER.propagate", True)
    model = contrastive()
    model.compile(design_optimizer=keras.optimizers.Adam(0.0))
    model.fit(**STEPS)
    assert alarms(model)[0] == "movement"
    assert "did not move" in caplog.text
    caplog.clear()
    history = model.fit(**STEPS, diagnose=False)
    assert model.diagnosis is None
    assert not hasattr(history, "diagnosis")
    assert not caplog.text


def test_a_design_at_the_wrong_end_meets_better_ones():
    model = contrastive(design=kb.designs.Box((1,), 0.0, 1.0, initial=[0.05]))
    model.compile(design_optimizer=keras.optimizers.SGD(1e-6))
    model.fit(**STEPS)
    finding = model.diagnosis["other designs"]
    assert finding.verdict == "alarm"
    best = 0.5 * np.log1p((1.0 / 0.3) ** 2) - 0.5 * np.log1p((0.05 / 0.3) ** 2)
    assert 0.5 * best < finding.value < best + 4.0 * finding.error


def test_a_choice_is_compared_with_its_exchanges():
    model = contrastive(design=kb.designs.Choice((1,), [0.1, 0.5, 1.0], seed=0))
    model.fit(**STEPS)
    assert model.design.numpy() == [1.0]
    assert model.diagnosis["other designs"].verdict == "good"


def test_a_fixed_design_without_a_network_has_nothing_to_learn():
    model = contrastive(design=kb.designs.Box((1,), 0.0, 1.0, initial=[0.5], trainable=False))
    with pytest.raises(ValueError, match="nothing to learn"):
        model.fit(**STEPS)


def test_no_rival_is_over_the_budget():
    design = kb.designs.Box((1,), 0.0, 1.0, initial=[0.49])
    model = contrastive(design=design, cost=lambda design: design[..., 0], budget=0.5)
    model.fit(**STEPS)
    finding = model.diagnosis["other designs"]
    assert finding.verdict == "good", finding


def test_a_gap_to_the_contrastive_bound_is_seen():
    objective = kb.objectives.PriorContrastive(1)  # cannot show more than log 2
    design = kb.designs.Box((1,), 0.0, 1.0, initial=[0.9])
    model = kb.DesignModel(Signal(), design, objective, seed=0)
    model.fit(**STEPS)
    finding = model.diagnosis["gap"]
    assert finding.verdict == "alarm"
    assert "num_contrastive" in finding.remedy
    exact = 0.5 * np.log1p((model.design.numpy()[0] / 0.3) ** 2)
    assert abs(finding.value + model.history.history["eig"][-1] - exact) < 4.0 * finding.error + 0.02


def test_an_offset_that_float32_cannot_hold_is_seen():
    model = contrastive()
    model.simulator.offset = 3e6  # after the model has looked
    model.fit(**STEPS)
    assert "number range" in alarms(model)


def test_experiments_that_fail_do_not_blind_the_checks():
    """A twentieth of the parameters fails: the others still tell the learned design from better ones."""

    class Failing(Signal):
        def mean(self, parameters, design):
            return ops.where(parameters["a"] > 1.645, np.nan, parameters["a"] * design)

    def trained():
        model = contrastive(Failing(), kb.designs.Box((1,), 0.0, 1.0, initial=[0.05]))
        model.compile(design_optimizer=keras.optimizers.SGD(1e-6))
        model.fit(**STEPS)
        return model

    with pytest.warns(kb.errors.NumberRangeWarning):
        model = trained()
    assert model.diagnosis["draws"].verdict == "alarm"
    assert model.diagnosis["other designs"].verdict == "alarm"
    assert np.isfinite(model.diagnosis["gap"].value)


@pytest.mark.one_backend
def test_few_steps_of_a_network_are_called_brief():
    model = toys.line_model(depth=2)
    model.fit(epochs=1, steps_per_epoch=4, verbose=0)
    assert alarms(model) == ["length"]
    assert model.diagnosis["gap"].verdict == "inconclusive"


@pytest.mark.one_backend
def test_without_a_likelihood_it_says_what_was_not_checked(lean_networks):
    simulator = kb.Simulator.from_functions(
        kb.Prior(a=stats.norm()), lambda parameters, design, noise: parameters["a"] * design + 0.3 * noise
    )
    model = kb.DesignModel(simulator, kb.designs.Box((1,), 0.0, 1.0, initial=[0.6]), seed=0)
    model.fit(epochs=1, steps_per_epoch=2, verbose=0)
    assert model.diagnosis["other designs"].verdict == "inconclusive"
    assert "log_likelihood" in model.diagnosis["gap"].remedy


def test_an_edge_is_named_and_no_alarm():
    model = contrastive()
    model.fit(**(STEPS | {"epochs": 3}))
    finding = model.diagnosis["edge"]
    assert finding.verdict == "good"
    assert "[0]" in finding.found


# -- from records that are made up -------------------------------------------------------------------------------------


class Made(TrainingRecord):
    """A record of group means that are given."""

    def __init__(self, values):
        super().__init__()
        self.given = [Group(50 * (k + 1), 50, value) for k, value in enumerate(values)]

    groups = property(lambda self: self.given)
    steps = property(lambda self: self.given[-1].end)


def test_a_rising_bound_is_told_from_a_level_one():
    """False alarms of a level bound: at most 6e-5 each by Student's law at four standard errors, 400 records: 2.5%."""
    rng = np.random.default_rng(0)
    level = [training.slope(Made(2.0 + 0.05 * rng.standard_normal(40))) for _ in range(400)]
    assert not any(finding.verdict == "alarm" for finding in level)
    rising = training.slope(Made(2.0 + 0.05 * np.arange(40) + 0.02 * rng.standard_normal(40)))
    assert rising.verdict == "alarm"
    assert abs(rising.value - 0.05 * 9) < 4.0 * rising.error
    assert training.slope(Made([1.0, 2.0])).verdict == "inconclusive"


def test_groups_undo_the_running_means_of_epochs():
    record = TrainingRecord()
    record._seen = [(0, 50, 1.0), (0, 100, 1.5), (1, 50, 3.0)]
    assert [group.eig for group in record.groups] == [1.0, 2.0, 3.0]
    assert [group.end for group in record.groups] == [50, 100, 150]


@pytest.mark.parametrize(("skipped", "left_out", "expected"), [(0, 0, []), (3, 0, ["steps"]), (0, 200, ["draws"])])
def test_steps_and_draws_that_do_not_count_are_judged_by_their_share(skipped, left_out, expected):
    findings = training.steps_taken(Made([1.0] * 4), skipped, left_out, 200 * 64)
    assert [finding.check for finding in findings if finding.verdict == "alarm"] == expected


def test_the_table_has_a_row_for_each_check():
    finding = kb.Finding("steps", "good", "0 of 10 steps.", value=0.0)
    found = kb.Diagnosis((finding, kb.Finding("gap", "alarm", "Too wide.", "Train longer.")))
    assert found.table.loc["gap", "remedy"] == "Train longer."
    assert not found.good
    assert str(found).splitlines()[0] == "Diagnosis of the training: 2 checks, 1 alarm."
    with pytest.raises(KeyError, match="there are"):
        found["slope"]
