"""What a program's graphs begin and end with: parts of many steps' data, numbers of a step, counters, and the step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gpu.cuda import check
from gpu.cuda.check import case

from minikeras.kernels import Kernels
from minikeras.kernels.cuda.launch import launch
from minikeras.kernels.cuda.recording import GOES_ON, MADE, SOURCE, STEP

BYTE = np.dtype("uint8")


def parts(k: Kernels, width: int, count: int, step: int) -> list[Any]:
    """The part of a step taken from an array of three steps, and put into another one."""
    data = k.to_device(np.arange(3 * width * count, dtype="uint8"))
    taken, given = k.xp.zeros(width * count, "uint8"), k.xp.zeros(3 * width * count, "uint8")
    block = k.to_device(np.array([step, 0, 0, data.data.ptr, given.data.ptr], "int64"))
    launch(k, SOURCE, "take_part", BYTE, 1, 64, (block, 3, taken, width, count))
    launch(k, SOURCE, "give_part", BYTE, 1, 64, (block, 4, taken, width, count))
    return [taken, given]


@pytest.mark.parametrize("step", [0, 1, 2])
@pytest.mark.parametrize("width", [1, 4, 16])
def test_parts(width: int, step: int) -> None:
    count = 5
    taken, given = (check.gpu.to_host(one) for one in parts(check.gpu, width, count, step))
    data = np.arange(3 * width * count, dtype="uint8").reshape(3, -1)
    np.testing.assert_array_equal(taken, data[step])
    data[[one for one in range(3) if one != step]] = 0
    np.testing.assert_array_equal(given.reshape(3, -1), data)


def ends(k: Kernels, flag: Any) -> list[Any]:
    """The end of a step with two random streams."""
    block = k.to_device(np.array([1, 1, 0, 7, 9], "int64"))
    block[GOES_ON : GOES_ON + 1].view("float64")[...] = 1.0
    growth, cell = k.to_device(np.array([2, 3], "uint64")), None if flag is None else k.to_device(np.array([flag]))
    launch(k, SOURCE, "end_step", BYTE, 1, 32, (block, block[3:].view("uint64"), growth, 2, cell))
    return [block]


@pytest.mark.parametrize(("flag", "goes_on"), [(None, 1.0), (1.0, 1.0), (0.0, 0.0)])
def test_ends(flag: Any, goes_on: float) -> None:
    block = check.gpu.to_host(ends(check.gpu, flag)[0])
    assert (block[STEP], block[MADE], *block[3:]) == (2, 2, 9, 12)
    assert block[GOES_ON : GOES_ON + 1].view("float64") == goes_on


@case(SOURCE)
def whole(k: Kernels) -> list[Any]:
    block, rows = k.to_device(np.array([1, 0, 0], "int64")), k.to_device(np.arange(6.0))
    numbers, both = k.xp.zeros(3), [k.xp.zeros(1) for _ in range(4)]
    launch(k, SOURCE, "take_numbers", BYTE, 1, 32, (block, rows, numbers, 3))
    zero, one = k.to_device(np.zeros(1)), k.to_device(np.ones(1))
    for (first, second), out in zip(((zero, one), (one, zero), (one, one), (zero, zero)), both, strict=True):
        launch(k, SOURCE, "both", BYTE, 1, 1, (first, second, out))
    state, aside = k.to_device(np.arange(12, dtype="uint8")), k.xp.zeros(12, "uint8")
    launch(k, SOURCE, "put_aside", BYTE, 1, 32, (state, aside, 4, 3))
    states = []
    for goes_on in (one, zero):
        state.fill(7)
        launch(k, SOURCE, "put_back", BYTE, 1, 32, (goes_on, aside, state, 4, 3))
        states.append(state.copy())
    return [*parts(k, 4, 3, 1), *ends(k, 0.0), numbers, *both, *states]


def test_numbers() -> None:
    found = [check.gpu.to_host(one).tolist() for one in whole(check.gpu)[3:]]
    assert found == [[3.0, 4.0, 5.0], [0.0], [0.0], [1.0], [0.0], [7] * 12, [*range(12)]]
