"""Pictures of every kind have texts that can be read, and what looks for faults in them finds planted ones."""

import itertools

import matplotlib.pyplot as plt
import pytest

from tests.plots import gallery, pictures

pytestmark = pytest.mark.one_backend
QUICK = {
    *("path of product", "path of sequence", "path of box_entrywise", "path of mask", "path of location-finding"),
    *(
        "two over times",
        "grid over sequence",
        "binary over product",
        "named over times",
        "each over sequence",
        "many experiments",
    ),
    *("posterior of 3 parameters, 3 outcomes", "posterior of a model and a rate", "falling bound with references"),
    *("experiments of linear-pendulum", "experiments of quadratic", "study"),
}
EVERY = {name: draw for made in gallery.ALL[:-1] for name, draw in made()}


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in EVERY]
)
def test_texts_are_inside_and_apart(name):
    assert gallery.faults_of(EVERY[name]) == []


@pytest.mark.slow
def test_texts_of_fits_searches_and_sessions_are_inside_and_apart():
    assert {name: found for name, draw in gallery.others() if (found := gallery.faults_of(draw))} == {}


def test_faults_are_found():
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.0, 3.0))
    left.set_ylabel("a label that is far too long for an axis of this height, so that it leaves the figure")
    left.text(0.5, 0.5, "one")
    left.text(0.52, 0.51, "other")
    right.plot([0.0, 1.0], [0.0, 1.0], label="rising")
    right.legend(loc="center")
    found = pictures.faults(figure)
    assert "overlap: 'one' and 'other'" in found
    assert [fault for fault in found if fault.startswith("outside: 'a label")]
    assert "behind a legend: rising" in found
    axes = plt.subplots()[1]
    axes.set_ylabel("time (h), dose (mg)")
    assert gallery.faults_of(lambda: axes) == ["several units: 'time (h), dose (mg)'"]


def test_names_of_pictures_differ():
    names = [name for made in gallery.ALL[:-1] for name, _ in made()]
    assert not [name for name, other in itertools.pairwise(sorted(names)) if name == other]
