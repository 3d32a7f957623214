"""Convolutions and poolings of every rank, stride, padding and dilation, for the tests of all kernels that do them."""

import numpy as np
from hypothesis import strategies as st

from minikeras.kernels import conv_output_length


def pairs(before, after):
    return tuple(zip(before, after, strict=True))


@st.composite
def geometries(draw, channels=(1, 2, 3)):
    rank = draw(st.integers(1, 3))
    numbers = lambda least, most: tuple(draw(st.integers(least, most)) for _ in range(rank))
    return {
        "n": draw(st.sampled_from([1, 3, 2, 0])),
        "spatial": numbers(1, 8 if rank < 3 else 5),
        "channels": draw(st.sampled_from(channels)),
        "size": draw(st.sampled_from([None, (1,) * rank])) or numbers(1, 3),
        "strides": draw(st.sampled_from([None, (1,) * rank])) or numbers(1, 3),
        "padding": draw(st.sampled_from([None, ((0, 0),) * rank])) or pairs(numbers(0, 3), numbers(0, 3)),
        "dilation": draw(st.sampled_from([None, (1,) * rank])) or numbers(1, 2),
    }


def geometry(spatial, channels, size, n=1, **options):
    """One of `geometries`, by default without strides, padding and dilation."""
    rank = len(size)
    plain = {"strides": (1,) * rank, "padding": ((0, 0),) * rank, "dilation": (1,) * rank}
    return {"n": n, "spatial": spatial, "channels": channels, "size": size} | plain | options


def problem(geometry, operation, width, groups, dtype="float64"):
    """(x, kernel, bias, g, the keyword arguments, dense kernel of an ordinary convolution that does the same)."""
    random = np.random.default_rng(0)
    channels, size, where = geometry["channels"] * groups, geometry["size"], geometry
    keywords = {name: where[name] for name in ("strides", "padding", "dilation")}
    x = random.standard_normal((where["n"], *where["spatial"], channels)).astype(dtype)
    lengths = [
        conv_output_length(*axis, *pair)
        for *axis, pair in zip(
            where["spatial"], size, where["strides"], where["dilation"], where["padding"], strict=True
        )
    ]
    if operation == "conv":
        keywords["groups"] = groups
        filters = width * groups
        kernel = random.standard_normal((*size, channels // groups, filters)).astype(dtype)
    else:
        filters = width * channels
        kernel = random.standard_normal((*size, channels, width)).astype(dtype)
    bias = random.standard_normal(filters).astype(dtype)
    g = random.standard_normal((where["n"], *lengths, filters)).astype(dtype)
    return x, kernel, bias, g, keywords


@st.composite
def poolings(draw, dtype="float64", channels=(1, 3)):
    """(x, g, the keyword arguments); small whole numbers, so that ties are common, with a NaN or infinity at times."""
    rank = draw(st.integers(1, 3))
    numbers = lambda least, most: tuple(draw(st.integers(least, most)) for _ in range(rank))
    size, strides, spatial = numbers(1, 3), numbers(1, 3), numbers(1, 8 if rank < 3 else 5)
    padding = draw(st.sampled_from([None, ((0, 0),) * rank])) or pairs(numbers(0, 4), numbers(0, 4))
    lengths = [
        conv_output_length(n, k, s, 1, *pair) for n, k, s, pair in zip(spatial, size, strides, padding, strict=True)
    ]
    n, c = draw(st.sampled_from([1, 3, 2, 0])), draw(st.sampled_from(channels))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    x = random.integers(-2, 3, (n, *spatial, c)).astype(dtype)
    x[random.random(x.shape) < 0.1] = draw(st.sampled_from([0, np.nan, np.inf, -np.inf]))
    g = random.integers(-5, 6, (n, *lengths, c)).astype(dtype)
    return x, g, {"size": size, "strides": strides, "padding": padding}
