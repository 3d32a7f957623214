"""Connectionist temporal classification: sequences of labels from longer sequences of class scores (Graves 2006, 2012).

A path has one class for each frame; the labels that it stands for are its classes without repetitions and then without
the blank.  The loss is the logarithm of the probability of all paths of the right labels, summed by a recursion over
the labels with a blank before, between and after them, the *states* of a frame.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras import config
from minikeras import kernels as k
from minikeras.autodiff import shapes
from minikeras.autodiff.op import differentiable, operation
from minikeras.utils.checks import one_of, whole


def _float_of(dtype: Any) -> Any:
    return config.result_type(dtype, "float32")


def _loss_shape(target: Any, output: Any, target_length: Any, output_length: Any, **settings: Any) -> Any:
    batches = [one.shape[:1] for one in (output, target_length, output_length)]
    if target.ndim != 2 or output.ndim != 3 or not all(shapes.agree(target.shape[:1], batch) for batch in batches):
        raise ValueError(
            "ctc_loss needs labels (n, length), scores (n, frames, classes) and lengths (n,) of both, got shapes "
            f"{target.shape}, {output.shape}, {target_length.shape} and {output_length.shape}."
        )
    return shapes.Spec(target.shape[:1], _float_of(output.dtype))


@differentiable(inputs=4, shape=_loss_shape, keras="keras.src.ops.nn.CTCLoss")
def ctc_loss(target: Any, output: Any, target_length: Any, output_length: Any, mask_index: int = 0) -> Any:
    """Minus the logarithm of the probability of each sample's labels (Graves et al. 2006).

    Args:
        target: integer labels (n, length), of which the first `target_length` of a sample count.
        output: logits (n, frames, classes), of which the first `output_length` frames of a sample count.
        target_length, output_length: whole numbers (n,).
        mask_index: the class of the blank.

    Returns:
        Losses (n,): infinite, and without a gradient, where there are too few frames for the labels.

    Raises:
        ValueError: for shapes that do not go together; on the host also for lengths that are too large, and for labels
            that are no classes or the blank.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> even = np.zeros((1, 2, 3), "float32")  # of the 9 paths of two frames _1, 1_ and 11 mean the label 1
    >>> round(float(np.exp(-ops.ctc_loss([[1]], even, [1], [2]).numpy()[0])), 4)
    0.3333
    """
    _loss_shape(target, output, target_length, output_length)
    xp, (batch, frames, classes) = k.xp, output.shape
    target, counts, lengths = (xp.asarray(one).astype("int64") for one in (target, target_length, output_length))
    inside = xp.arange(target.shape[1]) < counts[:, None]
    if xp is np:
        _check(target[inside], counts, lengths, target.shape[1], frames, classes, mask_index)
    target = xp.where(inside, target, mask_index)
    states = xp.full((batch, 2 * target.shape[1] + 1), mask_index)
    states[:, 1::2] = target
    skips = xp.zeros(states.shape, bool)  # whether a state is reached from the last but one: another label, no blank
    skips[:, 3::2] = target[:, 1:] != target[:, :-1]
    log_p = k.log_softmax(output.astype("float64"))
    emitted = xp.take_along_axis(log_p, xp.broadcast_to(states[:, None], (batch, frames, states.shape[1])), axis=2)
    forward = xp.full((frames, *states.shape), -xp.inf)
    forward[0, :, :2] = emitted[:, 0, :2]
    for t in range(1, frames):
        forward[t] = _reached(forward[t - 1], skips) + emitted[:, t]
    last = forward[lengths - 1, xp.arange(batch)]
    ends = 2 * counts[:, None] - xp.arange(2)  # the last blank and the last label, which there need not be
    at_ends = xp.where(ends < 0, -xp.inf, xp.take_along_axis(last, xp.maximum(ends, 0), axis=1))
    log_z = xp.logaddexp(at_ends[:, 0], at_ends[:, 1])
    possible = xp.isfinite(log_z)

    def vjp(g: Any, needs: Any) -> Any:
        if not needs[1]:
            return None, None, None, None
        following = xp.zeros(skips.shape, bool)  # the same steps, backwards
        following[:, :-2] = skips[:, 2:]
        shares = xp.zeros((batch, frames, states.shape[1]))  # of the paths, those in a state at a frame
        divisor = xp.where(possible, log_z, 0)[:, None]
        in_end = (xp.arange(states.shape[1]) == ends[..., None]).any(axis=1)
        rest = xp.full(states.shape, -xp.inf)
        for t in range(frames - 1, -1, -1):
            if t < frames - 1:
                rest = _reached((rest + emitted[:, t + 1])[:, ::-1], following[:, ::-1])[:, ::-1]
            rest = xp.where((lengths == t + 1)[:, None], xp.where(in_end, 0, -xp.inf), rest)
            shares[:, t] = xp.exp(forward[t] + rest - divisor)
        hits = k.matmul(shares, (states[..., None] == xp.arange(classes)).astype("float64"))
        counted = (xp.arange(frames) < lengths[:, None]) & possible[:, None]
        gradient = (xp.exp(log_p) - hits) * xp.where(counted, g[:, None], 0)[..., None]
        return None, gradient.astype(output.dtype), None, None

    return (-log_z).astype(_float_of(output.dtype)), vjp


def _reached(before: Any, skips: Any) -> Any:
    """The logarithm of what reaches each state from itself, from the one before and, where `skips`, the one before."""
    wide = k.xp.full((len(before), before.shape[1] + 2), -k.xp.inf)
    wide[:, 2:] = before
    stepped = k.xp.logaddexp(before, wide[:, 1:-1])
    return k.xp.logaddexp(stepped, k.xp.where(skips, wide[:, :-2], -k.xp.inf))


def _check(labels: Any, counts: Any, lengths: Any, most: int, frames: int, classes: int, blank: int) -> None:
    """Refuse what `ctc_loss` cannot take; the labels are those that count."""
    for name, given, least, largest in (("target_length", counts, 0, most), ("output_length", lengths, 1, frames)):
        wrong = given[(given < least) | (given > largest)]
        if wrong.size:
            raise ValueError(f"ctc_loss's {name} must lie between {least} and {largest} here, got {wrong[0]}.")
    wrong = labels[(labels < 0) | (labels >= classes) | (labels == blank)]
    if wrong.size:
        raise ValueError(
            f"A label of ctc_loss must lie between 0 and {classes - 1} and not be the blank {blank}, got {wrong[0]}; "
            "only what comes after a sample's labels may be the blank."
        )


def _decoded_shape(inputs: Any, lengths: Any, *, strategy: str, top_paths: int, **settings: Any) -> Any:
    paths = 1 if strategy == "greedy" else top_paths
    batch, frames, _ = inputs.shape
    return shapes.Spec((paths, batch, frames), "int32"), shapes.Spec((batch, paths), _float_of(inputs.dtype))


@operation(inputs=2, shape=_decoded_shape, keras="keras.src.ops.nn.CTCDecode")
def ctc_decode(
    inputs: Any,
    sequence_lengths: Any,
    strategy: str = "greedy",
    beam_width: int = 100,
    top_paths: int = 1,
    merge_repeated: bool = True,
    mask_index: int | None = 0,
) -> Any:
    """The labels that class scores stand for.

    Args:
        inputs: logits (n, frames, classes).
        sequence_lengths: how many frames of each sample count, whole numbers (n,).
        strategy: `"greedy"` takes the likeliest class of each frame, `"beam_search"` the likeliest labels that a search
            over all paths finds (computed on the host).
        beam_width: how many beginnings the search keeps at each frame.
        top_paths: how many results it gives, at most `beam_width`.
        merge_repeated: whether the greedy strategy takes repetitions without a blank between them as one label.
        mask_index: the class of the blank; None is the last.

    Returns:
        Labels, int32 (paths, n, frames), filled up with -1, and scores (n, paths): of the greedy strategy minus the sum
        of the largest logits, of the search the logarithms of the probabilities.

    Raises:
        ValueError: for another strategy, and for numbers that make no sense.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> scores = np.eye(3, dtype="float32")[None, [1, 1, 0, 1, 2]]  # the classes 1 1 _ 1 2
    >>> ops.ctc_decode(scores, [5])[0].numpy().tolist()
    [[[1, 1, 2, -1, -1]]]
    """
    xp, (_, frames, classes) = k.xp, inputs.shape
    one_of("strategy", strategy, ("greedy", "beam_search"), owner="ctc_decode")
    blank = classes - 1 if mask_index is None else mask_index
    inputs = inputs.astype(_float_of(inputs.dtype))
    if strategy == "beam_search":
        whole("beam_width", beam_width, 1, owner="ctc_decode")
        whole("top_paths", top_paths, 1, at_most=beam_width, owner="ctc_decode")
        log_p = k.to_host(k.log_softmax(inputs)).astype("float64")
        lengths = k.to_host(xp.asarray(sequence_lengths))
        found = [
            _searched(one[:n], beam_width, top_paths, blank, frames) for one, n in zip(log_p, lengths, strict=True)
        ]
        paths, scores = (np.stack(part) for part in zip(*found, strict=True))
        return k.to_device(paths.transpose(1, 0, 2)), k.to_device(scores.astype(inputs.dtype))
    counted = xp.arange(frames) < xp.asarray(sequence_lengths)[:, None]
    labels = xp.where(counted, inputs.argmax(axis=-1), blank)
    kept = labels != blank
    if merge_repeated:
        kept[:, 1:] &= labels[:, 1:] != labels[:, :-1]
    order = xp.argsort(xp.where(kept, xp.arange(frames), frames), axis=-1)  # what is kept comes first
    labels = xp.take_along_axis(xp.where(kept, labels, -1), order, axis=-1)
    return labels[None].astype("int32"), -(inputs.max(axis=-1) * counted).sum(axis=-1, keepdims=True)


def _searched(log_p: Any, width: int, top: int, blank: int, frames: int) -> tuple[Any, Any]:
    """The `top` likeliest sequences of labels of one sample and their log-probabilities (prefix beam search)."""
    paths: list[tuple[int, ...]] = [()]
    after_blank, after_label = np.zeros(1), np.full(1, -np.inf)
    for frame in log_p:
        index, total = {path: i for i, path in enumerate(paths)}, np.logaddexp(after_blank, after_label)
        last = np.array([path[-1] if path else blank for path in paths])
        grown = total[:, None] + frame  # each path with one more label, whose score needs a blank if it is the last
        grown[np.arange(len(paths)), last] = after_blank + frame[last]
        grown[:, blank] = -np.inf
        after_label = after_label + frame[last]
        for i, path in enumerate(paths):
            parent = index.get(path[:-1]) if path else None
            if parent is not None:  # one of these is a path that is known
                after_label[i] = np.logaddexp(after_label[i], grown[parent, path[-1]])
                grown[parent, path[-1]] = -np.inf
        after_blank = total + frame[blank]
        scores = np.concatenate([np.logaddexp(after_blank, after_label), grown.reshape(-1)])
        best = [i for i in np.argsort(-scores, kind="stable")[:width].tolist() if scores[i] > -np.inf]
        after_blank = np.array([after_blank[i] if i < len(paths) else -np.inf for i in best])
        after_label = np.array([after_label[i] if i < len(paths) else scores[i] for i in best])
        steps = [divmod(i - len(paths), len(frame)) for i in best]  # a negative one is a path as it was
        paths = [
            paths[i] if i < len(paths) else (*paths[at], label) for i, (at, label) in zip(best, steps, strict=True)
        ]
    labels, scores = np.full((top, frames), -1, "int32"), np.full(top, -np.inf)
    total = np.logaddexp(after_blank, after_label)
    for place, i in enumerate(np.argsort(-total, kind="stable")[:top]):
        labels[place, : len(paths[i])], scores[place] = paths[i], total[i]
    return labels, scores
