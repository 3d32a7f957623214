"""Connectionist temporal classification against the sum over all paths, one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikeras import kernels as k
from minikeras import losses, ops
from minikeras.autodiff import KerasTensor, Tensor, backward, check_gradients, recording


def meaning(path, blank=0):
    """The labels that a path stands for."""
    return tuple(label for label, _ in itertools.groupby(path) if label != blank)


def probabilities(logits, blank=0):
    """The probability of every sequence of labels."""
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    found: dict[tuple, float] = {}
    for path in itertools.product(range(p.shape[1]), repeat=len(p)):
        labels = meaning(path, blank)
        found[labels] = found.get(labels, 0) + np.prod([row[label] for row, label in zip(p, path, strict=True)])
    return found


@st.composite
def batches(draw):
    """Labels, logits, and the lengths of both: what is beyond them counts for nothing."""
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    blank, frames = draw(st.sampled_from([0, 2])), draw(st.integers(1, 4))
    labels = rng.choice([label for label in range(3) if label != blank], size=(2, 3))
    return (
        labels,
        rng.normal(size=(2, frames, 3)),
        np.array(draw(st.tuples(*[st.integers(0, 3)] * 2))),
        np.array(draw(st.tuples(*[st.integers(1, frames)] * 2))),
        blank,
    )


@given(batches())
def test_the_loss_is_the_sum_over_all_paths(batch):
    labels, logits, counts, lengths, blank = batch
    found = ops.ctc_loss(labels, k.to_device(logits), counts, lengths, mask_index=blank).numpy()
    for i in range(2):
        p = probabilities(logits[i, : lengths[i]], blank).get(tuple(labels[i, : counts[i]]), 0.0)
        np.testing.assert_allclose(np.exp(-found[i]), p, rtol=1e-4)


@given(batches())
def test_gradients(batch):
    labels, logits, counts, lengths, blank = batch
    tensor = Tensor(k.to_device(logits), tracked=True)
    with recording():
        loss = ops.ctc_loss(labels, tensor, counts, lengths, mask_index=blank)
        total = ops.sum(ops.where(ops.isfinite(loss), loss, 0.0))
    gradient = k.to_host(backward(total, [tensor])[0])
    impossible = ~np.isfinite(loss.numpy())
    assert not gradient[impossible].any()  # more labels than frames can hold: no gradient, and no NaN
    if not impossible.any():
        check_gradients(lambda x: ops.ctc_loss(labels, x, counts, lengths, mask_index=blank), logits)


@given(batches())
def test_a_wide_search_finds_the_likeliest_labels(batch):
    _, logits, _, lengths, blank = batch
    paths, scores = ops.ctc_decode(logits, lengths, "beam_search", beam_width=81, top_paths=2, mask_index=blank)
    for i in range(2):
        ranked = sorted(probabilities(logits[i, : lengths[i]], blank).items(), key=lambda item: -item[1])[:2]
        for place, (labels, p) in enumerate(ranked):
            assert tuple(x for x in paths.numpy()[place, i].tolist() if x >= 0) == labels
            np.testing.assert_allclose(np.exp(scores.numpy()[i, place]), p, rtol=1e-4)


@given(batches())
def test_the_greedy_path(batch):
    _, logits, _, lengths, blank = batch
    for merged in (True, False):
        labels, scores = ops.ctc_decode(logits, lengths, merge_repeated=merged, mask_index=blank)
        for i in range(2):
            path = logits[i, : lengths[i]].argmax(-1).tolist()
            expected = meaning(path, blank) if merged else tuple(label for label in path if label != blank)
            assert tuple(x for x in labels.numpy()[0, i].tolist() if x >= 0) == expected
            np.testing.assert_allclose(scores.numpy()[i, 0], -logits[i, : lengths[i]].max(-1).sum(), rtol=1e-5)


def test_symbolic():
    logits, lengths = KerasTensor((None, 7, 5)), KerasTensor((None,), "int32")
    assert ops.ctc_loss(KerasTensor((None, 3), "int32"), logits, lengths, lengths).shape == (None,)
    labels, scores = ops.ctc_decode(logits, lengths, "beam_search", top_paths=2)
    assert (labels.shape, labels.dtype, scores.shape) == ((2, None, 7), "int32", (None, 2))


ONE = np.zeros((1, 2, 3), "float32")


@pytest.mark.skipif(k.xp is not np, reason="values on a device are not read back")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.ctc_loss([1], ONE, [1], [2]), r"labels \(n, length\)"),
        (lambda: ops.ctc_loss([[1]], ONE, [1, 1], [2]), "lengths"),
        (lambda: ops.ctc_loss([[1]], ONE, [2], [2]), "target_length must lie between 0 and 1 here, got 2"),
        (lambda: ops.ctc_loss([[1]], ONE, [1], [3]), "output_length must lie between 1 and 2 here, got 3"),
        (lambda: ops.ctc_loss([[3]], ONE, [1], [2]), "got 3"),
        (lambda: losses.ctc([[0, 1]], ONE), "blank 0, got 0"),
        (lambda: losses.ctc([1], ONE), r"got shapes \(1,\)"),
        (lambda: ops.ctc_decode(ONE, [2], "random"), "strategy"),
        (lambda: ops.ctc_decode(ONE, [2], "beam_search", beam_width=2, top_paths=3), "top_paths"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
