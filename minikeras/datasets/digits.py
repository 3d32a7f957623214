"""Handwritten-looking digits, drawn by this module: a stand-in for MNIST that needs no file and no network.

Each picture is a pen's way through the control points of one of several styles of its digit.  The points are shaken,
the curve through them is bent, rotated, slanted and squeezed, fitted into a box, and each pixel is inked by its
distance to the curve.

The pictures are the same, bit for bit, on every machine: the randomness is the raw output of Philox, and floating-point
numbers only go through element-wise `+ - * /`, square root, minimum and rounding, which IEEE 754 defines exactly.  So
there are no sums, matrix products, sines or exponentials here, whose last bit depends on the machine.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from minikeras.lazy import offer_names
from minikeras.tracebacks import user_facing
from minikeras.utils.checks import whole

# Styles of each digit: strokes separated by "/", control points "x,y" with y downwards in a box about 13 x 20;
# the pen turns sharply at "!" and smoothly at other points.
_STYLES = (
    (
        "8,0 2,4 1,14 6,20 12,16 13,6 8,0 5,1",
        "11,2 5,1 1,9 3,18 10,19 13,10 10,2 6,1",
        "4,1 1,10 5,20 12,16 12,5 6,1 3,5",
    ),
    ("7,0 7,10 7,20", "4,4 7,0! 7,10 7,20", "4,4 7,0! 7,10 7,20 / 3,20 7,20 11,20", "8,0 6,10 7,20"),
    (
        "2,5 4,1 8,0 12,3 11,8 6,14 1,20! 7,19 13,20",
        "2,4 6,0 11,2 11,8 7,14 3,19 1,18 3,15 7,18 13,19",
        "1,4 5,0 11,1 12,6 8,12 1,20! 7,20 13,20",
    ),
    (
        "2,3 6,0 11,2 11,6 6,9! 11,11 13,15 10,19 5,20 1,17",
        "2,0 7,0 12,0! 6,8! 11,10 13,15 9,20 4,20 1,17",
        "2,2 7,0 11,3 10,7 6,9 5,10 7,10 11,12 12,16 8,20 2,18",
    ),
    (
        "3,0 2,6 1,11! 7,11 13,11 / 10,1 10,10 9,20",
        "9,0 5,7 0,13! 7,13 13,13 / 9,0 9,10 9,20",
        "2,0 2,8 6,11 11,9 / 12,0 11,10 10,20",
        "10,20 10,10 10,0! 5,7 1,12! 7,12 13,12",
    ),
    (
        "12,0 7,0 3,0! 2,9! 7,7 12,10 12,16 8,20 2,18",
        "3,0 2,9! 8,7 12,11 11,17 5,20 1,18 / 3,0 8,1 13,0",
        "12,1 5,1 3,6 8,9 12,13 9,19 2,19",
    ),
    (
        "10,0 4,5 1,13 4,19 9,20 12,16 10,11 5,11 2,15",
        "8,0 3,9 1,15 5,20 11,18 11,12 6,11 2,16",
        "12,2 8,0 3,6 1,14 5,20 10,19 12,14 8,10 2,14",
    ),
    (
        "1,1 6,1 12,0! 8,9 5,20",
        "1,1 6,1 12,0! 8,9 5,20 / 4,10 7,10 11,10",
        "1,4 1,0! 7,1 12,1! 9,10 6,20",
        "1,2 6,1 12,1! 9,8 7,20",
    ),
    (
        "11,3 7,0 3,3 5,8 10,12 11,17 7,20 2,17 4,12 9,8 11,4 8,0",
        "8,0 4,3 4,7 7,9 11,7 11,2 8,0 6,1 / 7,9 2,13 3,18 8,20 12,16 11,11 7,9 5,10",
        "10,4 6,0 2,4 5,8 10,12 11,17 6,20 2,17 5,11 9,8 12,3",
    ),
    (
        "11,4 7,0 2,3 2,8 6,10 10,7 11,3! 11,12 9,20",
        "11,3 6,0 2,4 4,9 9,8 11,3! 11,13 8,19 3,19",
        "12,2 6,0 2,5 5,10 10,7 12,2 10,12 9,20",
    ),
)
_SAMPLES = 80  # points of a pen's way, evenly spaced, at most about a pixel apart
_CHUNK = 1024  # pictures drawn at once; fixed, as it decides which random numbers a picture gets
_PAD = 2  # the canvas is larger than the picture, so that the 5 x 5 windows of the pen need no clipping


@user_facing
def load_data(train: int = 60000, test: int = 10000, seed: int = 0) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Draw handwritten-looking digits, as `(x_train, y_train), (x_test, y_test)`, in the form of MNIST.

    Args:
        train: the number of pictures for training, shuffled, as many of each digit as the number allows.
        test: the number of pictures for testing, drawn independently.
        seed: a whole number from 0 on; the same seed and numbers give the same pictures on every machine.

    Returns:
        Pictures, uint8 of shape `(n, 28, 28)`, 0 for paper and 255 for ink; labels, uint8 of shape `(n,)`, 0 to 9.

    Raises:
        ValueError: for a negative number or seed.
    """
    for name, value in (("train", train), ("test", test), ("seed", seed)):
        whole(name, value, 0, owner="digits.load_data")
    return _draw_set(train, np.random.Philox([0, seed])), _draw_set(test, np.random.Philox([1, seed]))


def _draw_set(count: int, bits: Any) -> tuple[Any, Any]:
    order = np.argsort(bits.random_raw(count), kind="stable")
    labels = (order % 10).astype(np.uint8)
    pictures = np.empty((count, 28, 28), np.uint8)
    for start in range(0, count, _CHUNK):
        part = slice(start, start + _CHUNK)
        pictures[part] = _draw(labels[part], bits)
    return pictures, labels


def _draw(labels: Any, bits: Any) -> Any:
    """Draw one picture of each label."""
    n = len(labels)
    x, y = _pen_ways(labels, bits)
    pressure, wave, phase, radius, softness, ink, grain, trim_start, trim_end = _uniform(bits, 9, n, 1)

    # Squared distances are measured in units of the pen's radius, so that a harder pressed pen wins at equal distance.
    time = np.arange(_SAMPLES, dtype=np.float32) / (_SAMPLES - 1)
    radius = 1.35 + 0.5 * radius
    width = radius * (1 + 0.18 * pressure * _sine(phase + (1.5 + wave) * time))
    lifted = (time < 0.03 * trim_start) | (time > 1 - 0.03 * trim_end)  # the pen starts late, leaves early
    scale = np.where(lifted, 1e6, 1 / (width * width))

    window = np.arange(-2, 3, dtype=np.float32)
    column, row = np.rint(x), np.rint(y)
    dx, dy = (column - x)[..., None] + window, (row - y)[..., None] + window
    squared = ((dy * dy)[..., :, None] + (dx * dx)[..., None, :]) * scale[..., None, None]
    side = 28 + 2 * _PAD
    corner = np.arange(n)[:, None] * side**2 + (row.astype(np.intp) + _PAD) * side + column.astype(np.intp) + _PAD
    offsets = np.add.outer(np.arange(-2, 3) * side, np.arange(-2, 3)).ravel()
    canvas = np.full(n * side**2, 9, np.float32)  # the squared distance to the curve; 9 is beyond any pen
    for sample in range(_SAMPLES):  # the windows of one sample lie on different pictures: no index occurs twice
        index = corner[:, sample, None] + offsets
        canvas[index] = np.minimum(canvas[index], squared[:, sample].reshape(n, 25))
    distance = np.sqrt(canvas.reshape(n, side, side)[:, _PAD:-_PAD, _PAD:-_PAD].reshape(n, 784))

    coverage = (1 - distance) * (radius / (0.9 + 0.25 * softness)) + 0.5
    speckle = bits.random_raw(n * 98).astype("<u8").view(np.uint8).reshape(n, 784)
    strength = (228 + 27 * ink) - (0.08 + 0.08 * grain) * speckle
    return np.floor(np.clip(coverage, 0, 1) * strength + 0.5).astype(np.uint8).reshape(n, 28, 28)


def _pen_ways(labels: Any, bits: Any) -> tuple[Any, Any]:
    """The pixel coordinates of the pen at each of `_SAMPLES` times, two arrays of shape (n, _SAMPLES)."""
    n = len(labels)
    first, count, controls, neighbours, weights = _templates()
    style = first[labels] + (bits.random_raw(n) % count[labels]).astype(np.intp)
    points = controls[:, style] + 1.15 * _uniform(bits, 2, n, controls.shape[2])
    picture = np.arange(n)[:, None]
    way = np.zeros((2, n, _SAMPLES), np.float32)
    for neighbour in range(4):
        way += weights[style, neighbour] * points[:, picture, neighbours[style, neighbour]]
    x, y = (way[0] - 7) / 10, (way[1] - 10) / 10

    u = _uniform(bits, 14, n, 1)
    for k, amplitude, frequency in ((0, 0.12, 0.8), (4, 0.05, 1.8)):  # elastic: a long and a short wave each way
        bend = amplitude * u[k] * _sine(frequency * y + u[k + 1])
        y = y + amplitude * u[k + 2] * _sine(frequency * x + u[k + 3])
        x = x + bend
    x = x * (1.1 + 0.25 * u[8])
    x = x - (0.12 + 0.33 * u[9]) * y  # slant, more often to the right
    tangent = 0.13 * u[10]  # of half the angle: the cosine and the sine without calling them
    cosine, sine = (1 - tangent * tangent) / (1 + tangent * tangent), 2 * tangent / (1 + tangent * tangent)
    x, y = cosine * x - sine * y, sine * x + cosine * y

    left, right = x.min(axis=1, keepdims=True), x.max(axis=1, keepdims=True)
    top, bottom = y.min(axis=1, keepdims=True), y.max(axis=1, keepdims=True)
    scale = (17 + 2.5 * u[11]) / np.maximum(right - left, bottom - top)
    x = (x - (left + right) / 2) * scale + (13.5 + 2 * u[12])
    y = (y - (top + bottom) / 2) * scale + (13.5 + 2 * u[13])
    return x, y


def _uniform(bits: Any, *shape: int) -> Any:
    """Float32 numbers spread evenly over (-1, 1), from 16 bits each."""
    count = math.prod(shape)
    words = bits.random_raw((count + 3) // 4).astype("<u8").view("<u2")[:count]
    return ((words.astype(np.float32) - 32767.5) / 32768).reshape(shape)


def _sine(turns: Any) -> Any:
    """A smooth wave of period 2 between -1 and 1, made of parabolas."""
    turns = turns - 2 * np.floor(turns / 2) - 1
    return 4 * turns * (1 - np.abs(turns))


@cache
def _templates() -> tuple[Any, ...]:
    """The styles as arrays.

    Returns:
        The first style and the number of styles of each digit, the control points `(2, styles, points)`, and for
        each sample of a style the four neighbouring control points and their weights in the curve, both of shape
        `(styles, 4, _SAMPLES)`.
    """
    texts = [text for styles in _STYLES for text in styles]
    counts = np.array([len(styles) for styles in _STYLES])
    first = np.cumsum(counts) - counts
    most = max(text.count(",") for text in texts)
    controls = np.zeros((2, len(texts), most), np.float32)
    neighbours = np.zeros((len(texts), 4, _SAMPLES), np.intp)
    weights = np.zeros((len(texts), 4, _SAMPLES), np.float32)

    # A uniform Catmull-Rom spline: t runs from 0 to 1 between the second and the third of four control points.
    t = np.arange(32) / 32
    basis = np.stack((((2 - t) * t - 1) * t, (3 * t - 5) * t * t + 2, ((4 - 3 * t) * t + 1) * t, (t - 1) * t * t)) / 2
    for style, text in enumerate(texts):
        dense_neighbours, steps, begin = [], [], 0
        for stroke in text.split("/"):
            words = stroke.split()
            end = begin + len(words) - 1
            controls[:, style, begin : end + 1] = np.array([word.strip("!").split(",") for word in words], float).T
            sharp = {begin, end} | {begin + k for k, word in enumerate(words) if word.endswith("!")}
            for k in range(begin, end):
                four = [k if k in sharp else k - 1, k, k + 1, k + 1 if k + 1 in sharp else k + 2]
                curve = sum(basis[j, :, None] * controls[:, style, four[j]].astype(float) for j in range(4))
                moves = np.diff(curve, axis=0, append=controls[:, style, k + 1][None])
                dense_neighbours.append(np.repeat(np.array(four)[:, None], len(t), axis=1))
                steps.append(np.sqrt(moves[:, 0] * moves[:, 0] + moves[:, 1] * moves[:, 1]))
            begin = end + 1
        length = np.cumsum(np.concatenate(steps))
        chosen = np.searchsorted(length, np.arange(_SAMPLES) * (length[-1] / _SAMPLES))
        neighbours[style] = np.concatenate(dense_neighbours, axis=1)[:, chosen]
        weights[style] = basis[:, chosen % len(t)]
    return first, counts.astype(np.uint64), controls, neighbours, weights


offer_names(__name__)
