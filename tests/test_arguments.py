"""Checks of what a user gives: what passes comes back as a Python number, all else is told by name, range and value."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nissl as ns
from nissl.arguments import number, range_in_words, whole_number
from nissl.errors import OptionError


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.array(3), ns.tensor(3)])
def test_a_whole_number_comes_back_as_an_int(value):
    found = whole_number("epochs", value)
    assert (found, type(found)) == (3, int)


@pytest.mark.parametrize("value", [0, -1, 2.0, math.nan, math.inf, True, "3", None, np.float32(3), np.array([3]), 1j])
def test_what_is_no_whole_number_from_1_is_refused(value):
    with pytest.raises(OptionError, match=r"^epochs must be a whole number from 1, got "):
        whole_number("epochs", value)


@given(st.integers(), st.integers(), st.integers(min_value=0))
def test_a_whole_number_lies_between_its_ends(value, least, width):
    if least <= value <= least + width:
        assert whole_number("n", value, least, least + width) == value
    else:
        with pytest.raises(OptionError) as told:
            whole_number("n", value, least, least + width)
        assert str(told.value) == f"n must be a whole number from {least} to {least + width}, got {value}"


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.int64(1), Fraction(1, 2)])
def test_a_number_comes_back_as_a_float(value):
    found = number("lr", value, above=0, most=1)
    assert (found, type(found)) == (value, float)


@pytest.mark.parametrize(
    ("value", "ends", "message"),
    [
        (0, {"above": 0}, "lr must be above 0, got 0"),
        (-0.1, {"least": 0}, "lr must be at least 0, got -0.1"),
        (1, {"least": 0, "below": 1}, "lr must be at least 0 and below 1, got 1"),
        (1.0000000001, {"most": 1}, "lr must be at most 1, got 1.0000000001"),
        (math.nan, {"least": 0}, "lr must be at least 0, got nan"),
        (math.inf, {"least": 0}, "lr must be at least 0, got inf"),
        (-math.inf, {}, "lr must be finite, got -inf"),
        ("1", {}, "lr must be a number, got '1'"),
        (1j, {}, "lr must be a number, got 1j"),
        (None, {"least": 0}, "lr must be a number, got None"),
    ],
)
def test_a_number_out_of_range_is_told_by_name_range_and_value(value, ends, message):
    with pytest.raises(OptionError) as told:
        number("lr", value, **ends)
    assert str(told.value) == message


def test_a_range_is_said_in_words():
    assert range_in_words(least=1, most=1e6) == "at least 1 and at most 1,000,000"
    assert range_in_words(above=1e-6, below=0.5) == "above 1e-06 and below 0.5"
    assert range_in_words() == ""


def test_layers_keep_plain_numbers():
    assert repr(ns.nn.Dropout(np.float64(0.25))) == "Dropout(p=0.25)"
    assert type(ns.nn.BatchNorm(2, eps=np.float32(1e-3)).eps) is float
