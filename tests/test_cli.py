"""The `kerasbed` command."""

import csv
import io
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest

import kerasbed as kb
import kerasbed_command
from kerasbed import backend, cli
from kerasbed.lab import comparison, folder, run
from kerasbed.lab.progress import Progress
from kerasbed.model import resuming
from kerasbed.problems import REGISTRY
from tests import toys

WITH_XLA = True
OTHER = "jax" if backend.NAME != "jax" else "torch"


pytestmark = pytest.mark.one_backend


@pytest.fixture
def small(monkeypatch):
    """A run of a second: few steps and few draws."""
    monkeypatch.setattr(cli, "STEPS_PER_EPOCH", 10)
    monkeypatch.setattr(comparison, "DRAWS", 200)
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


def test_what_needs_no_backend_starts_none():
    """A process that imports Keras or a backend would take seconds for a list."""
    code = (
        "import sys, kerasbed_command\n"
        "assert kerasbed_command.main(['list']) == 0\n"
        "for words in (['--version'], ['--help'], ['run', '--help'], ['run', 'nothing']):\n"
        "    try:\n"
        "        kerasbed_command.main(words)\n"
        "    except SystemExit as end:\n"
        "        assert end.code == (2 if 'nothing' in words else 0)\n"
        "started = {'keras', 'kerasbed', 'jax', 'tensorflow', 'torch', 'numpy'} & set(sys.modules)\n"
        "assert not started, started\n"
    )
    environment = {"PYTHONPATH": str(toys.ROOT), "PATH": "", "KERAS_BACKEND": "none"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"kerasbed {kb.__version__}" in done.stdout.splitlines()
    assert "invalid choice: 'nothing'" in done.stderr


def test_summaries_are_those_of_the_registry():
    assert kerasbed_command.summaries() == {name: ready.summary for name, ready in REGISTRY.items()}


def test_run_writes_what_it_learned(small, tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    assert cli.main(["run", "michaelis-menten", "--epochs", "3", "--seed", "5", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == sorted([*run.FILES, folder.FILE])

    rows = _rows(out / "design.csv")
    start = np.array([float(row[run.STARTING]) for row in rows])
    learned = np.array([float(row[run.LEARNED]) for row in rows])
    np.testing.assert_allclose(start, REGISTRY["michaelis-menten"].design(seed=5).numpy(), rtol=1e-6)
    assert np.abs(learned - start).max() > 1.0
    model = kb.load(out / "model.keras", simulator=kb.problems.MichaelisMenten())
    np.testing.assert_allclose(model.design.numpy(), learned, rtol=1e-6)

    for name, value in ((run.STARTING, start), (run.LEARNED, learned)):
        assert f"{name}: {kb.eig.grid(model.simulator, value, num_samples=200)}" in printed
    history = _rows(out / "history.csv")
    assert [row["epoch"] for row in history] == ["1", "2", "3"]
    assert all(np.isfinite(float(row["eig"])) for row in history)


def _asked(out, *more):
    return ["run", "michaelis-menten", "--epochs", "3", "--seed", "5", "--out", str(out), *more]


def _numbers(out):
    """What a run has learned and how, without its pictures."""
    return [(out / name).read_bytes() for name in ("design.csv", "history.csv")]


def test_a_run_that_was_stopped_goes_on_bit_for_bit(small, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run, "write_pictures", lambda *_: None)  # which take most of the time, and are no numbers
    assert cli.main(_asked(tmp_path / "whole")) == 0

    keep = resuming.Training.keep

    def stopping(training, epoch):
        keep(training, epoch)
        if epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(resuming.Training, "keep", stopping)
        assert cli.main(_asked(tmp_path / "stopped")) == cli.STOPPED
    told = capsys.readouterr().out
    assert "stopped; go on with: kerasbed run michaelis-menten --epochs 3 --seed 5 --out" in told
    assert told.strip().endswith("--resume")
    kb.load(tmp_path / "stopped" / "model.keras")
    assert cli.main(_asked(tmp_path / "stopped", "--resume")) == 0
    assert _numbers(tmp_path / "stopped") == _numbers(tmp_path / "whole")
    assert cli.main(_asked(tmp_path / "stopped", "--resume")) == 0
    assert "has ended" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("left", "asked", "message"),
    [
        ("mine.txt", [], "is in use; go on with its run by --resume, begin anew by --overwrite"),
        ("mine.txt", ["--resume"], "holds no run that could go on"),
        ("run.json", ["--resume"], "run.json is no JSON"),
    ],
)
def test_a_used_folder_is_left_alone_in_one_line(tmp_path, capsys, left, asked, message):
    (tmp_path / left).write_text("mine")
    assert cli.main(_asked(tmp_path, *asked)) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(left, "mine")]


def test_another_run_does_not_go_on(tmp_path, capsys):
    with folder.opened(tmp_path, {"problem": "sir"}, resume=False, overwrite=False):
        assert cli.main(_asked(tmp_path, "--resume")) == 2
        assert "is being written by another object of this process" in capsys.readouterr().err
    assert cli.main(_asked(tmp_path, "--resume")) == 2
    assert "holds another run: problem is sir there" in capsys.readouterr().err
    with folder.opened(tmp_path, {"problem": "sir"}, resume=False, overwrite=True) as found:
        assert not found.finished


class Implicit(kb.Simulator):
    """No likelihood, so no grid: both designs get a bound."""

    prior = kb.Prior(rate=kb.problems.MichaelisMenten.prior.blocks["theta_1"].frozen)

    def outcome(self, parameters, design, noise):
        return keras.ops.exp(-parameters["rate"] * design) + 0.05 * noise


def test_without_likelihood_both_designs_get_a_bound(monkeypatch):
    """The second network is trained at the starting design, which stays where it is, for as long as the first."""
    fits = []
    monkeypatch.setattr(comparison, "DRAWS", 100)
    monkeypatch.setattr(kb.DesignModel, "fit", lambda model, **sizes: fits.append((model, sizes)))
    entry = kb.problems.ReadyExperiment(
        Implicit, lambda **options: kb.designs.Box(shape=(2,), low=0.0, high=10.0, **options), "two times"
    )
    start, learned = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    model = kb.DesignModel(Implicit(), entry.design(initial=learned), seed=0)
    with pytest.warns(UserWarning, match="before training"):
        estimates, gain = comparison.compared(model, {run.STARTING: start, run.LEARNED: learned}, entry, 3, 10)
    ((fixed, sizes),) = fits
    assert sizes == {"epochs": 3, "steps_per_epoch": 10, "verbose": 0}
    np.testing.assert_allclose(fixed.design.numpy(), start, rtol=1e-6)
    assert not fixed.design.trainable_variables
    assert all(str(estimate).startswith("EIG >= ") for estimate in estimates.values())
    difference = estimates[run.LEARNED].lower - estimates[run.STARTING].lower
    assert gain.startswith(f"{difference:.4f} +- ")
    assert "difference of lower bounds" in gain


OWN = """
import kerasbed as kb
from keras import ops
from scipy import stats


class Decay(kb.GaussianSimulator):
    prior = kb.Prior(rate=stats.lognorm(0.5))
    noise_shape = (2,)

    def mean(self, parameters, design):
        return ops.exp(-parameters["rate"] * design)

    def scale(self, parameters, design):
        return 0.05


simulator = Decay()
design = kb.designs.Times(2, 0.0, 10.0, min_gap=0.5)
labels = ("time (h)", "activity")
"""


def test_an_experiment_of_a_file_is_run_and_goes_on_only_as_it_was(small, tmp_path, capsys):
    file, out = tmp_path / "decay.py", tmp_path / "out"
    file.write_text(OWN)
    asked = ["run", str(file), "--epochs", "2", "--out", str(out)]
    assert cli.main(asked) == 0
    told = capsys.readouterr().out
    assert f"{file} on jax, seed 0, 2 epochs" in told
    assert "epoch 2 of 2, EIG at least" in told
    assert sorted(path.name for path in out.iterdir()) == sorted([*run.FILES, folder.FILE])
    assert len(_rows(out / "design.csv")) == 2
    file.write_text(OWN + "budget = 1.0")
    assert cli.main([*asked, "--resume"]) == 2
    assert "holds another run: code is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            OWN.replace("simulator =", "simulators ="),
            "let it define simulator, a kb.Simulator",
        ),
        (OWN + "raise SystemExit(3)", "failed by SystemExit: 3; see where by"),
        (OWN + "labels = 'time (h)'", "defines labels as 'time (h)'; let it define labels, a pair"),
        (OWN + "cost = 3.0", "defines cost as 3.0; let it define cost, a function of the design"),
        (OWN + "objective = kb.objectives.PriorContrastive", "let it define objective, one of kb.objectives"),
        (OWN + "design = 3.0", "defines design as 3.0; let it define design, a policy or a design space such as"),
    ],
)
def test_a_file_that_defines_no_experiment_says_what_is_missing(tmp_path, capsys, text, message):
    file = tmp_path / "mine.py"
    file.write_text(text)
    assert cli.main(["run", str(file), "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (OWN + "cost, budget = (lambda design: design[:, 0]), -2.0", "budget is -2.0, but a positive finite amount"),
        (OWN + "cost, budget = (lambda design: design[:, 0] + 5.0), 1.0", "No design is within the budget of 1"),
        (
            OWN.replace("kb.designs.Times(", "kb.policies.RandomPolicy(kb.designs.Box((1,), 0.0, 10.0), steps=2)  # ("),
            "There is nothing to learn",
        ),
    ],
)
def test_an_experiment_that_cannot_be_learned_is_told_in_one_line(tmp_path, capsys, text, message):
    file = tmp_path / "mine.py"
    file.write_text(text)
    assert cli.main(["run", str(file), "--epochs", "1", "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told


def test_an_error_of_the_users_code_keeps_its_traceback(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(OWN.replace("return ops.exp", 'raise RuntimeError("no speed")\n        return ops.exp'))
    with pytest.raises(Exception, match="no speed"):
        cli.main(["run", str(file), "--epochs", "1", "--out", str(tmp_path / "out")])


def test_progress_is_one_line_on_a_terminal_and_ten_in_a_file():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for stream, lines in ((Terminal(), 1), (io.StringIO(), 10)):
        shown = Progress(stream)
        shown.set_params({"epochs": 50})
        shown.on_train_begin()
        for epoch in range(50):
            shown.on_epoch_begin(epoch)
            shown.on_epoch_end(epoch, {"eig": 1.5})
        shown.on_train_end()
        assert stream.getvalue().count("\n") == lines
        assert "epoch 50 of 50, EIG at least 1.500 nats, 0 s spent, 0 s left" in stream.getvalue()


def test_backend_runs_in_a_process_of_its_own(tmp_path, capfd):
    """The command is run again, on the other backend; a file in the way of --out ends it early, with its exit code."""
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    code = cli.main(["run", "michaelis-menten", "--backend", OTHER, "--out", str(in_the_way)])
    captured = capfd.readouterr()
    assert f"michaelis-menten on {OTHER}" in captured.out
    assert code == 2
    assert "no folder can be made" in captured.err


def test_a_warning_is_one_line_without_source(monkeypatch, tmp_path, capsys):
    def warns(*_):
        print(warnings.formatwarning("takes\n  long", UserWarning, "file.py", 1, "line of source"))
        return 0

    monkeypatch.setattr(cli, "_learn", warns)
    usual = warnings.formatwarning
    assert cli.main(["run", "quadratic", "--out", str(tmp_path)]) == 0
    assert "warning: takes long\n" in capsys.readouterr().out
    assert warnings.formatwarning is usual


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required"),
        (["run"], "required"),
        (["run", "michaelis"], "invalid choice: 'michaelis'"),
        (["run", "nothing.py"], "there is no file 'nothing.py'"),
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
    keras.tree.map_structure(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5), fixed.numpy(), design.numpy()
    )
