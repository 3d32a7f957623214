"""What a description may cost: the account that everything is paid from."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import minikeras
from minikeras import layers, limits, metrics


def test_nothing_is_counted_without_a_limit():
    limits.spend(1 << 80, "a weight")
    limits.lend(1 << 80, "zeros")
    limits.check_tensor((1 << 40, 1 << 40), 8)


def test_what_is_spent_is_gone_and_what_is_lent_comes_back():
    with limits.allowing(100):
        limits.spend(60, "a weight")
        limits.lend(1000, "zeros")
        with pytest.raises(ValueError, match=r"asks for 50 bytes for a weight of shape \(50,\), and 40 bytes are"):
            limits.spend_array((50,), 1, "a weight")
        limits.spend(40, "a weight")
        with pytest.raises(ValueError, match="more than 2\\*\\*60 bytes for zeros"):
            limits.lend(1 << 80, "zeros")


def test_moments_are_counted_together():
    with limits.allowing(100):
        with pytest.raises(ValueError, match="pass a larger limit"):
            for _ in range(100):
                limits.lend(1 << 28, "zeros")
        limits.spend(100, "a weight")


def test_the_outermost_limit_holds_and_ends_with_its_block():
    with pytest.raises(RuntimeError), limits.allowing(10):
        with limits.allowing(1000), pytest.raises(ValueError, match="allowed"):
            limits.spend(11, "a weight")
        raise RuntimeError
    limits.spend(11, "a weight")


def test_a_limit_is_of_its_thread():
    with limits.allowing(10):
        found = []
        thread = threading.Thread(target=lambda: found.append(limits.spend(11, "a weight")))
        thread.start()
        thread.join()
    assert found == [None]


def test_a_file_allows_twice_its_size_and_some_more_or_what_the_caller_says():
    with limits.for_file(1 << 30):
        limits.spend(1 << 31, "a weight")
    with limits.for_file(1 << 30, limit=10), pytest.raises(ValueError, match="10 bytes are allowed"):
        limits.spend(11, "a weight")
    for wrong in (-1, 1.5, "1 GB", float("nan")):
        with pytest.raises(ValueError, match="limit must be a whole number"):
            limits.for_file(10, wrong)
        with pytest.raises(ValueError, match="limit must be a whole number"):
            limits.for_text(wrong)


def test_text_may_take_what_memory_there_is():
    with limits.for_text(), pytest.raises(ValueError, match="are allowed"):
        limits.spend(2 * limits.memory(), "a weight")


def test_tensors_that_no_machine_computes():
    with limits.allowing(1000):
        limits.check_tensor((None, 1000, 1000), 4)
        for shape, words in (
            ((None, 1 << 40), "a tensor of shape"),
            ((-1,), "sizes are 0 or more"),
            ((1,) * 65, "65 axes"),
            ((10**30,), "more than 2"),
            (tuple(range(10**6, 10**6 + 60)), r"\.\.\."),
        ):
            with pytest.raises(ValueError, match=words):
                minikeras.KerasTensor(shape)


def test_weights_and_states_are_paid_for_before_they_are_made():
    made = []

    def noted(shape, dtype=None):
        made.append(shape)
        return np.zeros(shape, dtype)

    with limits.allowing(100), pytest.raises(ValueError, match=r"a weight of shape \(10, 10\)"):
        layers.Dense(10, kernel_initializer=noted).build((None, 10))
    with limits.allowing(100), pytest.raises(ValueError, match="a weight of shape"):
        metrics.MeanIoU(10)
    with limits.allowing(100), pytest.raises(ValueError, match="10 thresholds"):
        metrics.AUC(10)
    assert made == []
