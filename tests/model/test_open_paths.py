"""Paths through outcomes: open where they are smooth or have kinks, closed at jumps, cut gradients and atoms."""

import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed.model import segments as paths
from kerasbed.model.open_paths import closed_entries, closed_outcomes, is_closed, moving_ends
from kerasbed.model.segments import Segments, lobatto

PRIOR = kb.Prior(t=stats.norm())


def segments_of(outcome, design=None):
    simulator = kb.Simulator.from_functions(PRIOR, outcome, noise_shape=(2,))
    return Segments(simulator, design or kb.designs.Box((2,), 0.0, 3.0, seed=0))


def as_number(condition, noise):
    return ops.cast(condition, noise.dtype)


def joined(*entries):
    return ops.concatenate(entries, axis=-1)


OPEN = {
    "linear": lambda p, d, e: p["t"] * d + e,
    "many periods": lambda p, d, e: ops.cos(60.0 * p["t"] * d) + e,
    "kink": lambda p, d, e: ops.abs(d - 1.0 - 0.3 * p["t"]) + e,
    "steep": lambda p, d, e: ops.sigmoid(1e3 * (d - 1.0 - 0.3 * p["t"])) + e,
    "tiny steps": lambda p, d, e: ops.cos(60.0 * p["t"] * d) + 1e-4 * ops.floor(10.0 * d) + e,
    "hurdle of one height": lambda p, d, e: ops.where(e < -0.5, 0.0, ops.exp(p["t"] * d + 0.3)),
    "offset": lambda p, d, e: 1e9 + p["t"] * d + e,
    "weighted away": lambda p, d, e: ops.relu(d - 1.5) * (p["t"] + e),
}
# outcome, entries of the design and of the outcome in which it is closed
CLOSED = {
    "threshold": (lambda p, d, e: joined(as_number(e[:, :1] < p["t"] - d[:, :1], e), d * p["t"] + e), [1, 0], [(0,)]),
    "weak beside": (
        lambda p, d, e: joined(as_number(e[:, :1] < p["t"] - d[:, 1:], e), 0.02 * d[:, 1:] * p["t"] + e[:, 1:]),
        [0, 1],
        [(0,)],
    ),
    "stairs": (lambda p, d, e: ops.floor(20.0 * (d + p["t"])) / 20.0 + 0.0 * e, [1, 1], [(0,), (1,)]),
    "cut": (lambda p, d, e: p["t"] * ops.stop_gradient(d[:, :1]) + joined(e[:, :1], d[:, 1:]), [1, 0], [(0,), (1,)]),
    "saturation": (lambda p, d, e: joined(ops.clip(p["t"] * d[:, :1], -1.0, 1.0), d[:, 1:] + e[:, :1]), [1, 0], [(0,)]),
    "arg-min": (lambda p, d, e: as_number(ops.argmin(ops.abs(p["t"] - d), -1)[:, None], e) + e[:, :1], [1, 1], [(0,)]),
    "one of many": (
        lambda p, d, e: joined(as_number(e[:, :1] < p["t"] - d[:, :1], e), ops.repeat(d[:, 1:] * p["t"], 40, axis=-1)),
        [1, 0],
        [(0,)],
    ),
}


@pytest.mark.parametrize("name", OPEN)
def test_smooth_outcomes_and_kinks_are_open(name):
    segments = segments_of(OPEN[name])
    assert segments.changes
    assert segments.has_gradient
    assert not is_closed(segments, segments.step, segments.values)


@pytest.mark.parametrize("name", CLOSED)
def test_jumps_are_found_entry_by_entry(name):
    outcome, of_design, of_outcome = CLOSED[name]
    segments = segments_of(outcome)
    assert is_closed(segments, segments.step, segments.values)
    found = closed_entries(segments)
    np.testing.assert_array_equal(found, of_design)
    assert closed_outcomes(segments, found, 4) == of_outcome


def test_parts_of_a_product_have_masks_of_their_own():
    design = kb.designs.Product(place=kb.designs.Box((1,), 0.0, 3.0), kind=kb.designs.Choice((2,), [0.0, 1.0, 2.0]))

    def outcome(p, d, e):
        table = ops.convert_to_tensor(np.array([0.3, 1.0, 0.1]), dtype=e.dtype)
        gain = ops.take(table, ops.cast(ops.round(d["kind"][:, :1]), "int32"))
        return gain * p["t"] * d["place"] + d["kind"][:, 1:] * e

    found = closed_entries(segments_of(outcome, design))
    np.testing.assert_array_equal(found["kind"], [True, False])
    np.testing.assert_array_equal(found["place"], [False])


def test_the_rule_is_exact_for_polynomials():
    """To degree 2 n - 3, with both ends among its nodes."""
    nodes, weights = lobatto(paths.NODES)
    assert (nodes[0], nodes[-1]) == (0.0, 1.0)
    for degree in range(2 * paths.NODES - 2):
        assert weights @ nodes**degree == pytest.approx(1.0 / (degree + 1), abs=1e-12)


def test_what_brings_numbers_of_its_own_type_is_examined_in_the_process_type():
    def outcome(p, d, e):
        return ops.add(p["t"] * d, ops.cast(e, "float32")) if e.dtype == d.dtype else e

    segments = segments_of(outcome)
    assert not is_closed(segments, segments.step, segments.values)


def test_draws_that_fail_are_left_out():
    def outcome(p, d, e):
        return joined(ops.sqrt(p["t"] + 1.0) * d[:, :1] + e[:, :1], as_number(e[:, :1] < p["t"] - d[:, 1:], e))

    np.testing.assert_array_equal(closed_entries(segments_of(outcome)), [False, True])


def test_ends_that_move_are_told_from_those_that_stay():
    def outcome(p, d, e):
        reading = p["t"] + 0.3 * e
        entries = ops.minimum(reading[:, :1], d[:, :1]), ops.clip(reading[:, 1:], -0.5, d[:, 1:] - 0.5)
        return joined(*entries, ops.clip(reading[:, :1], -1.0, 1.0), d[:, :1] * as_number(reading[:, :1] > 0.0, e))

    expected = [[False, False, False, False], [True, True, False, False]]
    np.testing.assert_array_equal(moving_ends(segments_of(outcome)), expected)
    assert moving_ends(segments_of(OPEN["linear"])) is None
