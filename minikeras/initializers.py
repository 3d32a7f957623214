"""Initial values of weights, as in Keras 3, drawn on the CPU so that every device starts from the same ones.

An initializer is stateless: called twice it gives equal values.  Only one whose seed is a `SeedGenerator` moves on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np

from minikeras import config, registry
from minikeras.autodiff.symbolic import snake_case
from minikeras.declared import Check, Must, Number, Value, declared
from minikeras.lazy import offer_names
from minikeras.seeds import SeedGenerator, draw_seed, make_key, next_seed, whole_number
from minikeras.tracebacks import user_facing
from minikeras.utils.suggest import unknown

_TRUNCATED_STDDEV = 0.87962566103423978  # standard deviation of a standard normal cut off at 2 and -2


@declared
class Initializer(Value):
    """Base class: a callable that makes a NumPy array of a given shape and type.

    >>> import minikeras as keras
    >>> from minikeras import layers, ops
    >>> class Half(keras.Initializer):
    ...     def __call__(self, shape, dtype=None):
    ...         return ops.full(shape, 0.5, dtype)
    ...
    >>> layers.Dense(2, bias_initializer=Half()).bias_initializer((2,))
    <Tensor shape=(2,) dtype=float32>
    array([0.5, 0.5], dtype=float32)
    """

    def __call__(self, shape: Sequence[int], dtype: Any = None, **kwargs: Any) -> Any:
        """An array of `shape`; `dtype` None is `config.floatx()`."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__(shape, dtype); write one.")

    def clone(self) -> Initializer:
        """A new initializer of the same configuration; without a seed it draws its own."""
        return type(self).from_config(self.get_config())


class Zeros(Initializer):
    """All zeros.

    >>> from minikeras import initializers
    >>> initializers.Zeros()((2,))
    array([0., 0.], dtype=float32)
    """

    def __call__(self, shape: Sequence[int], dtype: Any = None, **kwargs: Any) -> Any:
        return np.zeros(shape, _dtype(dtype))


class Ones(Initializer):
    """All ones.

    >>> from minikeras import initializers
    >>> initializers.Ones()((2,))
    array([1., 1.], dtype=float32)
    """

    def __call__(self, shape: Sequence[int], dtype: Any = None, **kwargs: Any) -> Any:
        return np.ones(shape, _dtype(dtype))


def _is_numbers(value: Any) -> bool:
    return value is not None and not callable(value) and _kind(value) in "fiub"


@declared
class Constant(Initializer):
    """A given value everywhere.

    Args:
        value: a number, or an array that broadcasts to the shape.

    Raises:
        ValueError: for what is no number or array of numbers; and, when it is called, for an array that does not fit.

    >>> from minikeras import initializers
    >>> initializers.Constant(3.0)((2,))
    array([3., 3.], dtype=float32)
    """

    value: Annotated[Any, Must(_is_numbers, "a number or an array of numbers")] = 0.0

    def __call__(self, shape: Sequence[int], dtype: Any = None, **kwargs: Any) -> Any:
        try:
            return np.full(shape, self.value, _dtype(dtype))
        except ValueError:
            raise ValueError(
                f"Constant has an array of shape {np.shape(self.value)}, which does not broadcast to the weight's "
                f"shape {tuple(shape)}."
            ) from None

    def get_config(self) -> dict[str, Any]:
        if not isinstance(self.value, (np.ndarray, np.generic)):
            return {"value": self.value}
        if not self.value.ndim:
            return {"value": self.value.item()}
        array = {"value": self.value.tolist(), "dtype": self.value.dtype.name}
        return {"value": {"class_name": "__numpy__", "config": array}}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Constant:
        value = config.get("value", 0.0)
        if isinstance(value, dict):
            value = registry.deserialize_keras_object(value)
        return cls(value)


@declared
class Identity(Initializer):
    """`gain` on the diagonal of a matrix, zero elsewhere.

    >>> from minikeras import initializers
    >>> initializers.Identity()((2, 2))
    array([[1., 0.],
           [0., 1.]], dtype=float32)
    """

    gain: Annotated[float, Number()] = 1.0

    def __call__(self, shape: Sequence[int], dtype: Any = None, **kwargs: Any) -> Any:
        if len(shape) != 2:
            raise ValueError(f"Identity makes matrices, got shape {tuple(shape)}; choose another initializer.")
        return np.eye(*shape, dtype=_dtype(dtype)) * self.gain

    def get_config(self) -> dict[str, Any]:
        return {} if self.gain == 1 else {"gain": self.gain}  # Keras writes nothing and loses other gains


class RandomInitializer(Initializer):
    """Base of the random initializers.

    Args:
        seed: whole number; None takes one from the global stream, once; a `SeedGenerator` gives a new one per call.

    Raises:
        ValueError: for any other seed.
    """

    def __init__(self, seed: Any = None):
        if isinstance(seed, dict) and "config" in seed:
            seed = SeedGenerator.from_config(seed["config"])
        elif seed is not None and not isinstance(seed, SeedGenerator):
            seed = whole_number(seed)
        self._given_seed = seed
        self.seed = next_seed() if seed is None else seed

    def __call__(self, shape: Sequence[int], dtype: Any = None, **kwargs: Any) -> Any:
        dtype = _dtype(dtype)
        seed = draw_seed(*self.seed.next()) if isinstance(self.seed, SeedGenerator) else self.seed
        generator = np.random.Generator(np.random.Philox(key=make_key(seed, "initializer")))
        draw_type = "float64" if dtype == "float64" else "float32"
        return self.draw(generator, tuple(shape), draw_type).astype(dtype, copy=False)

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Any:
        """Values in `dtype`, `"float32"` or `"float64"`."""
        raise NotImplementedError(f"{type(self).__name__} has no draw(generator, shape, dtype); write one.")

    def get_config(self) -> dict[str, Any]:
        seed = self._given_seed
        seed = _as_object(seed, "keras.random") if isinstance(seed, SeedGenerator) else seed
        return {"seed": seed, **super().get_config()} | {"seed": seed}


@declared
class RandomNormal(RandomInitializer):
    """Normal values.

    Args:
        mean, stddev: of the distribution.

    >>> from minikeras import initializers
    >>> initializers.RandomNormal(stddev=0.01, seed=1)((2, 3)).shape
    (2, 3)
    """

    mean: Annotated[float, Number()] = 0.0
    stddev: Annotated[float, Number(0)] = 0.05
    seed: Any = None

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Any:
        return generator.standard_normal(shape, dtype) * self.stddev + self.mean


class TruncatedNormal(RandomNormal):
    """Normal values, drawn again where they lie more than two `stddev` from `mean`.

    >>> from minikeras import initializers
    >>> values = initializers.TruncatedNormal(stddev=1.0, seed=1)((100,))
    >>> bool(abs(values).max() <= 2)
    True
    """

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Any:
        return _truncated_normal(generator, shape, dtype) * self.stddev + self.mean


@declared
class RandomUniform(RandomInitializer):
    """Uniform values from `minval` to `maxval`.

    >>> from minikeras import initializers
    >>> values = initializers.RandomUniform(-1.0, 1.0, seed=1)((100,))
    >>> bool(values.min() >= -1 and values.max() < 1)
    True
    """

    minval: Annotated[float, Number()] = -0.05
    maxval: Annotated[float, Number()] = 0.05
    seed: Any = None

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Any:
        return generator.random(shape, dtype) * (self.maxval - self.minval) + self.minval


def _word(*choices: str) -> Check:
    """The check of a word in any case."""

    def check(thing: Any, name: str, value: Any) -> str:
        if (word := str(value).lower()) not in choices:
            raise ValueError(unknown(f"{name} of {type(thing).__name__}", value, choices))
        return word

    return check


def _distribution(thing: Any, name: str, value: Any) -> str:
    word = str(value).lower()
    known = _word("truncated_normal", "untruncated_normal", "uniform")
    return known(thing, name, "truncated_normal" if word == "normal" else value)


def _are_axes(value: Any) -> bool:
    return value is None or (isinstance(value, (list, tuple)) and all(isinstance(one, int) for one in value))


_Axes = Annotated[Sequence[int] | None, Must(_are_axes, "a list of whole numbers")]


@declared
class VarianceScaling(RandomInitializer):
    """Values of variance `scale / n`, where n counts a unit's inputs, its outputs, or is their mean.

    Args:
        scale: positive factor.
        mode: what n is: `"fan_in"`, `"fan_out"` or `"fan_avg"`.
        distribution: `"truncated_normal"` (also called `"normal"`), `"untruncated_normal"` or `"uniform"`.
        seed: see `RandomInitializer`.
        input_axes, output_axes: axes whose product is the fan; by default the last two axes are inputs and outputs, and
            the axes before them multiply both.

    Raises:
        ValueError: for a scale that is not positive and for unknown names.

    >>> from minikeras import initializers
    >>> initializers.VarianceScaling(2.0, mode="fan_in", distribution="uniform", seed=1)((3, 4)).shape
    (3, 4)
    """

    scale: Annotated[float, Number(above=0)] = 1.0
    mode: Annotated[str, _word("fan_in", "fan_out", "fan_avg")] = "fan_in"
    distribution: Annotated[str, _distribution] = "truncated_normal"
    seed: Any = None
    input_axes: _Axes = None
    output_axes: _Axes = None

    def __post_init__(self) -> None:
        if (self.input_axes is None) != (self.output_axes is None):
            raise ValueError(
                f"{type(self).__name__} needs both input_axes and output_axes or neither, got {self.input_axes!r} and "
                f"{self.output_axes!r}."
            )

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Any:
        fan_in, fan_out = compute_fans(shape, self.input_axes, self.output_axes)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        stddev = math.sqrt(self.scale / max(1.0, fan))
        if self.distribution == "truncated_normal":
            return _truncated_normal(generator, shape, dtype) * (stddev / _TRUNCATED_STDDEV)
        if self.distribution == "untruncated_normal":
            return generator.standard_normal(shape, dtype) * stddev
        limit = math.sqrt(3) * stddev
        return generator.random(shape, dtype) * (2 * limit) - limit


class _NamedScaling(VarianceScaling):
    """A variance scaling known by its authors' name, which stands for scale, mode and distribution."""

    _SETTING: tuple[float, str, str]

    def __init__(
        self, seed: Any = None, input_axes: Sequence[int] | None = None, output_axes: Sequence[int] | None = None
    ):
        super().__init__(*self._SETTING, seed, input_axes, output_axes)

    def get_config(self) -> dict[str, Any]:
        settings = ("scale", "mode", "distribution")
        return {name: value for name, value in super().get_config().items() if name not in settings}


class GlorotUniform(_NamedScaling):
    """Uniform within sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010).

    >>> from minikeras import initializers
    >>> limit = (6 / (3 + 4)) ** 0.5
    >>> bool((abs(initializers.GlorotUniform(seed=1)((3, 4))) <= limit).all())
    True
    """

    _SETTING = (1.0, "fan_avg", "uniform")


class GlorotNormal(_NamedScaling):
    """Truncated normal of variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010).

    >>> from minikeras import initializers
    >>> initializers.GlorotNormal(seed=1)((3, 4)).shape
    (3, 4)
    """

    _SETTING = (1.0, "fan_avg", "truncated_normal")


class HeUniform(_NamedScaling):
    """Uniform within sqrt(6 / fan_in) (He et al. 2015).

    >>> from minikeras import initializers
    >>> limit = (6 / 3) ** 0.5
    >>> bool((abs(initializers.HeUniform(seed=1)((3, 4))) <= limit).all())
    True
    """

    _SETTING = (2.0, "fan_in", "uniform")


class HeNormal(_NamedScaling):
    """Truncated normal of variance 2 / fan_in (He et al. 2015).

    >>> from minikeras import initializers
    >>> initializers.HeNormal(seed=1)((3, 4)).shape
    (3, 4)
    """

    _SETTING = (2.0, "fan_in", "truncated_normal")


class LecunUniform(_NamedScaling):
    """Uniform within sqrt(3 / fan_in) (LeCun et al. 1998).

    >>> from minikeras import initializers
    >>> initializers.LecunUniform(seed=1)((3, 4)).shape
    (3, 4)
    """

    _SETTING = (1.0, "fan_in", "uniform")


class LecunNormal(_NamedScaling):
    """Truncated normal of variance 1 / fan_in (LeCun et al. 1998).

    >>> from minikeras import initializers
    >>> initializers.LecunNormal(seed=1)((3, 4)).shape
    (3, 4)
    """

    _SETTING = (1.0, "fan_in", "truncated_normal")


@declared
class Orthogonal(RandomInitializer):
    """A random orthogonal matrix times `gain` (Saxe et al. 2014), over all axes but the last and the last.

    The shorter side of the matrix (prod(shape[:-1]), shape[-1]) is orthonormal.

    Raises:
        ValueError: for fewer than two axes.

    >>> import numpy as np
    >>> from minikeras import initializers
    >>> q = initializers.Orthogonal(seed=1)((3, 3))
    >>> bool(np.allclose(q @ q.T, np.eye(3), atol=1e-5))
    True
    """

    gain: Annotated[float, Number()] = 1.0
    seed: Any = None

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Any:
        if len(shape) < 2:
            raise ValueError(f"Orthogonal needs at least two axes, got shape {shape}; choose another initializer.")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        q, r = np.linalg.qr(generator.standard_normal((max(rows, columns), min(rows, columns)), dtype))
        q *= np.where(np.diag(r) < 0, -1, 1).astype(dtype)  # makes q uniform over orthogonal matrices
        q *= self.gain
        return np.ascontiguousarray(q if rows >= columns else q.T).reshape(shape)


def _kind(value: Any) -> str:
    """NumPy's letter for the kind of a value's type; `"O"` for what is no array."""
    try:
        return np.asarray(value).dtype.kind
    except ValueError:  # lists of different lengths
        return "O"


def _dtype(dtype: Any) -> np.dtype:
    return np.dtype(config.standardize_dtype(dtype))


def _truncated_normal(generator: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Any:
    """Standard normal values within 2 and -2."""
    values = generator.standard_normal(shape, dtype)
    while (outside := np.abs(values) > 2).any():
        values[outside] = generator.standard_normal(np.count_nonzero(outside), dtype)
    return values


def compute_fans(
    shape: Sequence[int], input_axes: Sequence[int] | None = None, output_axes: Sequence[int] | None = None
) -> tuple[int, int]:
    """How many inputs and outputs a unit with a weight of this shape has; see `VarianceScaling`."""
    if input_axes is not None and output_axes is not None:
        if not all(-len(shape) <= axis < len(shape) for axis in (*input_axes, *output_axes)):
            raise ValueError(
                f"The input_axes {input_axes!r} and output_axes {output_axes!r} of an initializer must be axes of the "
                f"weight, got the shape {tuple(shape)}."
            )
        return math.prod(shape[axis] for axis in input_axes), math.prod(shape[axis] for axis in output_axes)
    if len(shape) < 2:
        return math.prod(shape), math.prod(shape)
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


zeros, ones, constant, identity = Zeros, Ones, Constant, Identity
random_normal, random_uniform, truncated_normal = (RandomNormal, RandomUniform, TruncatedNormal)
variance_scaling = VarianceScaling
glorot_uniform, glorot_normal = GlorotUniform, GlorotNormal
he_uniform, he_normal = HeUniform, HeNormal
lecun_uniform, lecun_normal = LecunUniform, LecunNormal
orthogonal = Orthogonal
OrthogonalInitializer, IdentityInitializer = Orthogonal, Identity

_CLASSES: list[type[Initializer]] = [Zeros, Ones, Constant, Identity, RandomNormal, RandomUniform, TruncatedNormal]
_CLASSES += [VarianceScaling, GlorotUniform, GlorotNormal, HeUniform, HeNormal, LecunUniform, LecunNormal, Orthogonal]
_BY_ALIAS = {snake_case(one.__name__): one for one in _CLASSES}

# every name that a user or a file may use
ALL: dict[str, type[Initializer]] = {
    **_BY_ALIAS,
    **{one.__name__: one for one in _CLASSES},
    "zero": Zeros,
    "one": Ones,
    "normal": RandomNormal,
    "uniform": RandomUniform,
    "OrthogonalInitializer": Orthogonal,
    "IdentityInitializer": Identity,
}
registry.builtin("keras.initializers", *dict.fromkeys(ALL.values()))


@user_facing
def get(identifier: Any) -> Callable[..., Any] | None:
    """An initializer from its name, class, configuration, values (an array), or any callable; None stays None.

    Args:
        identifier: a name, a configuration, an object, or None.

    Raises:
        ValueError: for anything else, and for unknown names.

    >>> from minikeras import initializers
    >>> initializers.get("he_normal")
    HeNormal()
    """
    if identifier is None:
        return None
    if isinstance(identifier, (str, dict)):
        return deserialize(identifier)
    if isinstance(identifier, type):
        identifier = identifier()
    elif hasattr(identifier, "__array__"):
        return _given_values(np.asarray(identifier))
    if not callable(identifier):
        raise ValueError(
            f"An initializer is a name, an Initializer, an array or a callable f(shape, dtype), got {identifier!r}."
        )
    return identifier


def _given_values(values: np.ndarray) -> Callable[..., Any]:
    def initialize(shape: Sequence[int], dtype: Any = None) -> Any:
        if tuple(shape) != values.shape:
            raise ValueError(
                f"The array given as an initializer has shape {values.shape}, but the weight has shape {tuple(shape)}."
            )
        return values.astype(_dtype(dtype))

    return initialize


def serialize(initializer: Initializer) -> dict[str, Any]:
    """The initializer in Keras's file form.

    >>> from minikeras import initializers
    >>> initializers.serialize(initializers.Zeros())["class_name"]
    'Zeros'
    """
    return _as_object(initializer, "keras.initializers")


def _as_object(instance: Any, module: str) -> dict[str, Any]:
    name = type(instance).__name__
    return {"module": module, "class_name": name, "config": instance.get_config(), "registered_name": None}


def deserialize(identifier: str | dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Callable[..., Any]:
    """An initializer from its name or from what `serialize` made; `custom_objects` maps further names to classes.

    Args:
        identifier: a name, a configuration, an object, or None.

    Raises:
        ValueError: for an unknown name.

    >>> from minikeras import initializers
    >>> initializers.deserialize({"class_name": "Constant", "config": {"value": 2.0}})
    Constant(value=2.0)
    """
    saved = {"class_name": identifier} if isinstance(identifier, str) else identifier
    name = saved.get("class_name")
    if not isinstance(name, str):
        raise ValueError(f"The description of an initializer has a class_name, got {identifier!r}.")
    known: dict[str, Any] = {**ALL, **(custom_objects or {})}
    found = registry.find_custom(name, saved.get("registered_name")) or known.get(name)
    if found is None:
        raise ValueError(unknown("initializer", name, [*_BY_ALIAS, *(custom_objects or {})]))
    return found.from_config(saved.get("config") or {}) if hasattr(found, "from_config") else found


offer_names(__name__, hidden="RandomInitializer compute_fans")
