"""Layer: configuration in `__init__`, weights in `build`, mathematics in `call`; the rest is here and in its bases."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from minikeras import constraints, initializers, journal, regularizers
from minikeras.autodiff.symbolic import SymbolicNode, snake_case, unique_name
from minikeras.autodiff.tensor import Variable, assign_all
from minikeras.config import DTypePolicy
from minikeras.layers.calling import Calling
from minikeras.layers.context import context, naming, within
from minikeras.layers.spec import as_shape
from minikeras.registry import deserialize_keras_object, is_builtin, is_description, serialize_value, spend_weights
from minikeras.tracebacks import end_at_users_line, user_facing
from minikeras.utils.checks import flag


def _read_init(cls: Any) -> tuple[list[inspect.Parameter], bool]:
    if cls.__init__ is Layer.__init__:
        return [], True
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    return named, any(p.kind is p.VAR_KEYWORD for p in parameters)


def _is_derived_from_builtin(cls: Any) -> bool:
    return any(is_builtin(base) for base in cls.__mro__)


_has_builtin_base: Callable[[Any], bool] = functools.cache(_is_derived_from_builtin)


_init_parameters: Callable[[Any], tuple[list[inspect.Parameter], bool]] = functools.cache(_read_init)


def _read_flags(cls: Any) -> list[tuple[int, str]]:
    """Position and name of the arguments of a built-in class that are True or False."""
    if not is_builtin(cls):
        return []
    parameters, _ = _init_parameters(cls)
    return [(place, one.name) for place, one in enumerate(parameters) if one.annotation in (bool, "bool")]


_flags: Callable[[Any], list[tuple[int, str]]] = functools.cache(_read_flags)


def _wrap_build(build: Callable) -> Callable:
    @functools.wraps(build)
    def building(self: Layer, *args: Any, **kwargs: Any) -> None:
        outside, context.building = context.building, self
        try:
            with within(self.name), journal.paused():
                build(self, *args, **kwargs)
        except BaseException as error:
            end_at_users_line(error)
            raise
        finally:
            context.building = outside
        if not self.built:
            names = [name for name in inspect.signature(build).parameters if name != "self"]
            self._build_shapes = {**dict(zip(names, args, strict=False)), **kwargs}
        self.built = True

    return building


class Layer(Calling):
    """The base of every layer and model.

    A subclass keeps its configuration in `__init__`, makes its weights with `add_weight` in `build(input_shape)` and
    computes in `call(inputs)`, which differentiates by itself when written with `minikeras.ops` and Python operators.

    Args:
        activity_regularizer: penalty on the outputs, added to the loss.
        trainable: whether training changes the layer's weights.
        dtype: number type of weights and computation, default `floatx()`.
        autocast: whether float inputs are cast to that type.
        name: default the class name in snake case with a number.
        input_shape, input_dim, batch_input_shape: on the first layer of a `Sequential`: the shape of its input.
        weights: initial weights, set when the layer is built.
    """

    _UNTRACKED = frozenset(
        {
            *("_inbound_nodes", "_losses", "_loss_owners", "_loss_functions"),
            *("_recorded", "_own", "_build_shapes", "_initial", "_accepted_shape"),
        }
    )
    replayable = (
        True  # whether predictions depend on nothing but inputs, weights and settings, see `training.inference`
    )
    _recorded: tuple[tuple, dict[str, Any]]
    _entry = 0  # the number of its last outermost call
    _build_shapes: dict[str, Any] | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        for place, name in _flags(cls):  # else "False", or what stands in the wrong place, would be True
            flag(name, args[place] if place < len(args) else kwargs.get(name), owner=cls.__name__)
        instance = super().__new__(cls, *args, **kwargs)
        instance._recorded = (args, kwargs)
        return instance

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "build" in cls.__dict__:
            cls.build = _wrap_build(cls.__dict__["build"])  # type: ignore[method-assign]

    def __init__(
        self,
        *,
        activity_regularizer: Any = None,
        trainable: bool = True,
        dtype: Any = None,
        autocast: bool = True,
        name: str | None = None,
        **kwargs: Any,
    ):
        if not isinstance(trainable, (bool, np.bool_)):
            raise ValueError(f"{type(self).__name__} takes trainable=True or False, got {trainable!r}.")
        if name is not None and not isinstance(name, str):
            raise ValueError(f"{type(self).__name__} takes a name of type str, got {name!r}.")
        self.name = name or unique_name(snake_case(type(self).__name__))
        self.autocast = autocast
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self._trainable = bool(trainable)
        self._dtype_policy = _as_policy(dtype)
        self._compute_type = np.dtype(self._dtype_policy.compute_dtype)
        self._own: list[Variable] = []
        self._losses: list[Any] = []
        self._loss_owners = []
        self._loss_functions: list[Callable[[], Any]] = []
        self._inbound_nodes: list[SymbolicNode] = []
        self._batch_input_shape = _input_shape_argument(kwargs)
        self._initial = kwargs.pop("weights", None)
        if kwargs.pop("quantization_config", None) is not None:
            raise ValueError(f"{type(self).__name__} {self.name!r} cannot be quantized; leave out quantization_config.")
        if kwargs:
            raise ValueError(f"{type(self).__name__} got unknown arguments {sorted(kwargs)}; check their spelling.")
        if type(self).build is Layer.build and _has_builtin_base(type(self)):
            self.built = True  # there is nothing to build

    # ------------------------------------------------------------ building

    @_wrap_build
    def build(self, input_shape: Any) -> None:
        """Create the weights for inputs of this shape; layers without weights need not define it."""

    @user_facing
    def add_weight(
        self,
        shape: Any = None,
        initializer: Any = None,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        aggregation: str = "none",
        overwrite_with_gradient: bool = False,
        name: str | None = None,
    ) -> Variable:
        """Create a weight of this layer.

        Args:
            shape: default `()`.
            initializer: default `"glorot_uniform"` for floats, zeros for integers and booleans.
            dtype: default the layer's.
            trainable, regularizer, constraint: as on a layer.
            name: last part of the weight's path.
        """
        if isinstance(shape, str):  # Keras 2: add_weight(name, shape, ...)
            name, shape, initializer = shape, initializer, (dtype if not isinstance(dtype, np.dtype) else None)
            dtype = None
        if overwrite_with_gradient:
            raise ValueError(
                f"{type(self).__name__} {self.name!r} got overwrite_with_gradient=True, but the optimizer adds "
                "to weights; leave it out and assign the weight yourself."
            )
        shape = () if shape is None else tuple(shape)
        spend_weights(shape)
        dtype = str(np.dtype(dtype or self._dtype_policy.variable_dtype))
        if initializer is None:
            initializer = "glorot_uniform" if np.dtype(dtype).kind == "f" else "zeros"
        constraint, regularizer = constraints.get(constraint), regularizers.get(regularizer)
        if isinstance(constraint, constraints.Constraint):
            constraint.check(shape)
        variable = Variable(initializers.get(initializer), shape=shape, dtype=dtype, trainable=trainable, name=name)
        with within(self.name):
            variable.path = "/".join((*naming.path, variable.name))
        regularizers.check(regularizer, variable)
        variable.regularizer, variable.constraint = regularizer, constraint
        variable.aggregation, variable.autocast = aggregation, autocast
        self._own.append(variable)
        self._restructured()
        return variable

    @property
    def dtype(self) -> str:
        return self._dtype_policy.variable_dtype

    @property
    def compute_dtype(self) -> str:
        return self._dtype_policy.compute_dtype

    variable_dtype = dtype

    @property
    def dtype_policy(self) -> DTypePolicy:
        return self._dtype_policy

    # ------------------------------------------------------------ configuration and storage

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, by name: recorded when the layer was made, read from its attributes."""
        base: dict[str, Any] = {"name": self.name, "trainable": self._trainable}
        base["dtype"] = serialize_value(self._dtype_policy)
        if self.activity_regularizer is not None:
            base["activity_regularizer"] = serialize_value(self.activity_regularizer)
        parameters, _ = _init_parameters(type(self))
        for parameter in parameters:
            name = parameter.name
            if name not in base and name not in ("dtype", "self"):
                base[name] = serialize_value(self._configured(parameter))
        return base

    def _configured(self, parameter: inspect.Parameter) -> Any:
        """The present value of a constructor argument: the attribute of that name, else what was passed."""
        if parameter.name in self.__dict__ or hasattr(type(self), parameter.name):
            return getattr(self, parameter.name)
        args, kwargs = self._recorded
        parameters, _ = _init_parameters(type(self))
        position = [p.name for p in parameters].index(parameter.name)
        if position < len(args):
            return args[position]
        return kwargs.get(parameter.name, None if parameter.default is parameter.empty else parameter.default)

    @classmethod
    @user_facing
    def from_config(cls, config: dict[str, Any]) -> Any:
        """The layer that `get_config` described."""
        config = dict(config)
        if not is_builtin(cls):
            for name, value in config.items():
                if is_description(value):  # built-in layers resolve descriptions themselves
                    config[name] = deserialize_keras_object(value)
        named, takes_more = _init_parameters(cls)
        if takes_more:
            return cls(**config)
        left_over = {"name", "trainable", "dtype"} - {parameter.name for parameter in named}
        later = {name: config.pop(name) for name in left_over & config.keys()}
        layer = cls(**config)
        layer.name = later.get("name", layer.name)
        layer.trainable = later.get("trainable", layer.trainable)
        return layer

    def get_build_config(self) -> dict[str, Any] | None:
        """What `build` was called with."""
        shapes = self._build_shapes
        if not shapes:
            return None
        if len(shapes) == 1:
            return {"input_shape": next(iter(shapes.values()))}
        return {"shapes_dict": dict(shapes)}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Build as `get_build_config` says."""
        if self.built or not config:
            return
        if config.get("shapes_dict"):
            self.build(**{name: as_shape(shape) for name, shape in config["shapes_dict"].items()})
        elif config.get("input_shape") is not None:
            self.build(as_shape(config["input_shape"]))
        self._after_build()

    def save_own_variables(self, store: Any) -> None:
        """Put this layer's own weights into `store` under "0", "1", ..."""
        for index, variable in enumerate(self._contents().own):
            store[str(index)] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Take this layer's own weights from `store`.

        Raises:
            ValueError, TypeError: where number, shapes or types do not fit; then nothing is changed.
        """
        variables = self._contents().own
        names = sorted(store.keys(), key=int)
        if len(names) != len(variables):
            hint = "" if self.built else "; build the layer before loading weights"
            raise ValueError(f"The layer {self.name!r} has {len(variables)} weights, the file {len(names)}{hint}.")
        values = [np.asarray(store[name]) for name in names]
        for variable, value in zip(variables, values, strict=True):
            if value.shape != variable.shape:
                raise ValueError(f"The weight {variable.path!r} has shape {variable.shape}, the file {value.shape}.")
        assign_all(variables, values)

    @user_facing
    def stateless_call(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("Layers keep their state; call the layer itself instead of stateless_call().")

    def __getstate__(self) -> dict[str, Any]:
        if self._loss_functions:
            raise TypeError(
                f"The {type(self).__name__} {self.name!r} cannot be copied or pickled, because the function "
                f"{self._loss_functions[0]!r:.80} given to add_loss() may refer to its weights; make it anew and add "
                "the function to that."
            )
        left_out = ("_losses", "_loss_owners", "_inbound_nodes", "_structure", "_settings", "_known")
        return {name: value for name, value in self.__dict__.items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._losses, self._loss_owners, self._inbound_nodes = [], [], []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"


def _as_policy(dtype: Any) -> DTypePolicy:
    if isinstance(dtype, DTypePolicy):
        return dtype
    if isinstance(dtype, dict):
        return DTypePolicy.from_config(dtype["config"])
    return DTypePolicy(None if dtype is None else str(np.dtype(dtype)) if not isinstance(dtype, str) else dtype)


def _input_shape_argument(kwargs: dict[str, Any]) -> tuple | None:
    """The batch shape that a first layer's `input_shape=`, `input_dim=` or `batch_input_shape=` gives."""
    names = ("batch_input_shape", "input_shape", "input_dim", "input_length", "batch_size")
    batch_shape, shape, size, length, batch_size = (kwargs.pop(name, None) for name in names)
    if batch_shape is not None:
        return tuple(batch_shape)
    if shape is not None:
        return (batch_size, *((shape,) if isinstance(shape, int) else tuple(shape)))
    if size is not None:
        return (batch_size, size) if length is None else (batch_size, length, size)
    return None
