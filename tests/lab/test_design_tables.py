"""Tables of designs, for a file and for a reader."""

import numpy as np
import pytest

from kerasbed.lab.design_tables import design_table, readable_table

pytestmark = pytest.mark.one_backend

PARTS = {"times": np.array([1.0, 2.5]), "dose": np.array(150.0)}


def test_parts_are_named_and_keep_every_digit():
    value = {"times": np.array([1.0, 2.123456789]), "dose": np.array(150.0)}
    table = design_table({"one": value})
    assert table["entry"].tolist() == ["times 1", "times 2", "dose 1"]
    assert table["one"].tolist() == [1.0, 2.123456789, 150.0]


def test_places_have_a_column_for_each_coordinate_and_shorter_parts_none():
    table = design_table({"a": {"places": np.arange(4.0).reshape(2, 2), "dose": np.array([3.0])}})
    assert list(table.columns) == ["entry", "a 1", "a 2"]
    np.testing.assert_array_equal(table[["a 1", "a 2"]], [[0.0, 1.0], [2.0, 3.0], [3.0, np.nan]])


def _cells(text):
    return [line.split() for line in text.splitlines()]


def test_measurements_in_any_order_are_sorted_rounded_and_counted():
    values = {"start": np.array([40.04, 12.0, 7.0]), "learned": np.array([399.97, 35.91, 400.0])}
    told = _cells(readable_table(values, (0.0, 400.0), in_any_order=True))
    assert told == [["start", "learned", "measurements"], ["7.0", "35.9", "1"], ["12.0", "400.0", "2"], ["40.0"]]


def test_places_in_any_order_are_sorted_as_places():
    values = {"a": np.array([[1.0, 0.5], [-1.0, 2.0], [1.0, 0.5001]])}
    told = _cells(readable_table(values, (-2.0, 2.0), in_any_order=True))
    assert told == [["a", "1", "a", "2", "measurements"], ["-1.000", "2.000", "1"], ["1.000", "0.500", "2"]]


def test_each_part_is_rounded_by_its_own_range():
    told = _cells(readable_table({"a": PARTS}, {"times": (0.0, 24.0), "dose": (50.0, 1500.0)}, in_any_order=False))
    assert told == [["entry", "a"], ["times", "1", "1.00"], ["times", "2", "2.50"], ["dose", "1", "150"]]


def test_no_zero_has_a_sign():
    assert "-0" not in readable_table({"a": np.array([-1e-9, 1.0])}, (-1e-9, 1.0), in_any_order=False)
