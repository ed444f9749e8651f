"""The README's example runs as it is printed, and its commands and picture exist."""

import re
from pathlib import Path

import numpy as np

from kerasbed.model import training_data

WITH_XLA = True
ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_first_example_runs(monkeypatch, capsys):
    monkeypatch.setattr(training_data, "STEPS_PER_EPOCH", 20)  # the example trains 100 steps an epoch
    example = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    design, draws = names["model"].design.numpy(), names["draws"]["rate"]
    assert design.shape == (3,)
    assert np.all((design > 0) & (design < 10))
    assert draws.shape == (1, 2000, 1)
    assert np.all(draws > 0)  # a log-normal rate stays positive
    assert "EIG >= " in capsys.readouterr().out


def test_first_screen_has_sentence_install_example_and_picture():
    first_screen = README.split("\n## ")[0]
    assert first_screen.index("pip install") < first_screen.index("```python") < first_screen.index("![")


def test_linked_files_exist():
    links = [link for link in re.findall(r"\]\(([^)#]+)", README) if not link.startswith("http")]
    assert len(links) >= 5
    assert [link for link in links if not (ROOT / link).exists()] == []
