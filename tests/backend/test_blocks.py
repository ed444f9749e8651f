"""Rows in blocks: every row once, in few shapes."""

import numpy as np
import pytest

from kerasbed.backend.blocks import in_blocks, pieces, rows_of

pytestmark = pytest.mark.one_backend

SIZES = (40, 8)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 20, 21, 39, 40, 41, 100, 121])
def test_blocks_follow_each_other_and_cover_the_rows(count):
    found = list(pieces(count, SIZES))
    assert [start for start, _ in found] == [sum(size for _, size in found[:i]) for i in range(len(found))]
    end = found[-1][0] + found[-1][1]
    assert found[-1][0] < count <= end
    assert {size for _, size in found} <= set(SIZES)


def test_a_remainder_above_half_a_large_block_takes_one():
    assert list(pieces(21, SIZES)) == [(0, 40)]
    assert list(pieces(20, SIZES)) == [(0, 8), (8, 8), (16, 8)]


@pytest.mark.parametrize("pads", [True, False])
@pytest.mark.parametrize("count", [1, 5, 8, 47, 100])
def test_rows_come_back_in_their_order(count, pads):
    x, other = np.arange(2.0 * count).reshape(count, 2), np.arange(count)
    shapes = set()

    def function(rows, numbers):
        shapes.add(len(numbers))
        return {"sum": rows["x"].sum(axis=1) + 3.0 * numbers, "x": rows["x"]}

    found = in_blocks(function, {"x": x}, other, sizes=SIZES, pads=pads)
    np.testing.assert_array_equal(found["sum"], x.sum(axis=1) + 3.0 * other)
    np.testing.assert_array_equal(found["x"], x)
    if pads:
        assert shapes <= set(SIZES)


def test_a_single_row_stands_for_all():
    found = rows_of({"one": np.ones((1, 2)), "each": np.arange(4.0)}, np.array([3, 3]))
    assert found["one"].shape == (1, 2)
    np.testing.assert_array_equal(found["each"], [3.0, 3.0])


def test_no_rows_are_handed_on():
    assert in_blocks(lambda rows: rows.sum(axis=1), np.zeros((0, 3))).shape == (0,)


def test_what_comes_back_may_be_written_into():
    found = in_blocks(lambda rows: np.broadcast_to(rows, rows.shape), np.zeros((3, 2)))
    found[0] = 1.0
    assert found.sum() == 2.0
