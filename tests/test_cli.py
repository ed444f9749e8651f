"""The `kerasbed` command."""

import csv

import keras
import numpy as np
import pytest

import kerasbed as kb
from kerasbed import backend, cli
from kerasbed.lab import run
from kerasbed.problems import REGISTRY

WITH_XLA = True
OTHER = "jax" if backend.NAME != "jax" else "torch"


pytestmark = pytest.mark.one_backend


@pytest.fixture
def small(monkeypatch):
    """A run of a second: few steps and few draws."""
    monkeypatch.setattr(cli, "STEPS_PER_EPOCH", 10)
    monkeypatch.setattr(run, "EIG_DRAWS", 1000)
    monkeypatch.setattr(run, "POSTERIOR_DRAWS", 200)


def _rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_list_names_every_experiment(capsys):
    assert cli.main(["list"]) == 0
    printed = capsys.readouterr().out
    for name, experiment in REGISTRY.items():
        assert f"{name} " in printed
        assert experiment.summary in printed


def test_run_writes_what_it_learned(small, tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    assert cli.main(["run", "michaelis-menten", "--epochs", "3", "--seed", "5", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == sorted(run.FILES)

    rows = _rows(out / "design.csv")
    start = np.array([float(row[run.STARTING]) for row in rows])
    learned = np.array([float(row[run.LEARNED]) for row in rows])
    np.testing.assert_allclose(start, REGISTRY["michaelis-menten"].design(seed=5).numpy(), rtol=1e-6)
    assert np.abs(learned - start).max() > 1.0
    model = kb.load(out / "model.keras", simulator=kb.problems.MichaelisMenten())
    np.testing.assert_allclose(model.design.numpy(), learned, rtol=1e-6)

    for name, value in ((run.STARTING, start), (run.LEARNED, learned)):
        assert f"{name}: {kb.eig.grid(model.simulator, value, num_samples=1000)}" in printed
    history = _rows(out / "history.csv")
    assert [row["epoch"] for row in history] == ["1", "2", "3"]
    assert all(np.isfinite(float(row["eig"])) for row in history)


class Implicit(kb.Simulator):
    """No likelihood, so no grid: both designs get a bound."""

    prior = kb.Prior(rate=kb.problems.MichaelisMenten.prior.blocks["theta_1"].frozen)

    def outcome(self, parameters, design, noise):
        return keras.ops.exp(-parameters["rate"] * design) + 0.05 * noise


def test_without_likelihood_both_designs_get_a_bound(monkeypatch):
    """The second network is trained at the starting design, which stays where it is, for as long as the first."""
    fits = []
    monkeypatch.setattr(run, "EIG_DRAWS", 100)
    monkeypatch.setattr(kb.DesignModel, "fit", lambda model, **sizes: fits.append((model, sizes)))
    entry = kb.problems.ReadyExperiment(
        Implicit, lambda **options: kb.designs.Box(shape=(2,), low=0.0, high=10.0, **options), "two times"
    )
    start, learned = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    model = kb.DesignModel(Implicit(), entry.design(initial=learned), seed=0)
    with pytest.warns(UserWarning, match="before training"):
        estimates, gain = run.compared(model, {run.STARTING: start, run.LEARNED: learned}, entry, 3, 10)
    ((fixed, sizes),) = fits
    assert sizes == {"epochs": 3, "steps_per_epoch": 10, "verbose": 0}
    np.testing.assert_allclose(fixed.design.numpy(), start, rtol=1e-6)
    assert not fixed.design.trainable_variables
    assert all(str(estimate).startswith("EIG >= ") for estimate in estimates.values())
    difference = estimates[run.LEARNED].lower - estimates[run.STARTING].lower
    assert gain.startswith(f"{difference:.4f} +- ")
    assert "difference of lower bounds" in gain


def test_backend_runs_in_a_process_of_its_own(tmp_path, capfd):
    """The command is run again, on the other backend; a file in the way of --out ends it early, with its exit code."""
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    code = cli.main(["run", "michaelis-menten", "--backend", OTHER, "--out", str(in_the_way)])
    captured = capfd.readouterr()
    assert f"michaelis-menten on {OTHER}" in captured.out
    assert code == 2
    assert "no folder can be made" in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required"),
        (["run"], "required"),
        (["run", "michaelis"], "invalid choice: 'michaelis'"),
        (["run", "michaelis-menten", "--epochs", "0"], "got '0', but a positive integer was expected"),
        (["run", "michaelis-menten", "--epochs", "many"], "got 'many', but a positive integer was expected"),
        (["run", "michaelis-menten", "--seed", "-1"], "an integer of at least 0 was expected"),
        (["run", "michaelis-menten", "--backend", "numpy"], "invalid choice: 'numpy'"),
        (["run", "michaelis-menten", "--seeds", "1"], "unrecognized arguments: --seeds"),
    ],
)
def test_bad_input_says_what_was_expected_and_exits_with_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_backend_that_is_not_installed_is_named(monkeypatch, capsys):
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["run", "michaelis-menten", "--backend", OTHER])
    assert stopped.value.code == 2
    assert f"pip install kerasbed[{OTHER}]" in capsys.readouterr().err


def test_table_names_entries_of_dict_designs():
    values = {"a": {"times": np.array([1.0, 2.0]), "dose": np.array([3.0])}}
    assert run.design_table(values)["entry"].tolist() == ["times 1", "times 2", "dose 1"]


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_registered_experiments_fit_together(name):
    """The space takes what every space takes, and the simulator takes its designs."""
    experiment = REGISTRY[name]
    design = experiment.design(seed=1)
    outcome = experiment.simulator().simulate(5, design, seed=0)["outcome"]
    assert np.isfinite(outcome).all()
    if design.is_adaptive:
        return
    fixed = experiment.design(initial=design.numpy(), trainable=False)
    np.testing.assert_allclose(fixed.numpy(), design.numpy(), rtol=1e-5)
