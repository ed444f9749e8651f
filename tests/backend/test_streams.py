"""Seeds by purpose: the same numbers for ever, and others for another purpose."""

import numpy as np
import pytest

from kerasbed.backend import streams

pytestmark = pytest.mark.one_backend


def test_registered_purposes_keep_the_numbers_of_the_time_before():
    assert streams.entropy(3, "pilot") == [3, 17]
    assert streams.entropy([3, 4], "ranking") == [3, 4, 1]
    assert streams.entropy(3, "training", 5) == [3, 5]
    expected = np.random.default_rng([3, 0xC0]).random(4)
    np.testing.assert_array_equal(streams.of(3, "correction").random(4), expected)
    assert streams.integer(3, "round", 2) == int(np.random.SeedSequence([3, 2]).generate_state(1)[0])


def test_new_purposes_have_numbers_that_hold_in_every_process():
    assert streams.entropy(7, "weather", 1) == [7, 15577049981620465086, 2]
    assert streams.of(7, "weather").integers(10**6) == streams.of(7, "weather").integers(10**6)


def test_purposes_and_indices_do_not_share_draws():
    indices = ((), (0,), (1,), (1, 1))
    drawn = [streams.of(0, purpose, *index).random() for purpose in ("a", "b") for index in indices]
    assert len(set(drawn)) == len(drawn)


def test_parts_of_one_computation():
    first, second = streams.children(5, 2)
    again, _ = streams.children([5], 2)
    assert first.random() == again.random() != second.random()
    assert streams.integers(5, 2) == streams.integers(5, 3)[:2]
    assert streams.child(5, 1) == int(np.random.SeedSequence(5).spawn(2)[1].generate_state(1)[0])
