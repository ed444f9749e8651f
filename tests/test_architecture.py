"""The house keeps its rules, and each rule notices an offence that is planted."""

import shutil

import pytest

from tests import architecture, toys

pytestmark = pytest.mark.one_backend

# rule -> (file of the package, text to append)
PLANTED = {
    "layers": ("designs/box.py", "from kerasbed.model import DesignModel\n"),
    "layers, same floor": ("eig/estimate.py", "from kerasbed.acquisition import base\n"),
    "layers, new room": ("cellar.py", '"""A room without a layer."""\nfrom kerasbed.backend import numerics\n'),
    "circle": ("priors/marginals.py", "from kerasbed.priors.prior import Prior\n"),
    "import in a function": ("plots/style.py", "def late() -> None:\n    from kerasbed import backend\n"),
    "private name": ("eig/estimate.py", "from kerasbed import backend\nhidden = backend._PROMOTION\n"),
    "private name, imported": ("eig/estimate.py", "from kerasbed.backend import _PROMOTION\n"),
    "backend": ("networks/flows.py", "import jax\n"),
    "__all__": ("acquisition/__init__.py", '__all__ = ["Missing"]\n'),
    "shadow": ("eig/estimate.py", 'def estimate() -> None:\n    """A function of that name."""\n'),
    "types": ("callbacks.py", "def untyped(model):\n    return model\n"),
    "docstring": ("plots/blank.py", "value = 1\n"),
    "example": (
        "variational/plots.py",
        '__all__ = ["plot"]\n\ndef plot() -> None:\n    """A picture of nothing."""\n',
    ),
    "print": ("search/cube.py", "print(1)\n"),
}


def test_the_house_keeps_its_rules():
    house = architecture.modules(toys.ROOT)
    arrows = architecture.arrows(house)
    print(f"{len(house)} modules, {len(arrows)} distinct (room, room) arrows")
    assert architecture.offences(toys.ROOT) == []
    assert len(arrows) <= architecture.MOST_ARROWS


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Offences of a copy in which all are planted."""
    root = tmp_path_factory.mktemp("house")
    shutil.copytree(toys.ROOT / "kerasbed", root / "kerasbed", ignore=shutil.ignore_patterns("__pycache__"))
    for file, text in PLANTED.values():
        with open(root / "kerasbed" / file, "a", encoding="utf-8") as opened:
            opened.write(text)
    return set(architecture.offences(root))


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_offence_is_named(name, planted):
    file, rule = PLANTED[name][0], name.split(",")[0]
    assert any(found.startswith(f"kerasbed/{file}:") and f": {rule}: " in found for found in planted), planted
