"""Random tensors, under Keras's names.

Every function takes a `seed`: a whole number gives the same values at every call, a `SeedGenerator` moves on from call
to call, and None takes a new seed from the global stream, which `utils.set_random_seed` restarts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minikeras import config
from minikeras import kernels as k
from minikeras.autodiff.op import composite
from minikeras.autodiff.operands import raw
from minikeras.autodiff.tensor import Tensor
from minikeras.lazy import offer_names
from minikeras.ops.common import as_float
from minikeras.ops.core import convert_to_tensor
from minikeras.ops.nn import masked_scale
from minikeras.ops.shaping import take
from minikeras.seeds import SeedGenerator, next_seed
from minikeras.tracebacks import user_facing
from minikeras.utils.checks import number, whole

__all__ = [
    "SeedGenerator",
    "beta",
    "binomial",
    "categorical",
    "dropout",
    "gamma",
    "normal",
    "randint",
    "shuffle",
    "truncated_normal",
    "uniform",
]

_FLOATS = ("float16", "bfloat16", "float32", "float64")


@user_facing
def normal(shape: Sequence[int], mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None) -> Tensor:
    """Normal values; `dtype` is a float type, by default `floatx()`.

    Args:
        mean: of the distribution.
        stddev: its standard deviation.

    >>> import minikeras as keras
    >>> keras.random.normal((2, 3), seed=1).shape
    (2, 3)
    """
    mean, stddev = number("mean", mean, owner="random.normal"), number("stddev", stddev, 0, owner="random.normal")
    values = _draw("normal", shape, _float_type(dtype), seed)
    return _scaled(values, stddev, mean)


@user_facing
def uniform(
    shape: Sequence[int], minval: float = 0.0, maxval: float = 1.0, dtype: Any = None, seed: Any = None
) -> Tensor:
    """Values from `minval` to before `maxval`; `dtype` is a float type, by default `floatx()`.

    >>> import minikeras as keras
    >>> keras.random.uniform((2, 3), seed=1).shape
    (2, 3)
    """
    minval = number("minval", minval, owner="random.uniform")
    maxval = number("maxval", maxval, owner="random.uniform")
    values = _draw("uniform", shape, _float_type(dtype), seed)
    return _scaled(values, maxval - minval, minval)


@user_facing
def truncated_normal(
    shape: Sequence[int], mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None
) -> Tensor:
    """Normal values that lie less than two `stddev` from `mean`; `dtype` is a float type, by default `floatx()`.

    >>> import minikeras as keras
    >>> keras.random.truncated_normal((2, 3), seed=1).shape
    (2, 3)
    """
    owner, dtype = "random.truncated_normal", _float_type(dtype)
    mean, stddev = number("mean", mean, owner=owner), number("stddev", stddev, 0, owner=owner)
    wide = "float64" if dtype == "float64" else "float32"
    within = _draw("uniform", shape, wide, seed) * (2 * _WITHIN_TWO) - _WITHIN_TWO
    return Tensor((_inverse_erf(within) * (math.sqrt(2) * stddev) + mean).astype(dtype, copy=False))


@user_facing
def randint(shape: Sequence[int], minval: int, maxval: int, dtype: Any = "int32", seed: Any = None) -> Tensor:
    """Whole numbers from `minval` to `maxval - 1`; `dtype` is an integer type.

    Raises:
        ValueError: for a type that is not an integer type, and where `maxval` is not above `minval`.

    >>> import minikeras as keras
    >>> keras.random.randint((3,), 5, 6, seed=1)
    <Tensor shape=(3,) dtype=int32>
    array([5, 5, 5], dtype=int32)
    """
    if _type_of(dtype).kind not in "iu":
        raise ValueError(f"randint makes whole numbers, got dtype={dtype!r}; use an integer type or random.uniform.")
    minval = whole("minval", minval, owner="random.randint", floats=True)
    maxval = whole("maxval", maxval, owner="random.randint", floats=True)
    if maxval <= minval:
        raise ValueError(f"randint needs a maxval above minval, got minval={minval} and maxval={maxval}.")
    steps = k.xp.floor(_draw("uniform", shape, "float64", seed) * (maxval - minval))
    return Tensor((steps + minval).astype(dtype))


@composite
def categorical(logits: Any, num_samples: int, dtype: Any = "int32", seed: Any = None) -> Any:
    """Class numbers drawn with the probabilities `softmax(logits)`: the Gumbel-max trick (Gumbel 1954).

    Args:
        logits: (batch, classes).
        num_samples: draws for each row.

    Returns:
        (batch, num_samples) of type `dtype`.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> keras.random.categorical(np.array([[0.0, 100.0]]), 3, seed=1)
    <Tensor shape=(1, 3) dtype=int32>
    array([[1, 1, 1]], dtype=int32)
    """
    num_samples = whole("num_samples", num_samples, 0, owner="random.categorical")
    scores = as_float(raw(logits))
    if scores.ndim != 2:
        raise ValueError(f"categorical takes logits of shape (batch, classes), got shape {tuple(scores.shape)}.")
    batch, classes = scores.shape
    draws = _draw("uniform", (batch, num_samples, classes), "float64", seed)
    gumbel = -k.xp.log(-k.xp.log(k.xp.maximum(draws, 2.0**-54)))
    return Tensor((gumbel + scores[:, None, :]).argmax(axis=-1).astype(dtype))


@composite
def dropout(inputs: Any, rate: float, noise_shape: Any = None, seed: Any = None) -> Any:
    """`inputs` with a random part `rate` set to 0 and the rest scaled by `1 / (1 - rate)`.

    Args:
        inputs: floats of any shape.
        rate: 0 to 1, which leaves nothing.
        noise_shape: shape of the mask, where 1 shares it along an axis and None is the inputs' size; default all None.

    Raises:
        ValueError: for another rate.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> keras.random.dropout(np.ones((2, 3)), 0.0, seed=1)
    <Tensor shape=(2, 3) dtype=float64>
    array([[1., 1., 1.],
           [1., 1., 1.]])
    """
    rate = number("rate", rate, 0, 1, owner="random.dropout")
    inputs = inputs if hasattr(inputs, "shape") else convert_to_tensor(inputs)
    sizes = tuple(inputs.shape)
    wanted = (None,) * len(sizes) if noise_shape is None else noise_shape
    shape = tuple(size if one is None else one for size, one in zip(sizes, wanted, strict=True))
    key, counter = _stream(seed).next(k.blocks_for("dropout_mask", math.prod(shape)))
    return masked_scale(inputs, mask=k.dropout_mask(key, counter, shape, float(rate)), scale=1 / (1 - rate or 1))


@composite
def shuffle(x: Any, axis: int = 0, seed: Any = None) -> Any:
    """`x` with its slices along `axis` in a random order.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> sorted(keras.random.shuffle(np.arange(5), seed=1).numpy().tolist())
    [0, 1, 2, 3, 4]
    """
    x = x if hasattr(x, "shape") else convert_to_tensor(x)
    axis = whole("axis", axis, -len(x.shape), at_most=len(x.shape) - 1, owner="random.shuffle")
    order = _draw("uniform", (x.shape[axis],), "float64", seed).argsort()
    return take(x, order, axis=axis)


@user_facing
def gamma(shape: Sequence[int], alpha: Any, dtype: Any = None, seed: Any = None) -> Tensor:
    """Values of gamma distributions of scale 1; `dtype` is a float type, by default `floatx()`.

    Args:
        alpha: their shape parameter and mean, above 0: a number, or an array that broadcasts to `shape`.

    Raises:
        ValueError: where `alpha` is not above 0.

    >>> import minikeras as keras
    >>> keras.random.gamma((2, 3), 2.0, seed=1).shape
    (2, 3)
    """
    dtype, sizes = _float_type(dtype), _sizes(shape)
    return Tensor(k.xp.exp(_log_gamma(_positive("gamma", "alpha", alpha, sizes), _stream(seed))).astype(dtype))


@user_facing
def beta(shape: Sequence[int], alpha: Any, beta: Any, dtype: Any = None, seed: Any = None) -> Tensor:
    """Values of beta distributions, between 0 and 1; `dtype` is a float type, by default `floatx()`.

    Args:
        alpha, beta: their parameters, above 0: numbers, or arrays that broadcast to `shape`; the mean is
            `alpha / (alpha + beta)`.

    Raises:
        ValueError: where a parameter is not above 0.

    >>> import minikeras as keras
    >>> keras.random.beta((2, 3), 0.5, 0.5, seed=1).shape
    (2, 3)
    """
    dtype, sizes = _float_type(dtype), _sizes(shape)
    parameters = _positive("beta", "alpha", alpha, sizes), _positive("beta", "beta", beta, sizes)
    return Tensor(_beta(*parameters, _stream(seed)).astype(dtype))


@user_facing
def binomial(shape: Sequence[int], counts: Any, probabilities: Any, dtype: Any = None, seed: Any = None) -> Tensor:
    """How many of `counts` trials succeed; `dtype` is a float type, by default `floatx()`.

    Args:
        counts: numbers of trials, at least 0: a number, or an array that broadcasts to `shape`.
        probabilities: of success in each trial, 0 to 1; likewise.

    Raises:
        ValueError: for counts below 0 and for probabilities that are none.

    >>> import minikeras as keras
    >>> keras.random.binomial((2, 3), 10.0, 1.0, seed=1)
    <Tensor shape=(2, 3) dtype=float32>
    array([[10., 10., 10.],
           [10., 10., 10.]], dtype=float32)
    """
    dtype, sizes, stream = _float_type(dtype), _sizes(shape), _stream(seed)
    left = k.xp.floor(_parameter("binomial", "counts", counts, sizes))
    chance = _parameter("binomial", "probabilities", probabilities, sizes)
    if left.size and (not bool((left >= 0).all()) or not bool(((chance >= 0) & (chance <= 1)).all())):
        raise ValueError(
            f"binomial needs counts of at least 0 and probabilities from 0 to 1, got {counts!r:.80} and "
            f"{probabilities!r:.80}."
        )
    total = k.xp.zeros_like(left)
    # Of n uniform numbers the i-th smallest is of a beta distribution.  On its one side are i - 1 of the others, on the
    # other side n - i: either all those below are successes, or all those above are none (Devroye 1986, chapter X.4).
    while left.size and float(left.max()) > _TRIALS:
        many = left > _TRIALS
        middle = k.xp.where(many, k.xp.floor(left / 2) + 1, 1)
        border = _beta(middle, k.xp.where(many, left + 1 - middle, 1), stream)
        below = border < chance
        total += k.xp.where(many & below, middle, 0)
        rest = k.xp.where(below, (chance - border) / k.xp.maximum(1 - border, 2.0**-60), chance / border)
        chance = k.xp.where(many, rest, chance)
        left = k.xp.where(many, k.xp.where(below, left - middle, middle - 1), left)
    for trial in range(int(left.max()) if left.size else 0):
        total += (trial < left) & (_draw("uniform", sizes, "float64", stream) < chance)
    return Tensor(total.astype(dtype))


_TRIALS = 16  # so many are drawn one by one


def _sizes(shape: Sequence[int]) -> tuple[int, ...]:
    if isinstance(shape, (str, dict)) or not hasattr(shape, "__len__"):
        raise ValueError(f"The shape of random values must be a tuple or list of sizes, got {shape!r}.")
    return tuple(whole("each size of random values", size, 0) for size in shape)


def _type_of(dtype: Any) -> np.dtype:
    try:
        return np.dtype(config.standardize_dtype(dtype))
    except ValueError:
        raise ValueError(f"Random values need a dtype of numbers, got {dtype!r}.") from None


def _parameter(function: str, name: str, value: Any, sizes: tuple[int, ...]) -> Any:
    """A distribution's parameter for each of its values, in float64."""
    array = value.data if isinstance(value, Tensor) else value
    array = array if isinstance(array, k.xp.ndarray) else np.asarray(array)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"random.{function} needs numbers for {name}, got {value!r:.80}.")
    array = k.xp.asarray(array, "float64")
    if not bool(k.xp.isfinite(array).all()):
        raise ValueError(f"random.{function} needs finite numbers for {name}, got {value!r:.80}.")
    try:
        return k.xp.broadcast_to(array, sizes)
    except ValueError:
        raise ValueError(
            f"random.{function} needs a {name} that broadcasts to the shape {sizes}, got one of shape {array.shape}."
        ) from None


def _positive(function: str, name: str, value: Any, sizes: tuple[int, ...]) -> Any:
    array = _parameter(function, name, value, sizes)
    if array.size and not bool((array > 0).all()):
        raise ValueError(f"random.{function} needs {name} above 0, got {value!r:.80}.")
    return array


def _beta(alpha: Any, beta: Any, stream: SeedGenerator) -> Any:
    ratio = _log_gamma(beta, stream) - _log_gamma(alpha, stream)
    return 1 / (1 + k.xp.exp(k.xp.minimum(ratio, 700.0)))  # e**710 is no float any more


def _log_gamma(alpha: Any, stream: SeedGenerator) -> Any:
    """Logarithms of values of gamma distributions, which for small `alpha` are too small themselves.

    Marsaglia and Tsang 2000, "A simple method for generating gamma variables": proposals are drawn anew for the few
    values whose proposals were refused, until there are none.  For `alpha` below 1 as there, from `alpha + 1`.
    """
    d = (k.xp.where(alpha < 1, alpha + 1, alpha) - 1 / 3).reshape(-1)
    result, missing = k.xp.empty(d.size), k.xp.arange(d.size)
    while missing.size:
        size, scale = (missing.size,), d[missing]
        x = _draw("normal", size, "float64", stream)
        v = k.xp.maximum(1 + x / k.xp.sqrt(9 * scale), 0) ** 3
        log_v = k.xp.log(k.xp.maximum(v, 1e-300))
        bound = x * x / 2 + scale * (1 - v + log_v)
        taken = (v > 0) & (_log_uniform(size, stream) < bound)
        result[missing[taken]] = (k.xp.log(scale) + log_v)[taken]
        missing = missing[~taken]
    result = result.reshape(alpha.shape)
    return k.xp.where(alpha < 1, result + _log_uniform(alpha.shape, stream) / alpha, result)


def _log_uniform(shape: tuple[int, ...], stream: SeedGenerator) -> Any:
    return k.xp.log(k.xp.maximum(_draw("uniform", shape, "float64", stream), 2.0**-54))


def _stream(seed: Any) -> SeedGenerator:
    if seed is None:
        seed = next_seed(passing=True)
    return seed if isinstance(seed, SeedGenerator) else SeedGenerator(seed)


def _draw(kind: str, shape: Sequence[int], dtype: str, seed: Any) -> Any:
    """New values from the kernel of that name."""
    sizes = _sizes(shape)
    key, counter = _stream(seed).next(k.blocks_for(kind, math.prod(sizes), dtype))
    return getattr(k, kind)(key, counter, sizes, dtype)


def _scaled(values: Any, factor: float, offset: float) -> Tensor:
    scaled = k.combine(k.combine(values, float(factor), "multiply"), float(offset), "add")
    return Tensor(scaled.astype(values.dtype, copy=False))


def _float_type(dtype: Any) -> str:
    name = config.floatx() if dtype is None else _type_of(dtype).name
    if name not in _FLOATS:
        raise ValueError(f"Random values of this kind need a dtype of {_FLOATS}, got {dtype!r}.")
    return name


_WITHIN_TWO = math.erf(math.sqrt(2))  # the part of a normal distribution within two standard deviations

# Giles 2012, "Approximating the erfinv function", single precision, central region: it holds up to |x| = 0.9966.
_CENTRAL: tuple[float, ...] = (2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087)
_CENTRAL += (-0.00125372503, -0.00417768164, 0.246640727, 1.50140941)


def _inverse_erf(x: Any) -> Any:
    """The inverse error function for |x| up to `_WITHIN_TWO`, to a relative error of 1e-6."""
    w = -k.xp.log((1 - x) * (1 + x)) - 2.5
    p = _CENTRAL[0]
    for coefficient in _CENTRAL[1:]:
        p = p * w + coefficient
    return p * x


offer_names(__name__)
