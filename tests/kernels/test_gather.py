"""Batches that a helper gathers beside other work: the rows of the dataset, whenever they are read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from team_cases import team_of

import minikeras as mk
from minikeras import kernels as k
from minikeras.kernels.cpu.gather import _LONG
from minikeras.training.data import make_stream

reference_gather = k.reference_table().gather


@pytest.fixture(autouse=True, scope="module")
def a_team_with_a_helper() -> Iterator[None]:
    with team_of(2):
        wake()
        yield


def wake() -> None:
    """Helpers start, and watch for a while."""
    long = np.zeros(1 << 17, np.float32)
    k.sgd_momentum(long, long.copy(), long.copy(), 0.1, 0.9)


def helper_is_free() -> bool:
    """Whether an errand can be offered; it is done."""
    array = np.zeros((4, _LONG), np.uint8)
    _, finish = k.gather(array, np.arange(4), np.empty_like(array))
    if finish is not None:
        finish()
    return finish is not None


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(["u1", "?", "i2", "f4", "f8", "c16", "S3", "M8[s]", "u1,f4"]),
    shape=st.sampled_from([(), (1,), (3,), (5, 7), (28, 28, 1), (1001,)]),
    samples=st.integers(1, 50),
    index_type=st.sampled_from(["i4", "i8", "u2"]),
    strided=st.booleans(),
    watching=st.booleans(),
    seed=st.integers(0, 99),
)
def test_gathered_rows(dtype, shape, samples, index_type, strided, watching, seed) -> None:
    random = np.random.default_rng(seed)
    width = np.dtype(dtype).itemsize * int(np.prod(shape))
    array = random.integers(0, 2, samples * width, np.uint8).view(dtype).reshape(samples, *shape)
    rows = random.integers(0, samples, 2 * (-(-_LONG // width))).astype(index_type)
    if strided:
        rows = rows[::-2]
    wanted = array[rows]
    flat = np.full(wanted.nbytes + 128, 7, np.uint8)
    out = flat[64:-64].view(dtype).reshape(wanted.shape)
    if watching:
        wake()
    found, finish = k.gather(array, rows, out)
    assert found is out
    assert (finish is not None) == (out.nbytes >= _LONG)
    if finish is not None:
        finish()
    assert out.tobytes() == wanted.tobytes()
    assert (flat[:64] == 7).all() and (flat[-64:] == 7).all()


LARGE = np.random.default_rng(0).integers(0, 99, (300, 400))


@pytest.mark.parametrize(
    ("array", "out"),
    [
        (LARGE.astype(object), np.empty((200, 400), object)),
        (np.asfortranarray(LARGE), np.empty((200, 400), LARGE.dtype)),
        (LARGE[:, ::2], np.empty((200, 200), LARGE.dtype)),
        (LARGE, np.empty((200, 800), LARGE.dtype)[:, ::2]),
        (LARGE, np.empty((400, 200), LARGE.dtype).T),
        (LARGE[:, :3].copy(), np.empty((200, 3), LARGE.dtype)),
        (LARGE, None),
    ],
    ids=["objects", "Fortran", "a view", "into a view", "transposed", "small", "no buffer"],
)
def test_what_is_left_to_numpy(array: Any, out: Any) -> None:
    rows = np.arange(299, 99, -1)
    found, finish = k.gather(array, rows, out)
    assert finish is None
    assert out is None or found is out
    np.testing.assert_array_equal(found, array[rows])


@pytest.mark.parametrize("gather", [k.gather, reference_gather])
@pytest.mark.parametrize("shape", [(200, 400), (200, 3)], ids=["large", "small"])
def test_a_buffer_that_does_not_fit_is_refused(gather: Any, shape: tuple[int, int]) -> None:
    rows, width = shape
    array = LARGE[:, :width].astype("f4")
    others = [((rows - 1, width), "f4"), ((rows + 1, width), "f4"), ((rows, width, 1), "f4"), ((width, rows), "f4")]
    for wrong, dtype in [*others, *((shape, dtype) for dtype in ("f8", "f2", "i4", "?", ">f4", "c8"))]:
        out = np.full(wrong, 7, dtype)
        said = f"of shape {shape} and type float32 cannot be written to a buffer of shape {wrong} and type {out.dtype};"
        with pytest.raises(ValueError, match=re.escape(said)):
            gather(array, np.arange(rows), out)
        assert (out == np.full_like(out, 7)).all()


# ---- streams


def images_of(labels: Any) -> Any:
    """An image for each number, 4 KiB each."""
    return (labels[:, None] * 3 + np.arange(1024)).astype(np.float32)


def assert_matches(batch: tuple[Any, Any, Any]) -> Any:
    x, labels, weights = batch
    np.testing.assert_array_equal(x["images"], images_of(labels))
    np.testing.assert_array_equal(x["again"], images_of(labels)[:, ::-1])
    np.testing.assert_array_equal(weights, -labels)
    return labels


def stream(samples: int = 333, steps: int | None = None) -> Any:
    """A shuffled stream of batches of 50 with two inputs, labels and weights."""
    labels = np.arange(samples)
    x = {"images": images_of(labels), "again": np.ascontiguousarray(images_of(labels)[:, ::-1])}
    return make_stream(x, labels, -labels, batch_size=50, shuffle=True, steps=steps)


def test_batches_are_the_rows_and_every_row_comes_once_an_epoch() -> None:
    source = stream()
    orders = []
    for epoch in range(6):
        labels = []
        for batch in source.epoch():
            if epoch % 2:
                wake()
            labels.append(assert_matches(batch).copy())
        assert [len(one) for one in labels] == [50] * 6 + [33]
        orders.append(np.concatenate(labels))
        assert np.array_equal(np.sort(orders[-1]), np.arange(333))
    assert not np.array_equal(orders[0], orders[1])


def test_kept_batches_are_not_overwritten() -> None:
    source = stream()
    kept = [batch for _ in range(3) for batch in source.epoch()]
    for _ in source.epoch():
        wake()
    labels = np.concatenate([assert_matches(batch) for batch in kept])
    assert (np.bincount(labels) == 3).all()


def test_buffers_of_batches_that_nobody_keeps_serve_again() -> None:
    source = stream(samples=300)
    places = {batch[0]["images"].ctypes.data for _ in range(3) for batch in source.epoch()}
    assert len(places) <= 3


@pytest.mark.parametrize("read", [1, 3, 6])
def test_an_epoch_that_is_left_early_finishes_its_errand(read: int) -> None:
    source = stream()
    for _ in range(10):
        wake()
        batches = source.epoch()
        for _ in range(read):
            assert_matches(next(batches))
        assert not helper_is_free()
        del batches
        assert helper_is_free()
    for batch in source.epoch():
        assert_matches(batch)


def test_an_error_between_batches_finishes_the_errand() -> None:
    def reads() -> None:
        for batch in stream().epoch():
            assert_matches(batch)
            raise KeyError("the user's own")

    with pytest.raises(KeyError):
        reads()
    assert helper_is_free()


def test_a_row_that_cannot_be_gathered_finishes_the_errand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first array of the second batch is on its way when the second one fails."""
    assert helper_is_free()  # which has `k.gather` chosen
    source, gather = stream(), k.gather
    batches = source.epoch()
    calls = []

    def failing(array: Any, rows: Any, out: Any) -> Any:
        calls.append(array)
        if len(calls) == 6:
            raise MemoryError("none left")
        return gather(array, rows, out)

    monkeypatch.setattr(k, "gather", failing)
    with pytest.raises(MemoryError):
        next(batches)
    assert helper_is_free()


def test_two_streams_at_once() -> None:
    labels = []
    for one, other in zip(stream().epoch(), stream().epoch(), strict=True):
        wake()
        labels += [assert_matches(one).copy(), assert_matches(other).copy()]
    assert (np.bincount(np.concatenate(labels)) == 2).all()


def test_epochs_of_some_steps_go_on_where_the_last_one_ended() -> None:
    source = stream(samples=350, steps=3)
    epochs = [[assert_matches(batch).copy() for batch in source.training_epoch()] for _ in range(9)]
    assert [len(labels) for labels in epochs] == [3, 3, 1] * 3  # an epoch ends with the data
    assert (np.bincount(np.concatenate([part for labels in epochs for part in labels])) == 3).all()
    for batch in source.training_epoch():
        assert_matches(batch)
    assert not helper_is_free()  # it has the batch that comes next
    source.close()
    assert helper_is_free()


def test_a_training_of_some_steps_an_epoch_leaves_no_errand() -> None:
    model = mk.Sequential([mk.layers.Input((1024,)), mk.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = images_of(np.arange(350)) / np.float32(1e5)
    for fails in (False, True):
        callback = mk.callbacks.Callback()
        seen: list[bool] = []

        def look(step: int, logs: Any = None, fails: bool = fails, seen: list[bool] = seen) -> None:
            seen.append(helper_is_free())
            if fails and step == 2:
                raise KeyError("the user's own")

        callback.on_train_batch_end = look
        with pytest.raises(KeyError) if fails else nullcontext():
            model.fit(x, np.zeros(350), batch_size=50, steps_per_epoch=3, callbacks=[callback], verbose=0)
        assert seen == [False] * 3
        assert helper_is_free()
