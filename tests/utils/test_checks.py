"""Checks of arguments: what is taken, in which type it comes back, and the sentences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikeras.utils.checks import flag, number, one_of, shown, whole


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3)], ids=repr)
def test_whole_numbers_of_all_kinds_become_int(value):
    assert whole("steps", value, 1) == 3
    assert type(whole("steps", value, 1)) is int


@pytest.mark.parametrize(
    "value", [3.5, "3", True, np.bool_(True), None, math.nan, math.inf, 0, -1, [3], np.array([3]), 3.0], ids=repr
)
def test_what_is_no_positive_whole_number(value):
    with pytest.raises(ValueError, match=r"^Dense's units must be a positive whole number, got .*\.$"):
        whole("units", value, 1, owner="Dense")


def test_whole_with_its_options():
    assert whole("steps", None, optional=True) is None
    assert whole("steps", 1875.0, 1, floats=True) == 1875
    assert type(whole("steps", np.float32(8), floats=True)) is int
    for value in (7.5, math.inf, math.nan, True):
        with pytest.raises(ValueError, match=r"steps must be a positive whole number or None, got"):
            whole("steps", value, 1, optional=True, floats=True)
    with pytest.raises(ValueError, match=r"^verbose must be a whole number from 0 to 2, got 3\.$"):
        whole("verbose", 3, 0, at_most=2)
    with pytest.raises(ValueError, match=r"^workers must be a whole number of at least 0, got -1\.$"):
        whole("workers", -1, 0)
    with pytest.raises(ValueError, match=r"^axis must be a whole number of at most -1, got 0\.$"):
        whole("axis", 0, at_most=-1)


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.array(0.5, "f4"), np.float16(0.5)], ids=repr)
def test_numbers_of_all_kinds_become_float(value):
    assert number("rate", value, low=0, below=1) == 0.5
    assert type(number("rate", value, low=0, below=1)) is float


@pytest.mark.parametrize("value", ["0.5", None, True, np.bool_(1), math.nan, math.inf, 1j, [0.5], np.array([0.5])])
def test_what_is_no_number(value):
    with pytest.raises(ValueError, match=r"^Adam's beta_1 must be a number at least 0 and below 1, got .*\.$"):
        number("beta_1", value, low=0, below=1, owner="Adam")


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["low", "high", "above", "below"]))
def test_bounds(value, bound):
    fits = {"low": value >= 0.25, "high": value <= 0.25, "above": value > 0.25, "below": value < 0.25}[bound]
    if fits:
        assert number("x", value, **{bound: 0.25}) == value
    else:
        with pytest.raises(ValueError, match="x must be a number"):
            number("x", value, **{bound: 0.25})


def test_number_with_its_options():
    assert number("clipnorm", None, above=0, optional=True) is None
    assert number("momentum", 2) == 2.0
    assert number("limit", math.inf, infinite=True) == math.inf
    assert number("rate", abs, functions=True) is abs
    with pytest.raises(ValueError, match=r"^clipnorm must be a positive number or None, got -1\.$"):
        number("clipnorm", -1, above=0, optional=True)
    with pytest.raises(ValueError, match=r"^rate must be a number from 0 to 1, got 2\.$"):
        number("rate", 2, 0, 1)
    with pytest.raises(ValueError, match=r"^limit must be a number, got nan\.$"):
        number("limit", math.nan, infinite=True)
    with pytest.raises(ValueError, match=r"^rate must be a number at least 0 or a function, got 'a'\.$"):
        number("rate", "a", low=0, functions=True)


def test_one_of():
    assert one_of("padding", np.str_("same"), ("valid", "same")) == "same"
    assert one_of("verbose", np.int64(2), (0, 1, 2)) == 2
    assert one_of("mode", None, ("a", None)) is None
    with pytest.raises(ValueError, match=r"^Conv2D's padding must be 'valid' or 'same', got 'smae'\.$"):
        one_of("padding", "smae", ("valid", "same"), owner="Conv2D")
    for value in (True, np.ones(2), [1], 3, "1"):
        with pytest.raises(ValueError, match=r"^verbose must be 0, 1 or 2, got .*\.$"):
            one_of("verbose", value, (0, 1, 2))


def test_values_are_shown_on_one_line():
    assert shown("a\nb") == repr("a\nb")
    assert shown(np.zeros((2, 3))) == "an array of shape (2, 3)"
    assert len(shown(list(range(1000)))) == 80
    assert shown(np.float64(3.5)) == shown(np.array(3.5)) == "3.5"


def test_flags():
    for value in (True, 1, np.True_, np.int64(1), np.array(True)):
        assert flag("center", value) is True
    for value in (False, 0, None, np.False_):
        assert flag("center", value) is False
    for value in ("False", "x", 2, -1, 0.5, 1.0, [], [True], np.ones(2), len, np.nan):
        with pytest.raises(ValueError, match=r"^BatchNormalization's center must be True or False, got .+\.$"):
            flag("center", value, owner="BatchNormalization")
