"""Layer: configuration in `__init__`, weights in `build`, mathematics in `call`; the rest is here and in its bases."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Iterable, Mapping
from types import MethodType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import numpy as np

from minikeras import constraints, initializers, journal, regularizers
from minikeras.autodiff.symbolic import SymbolicNode, snake_case, unique_name
from minikeras.autodiff.tape import is_recording
from minikeras.autodiff.tensor import Tensor, Variable, assign_all, substituted
from minikeras.config import NUMBER_TYPES, standardize_dtype
from minikeras.declared import Converted, declared, field, fields, is_declared
from minikeras.layers.calling import Calling
from minikeras.layers.context import context, naming, within
from minikeras.layers.operation import Operation, Told
from minikeras.layers.spec import as_shape
from minikeras.registry import deserialize_keras_object, is_builtin, is_description, serialize_value
from minikeras.tracebacks import end_at_users_line, user_facing


def _read_arguments(cls: Any) -> tuple[list[str], bool]:
    """The names of a class's own constructor arguments, not those of `Layer`, and whether it takes others too."""
    if is_declared(cls):
        common = fields(Layer)
        return [name for name, one in fields(cls).items() if not (name in common and one.kw_only)], True
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    named = [one.name for one in parameters if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
    if any(one.kind is one.VAR_POSITIONAL for one in parameters):  # handed on to a base
        named += [name for name in _known(cls) if name not in named]
    return named, any(one.kind is one.VAR_KEYWORD for one in parameters)


def _known(layer: Any) -> list[str]:
    """The fields of a layer or a class of layers, without those of every layer."""
    return [name for name in fields(layer) if name not in fields(Layer)]


_own_arguments: Callable[[Any], tuple[list[str], bool]] = functools.cache(_read_arguments)


def _is_derived_from_builtin(cls: Any) -> bool:
    return any(is_builtin(base) for base in cls.__mro__)


_has_builtin_base: Callable[[Any], bool] = functools.cache(_is_derived_from_builtin)


def _name(layer: Any, name: str, value: Any) -> Any:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{type(layer).__name__} takes a name of type str, got {value!r}.")
    return value


def _switch(layer: Any, name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{type(layer).__name__} takes {name}=True or False, got {value!r}.")
    return bool(value)


_NO_SETTING = Told(lambda layer: None)


def _needs_arguments(method: Callable) -> bool:
    """Whether a method cannot be called without arguments."""
    _, *others = inspect.signature(method).parameters.values()
    return any(one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in others)


def _describes(value: Any) -> bool:
    """Whether a value from a description is an object's, or a list of such."""
    return is_description(value) or (isinstance(value, (list, tuple)) and any(map(is_description, value)))


class _Build:
    """A layer's `build`, with what happens before and after it; an object, so that a class is pickled with its own."""

    def __init__(self, build: Callable):
        functools.update_wrapper(self, build)
        self._build = build

    def __get__(self, layer: Any, owner: Any = None) -> Any:
        return self if layer is None else MethodType(self, layer)

    def __reduce__(self) -> Any:
        return _Build, (self._build,)

    def __call__(self, layer: Layer, *args: Any, **kwargs: Any) -> None:
        outside, context.building = context.building, layer
        try:
            with within(layer.name), journal.paused():
                layer._place_at("/".join(naming.path))
                self._build(layer, *args, **kwargs)
        except BaseException as error:
            end_at_users_line(error)
            raise
        finally:
            context.building = outside
        if outside is not layer and (not layer.built or layer._build_shapes is None):  # it may have set `built` itself
            names = [name for name in inspect.signature(self._build).parameters if name != "self"]
            layer._build_shapes = {**dict(zip(names, args, strict=False)), **kwargs}
        layer.built = True


def _building(build: Callable) -> Callable:
    """The same for type checkers, for which subclasses override a method of any arguments."""
    return _Build(build)


_METHOD = TypeVar("_METHOD", bound=Callable[..., Any])
_ORDER_OF_KERAS_2 = ("name", "shape", "dtype", "initializer", "regularizer", "trainable", "constraint")


def _name_first(add_weight: _METHOD) -> _METHOD:
    """Let `add_weight` be called with the name and the shape first, with Keras 2's order of the arguments.

    The third one may be the initializer; those that are not given are the layer's fields for a weight of this name.
    """

    @functools.wraps(add_weight)
    def called(self: Any, *args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], str):
            given = dict(zip(_ORDER_OF_KERAS_2, args, strict=False))
            third = given.get("dtype")
            if third is not None and not isinstance(third, np.dtype) and third not in NUMBER_TYPES:
                given["initializer"] = given.pop("dtype")
            twice = given.keys() & kwargs.keys()
            if twice or len(args) > len(_ORDER_OF_KERAS_2):
                raise TypeError(f"add_weight() got multiple values for argument {min(twice, default='name')!r}")
            given.update(kwargs)
            names = ("initializer", "regularizer", "constraint")
            given.update(zip(names, self._settings_of(args[0], *map(given.get, names)), strict=True))
            return add_weight(self, **given)
        return add_weight(self, *args, **kwargs)

    return called  # type: ignore[return-value]


@declared(kw_only=True)
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
        weights, initial_weights: set when the layer is built.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> class Scale(keras.Layer):
    ...     def build(self, input_shape):
    ...         self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="scale")
    ...     def call(self, inputs):
    ...         return inputs * self.scale
    ...
    >>> Scale()(np.ones((2, 3))).shape
    (2, 3)
    """

    _UNTRACKED = frozenset(
        {
            *("_inbound_nodes", "_losses", "_loss_owners", "_loss_functions"),
            *("_recorded", "_own", "_build_shapes", "_initial", "_accepted_shape", "_outbound"),
        }
    )
    replayable = True  # whether predictions depend on inputs, weights and settings alone, see `training.inference`
    _entry = 0  # the number of its last outermost call

    # Where a class has one of these by position too, it declares it again for Python alone: type checkers would leave
    # it at its place here, before the class's own.
    activity_regularizer: Annotated[Any, Converted(regularizers.get)] = None
    trainable: Annotated[bool, _switch] = field(default=True, stored=False)
    dtype: Any = field(default=None, stored=False)
    autocast: bool = True
    name: Annotated[Any, _name] = None
    batch_input_shape: Any = field(default=None, stored=False)
    initial_weights: Any = field(default=None, stored=False)
    if TYPE_CHECKING:  # names of older programs, see _other_arguments
        input_shape: Any = None
        input_dim: int | None = None
        weights: Any = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "build" in cls.__dict__:
            cls.build = _Build(cls.__dict__["build"])  # type: ignore[method-assign]

    def __post_init__(  # type: ignore[override]
        self, trainable: bool, dtype: Any, batch_input_shape: Any, initial_weights: Any
    ) -> None:
        self.name = self.name or unique_name(snake_case(type(self).__name__))
        self._trainable = trainable
        self._set_policy(dtype)
        self._own: list[Variable] = []
        self._losses: list[Any] = []
        self._loss_owners = []
        self._loss_functions: list[Callable[[], Any]] = []
        self._inbound_nodes: list[SymbolicNode] = []
        self._batch_input_shape = None if batch_input_shape is None else tuple(batch_input_shape)
        self._initial = initial_weights
        if type(self).build is Layer.build and _has_builtin_base(type(self)):
            self.built = True  # there is nothing to build

    @classmethod
    def _other_arguments(cls, given: dict[str, Any]) -> dict[str, Any]:
        """`input_shape=`, `input_dim=` and `batch_size=` of a first layer, and the `weights=` to begin with."""
        given = dict(given)
        if given.pop("quantization_config", None) is not None:
            raise ValueError(f"A {cls.__name__} cannot be quantized; leave out quantization_config.")
        if "weights" in given:
            given["initial_weights"] = given.pop("weights")
        shape, size, length, batch_size = (
            given.pop(name, None) for name in ("input_shape", "input_dim", "input_length", "batch_size")
        )
        if size is not None and shape is None:
            shape = (size,) if length is None else (length, size)
        if shape is not None:
            given["batch_input_shape"] = (batch_size, *((shape,) if isinstance(shape, int) else tuple(shape)))
        return given

    @classmethod
    def _refuse_arguments(cls, names: list[str], known: Iterable[str]) -> None:
        raise ValueError(f"{cls.__name__} got unknown arguments {names}; check their spelling.")

    # ------------------------------------------------------------ building

    @_building
    def build(self, input_shape: Any) -> None:
        """Create the weights for inputs of this shape; layers without weights need not define it."""

    @user_facing
    @_name_first
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
        """Create a weight of this layer: `add_weight(shape, ...)`, or `add_weight(name, shape, ...)` as in Keras 2.

        In a declared layer `add_weight("kernel", shape)` takes the initializer, regularizer and constraint from the
        fields `kernel_initializer`, ...; of `"recurrent_kernel"` from `recurrent_initializer`, ..., if these are there.

        Args:
            shape: default `()`.
            initializer: default `"glorot_uniform"` for floats, zeros for integers and booleans.
            dtype: default the layer's.
            trainable, regularizer, constraint: as on a layer.
            overwrite_with_gradient: whether optimizers put the gradient, which is then a value that a custom gradient
                computes, in the place of the weight.
            name: last part of the weight's path.
        """
        if self.built and context.entry is not None and context.building is None:
            self._refuse(
                "calls add_weight() in call(), which would make another weight at every call; make it in build(), or "
                "in __init__"
            )
        try:
            shape = () if shape is None else tuple(map(operator.index, shape))
        except TypeError:
            raise ValueError(
                f"add_weight of {self.name!r} takes a shape of whole numbers such as (3, 4), got {shape!r}."
            ) from None
        dtype = standardize_dtype(dtype or self.variable_dtype)
        if initializer is None:
            initializer = "glorot_uniform" if "float" in dtype else "zeros"
        constraint, regularizer = constraints.get(constraint), regularizers.get(regularizer)
        if isinstance(constraint, constraints.Constraint):
            constraint.check(shape)
        variable = Variable(initializers.get(initializer), shape=shape, dtype=dtype, trainable=trainable, name=name)
        with within(self.name):
            variable.path = "/".join((*naming.path, variable.name))
        regularizers.check(regularizer, variable)
        variable.regularizer, variable.constraint = regularizer, constraint
        variable.aggregation, variable.autocast = aggregation, autocast
        variable.overwrite_with_gradient = overwrite_with_gradient
        if not self._trainable:
            variable.trainable = False  # until the layer is trainable again
        self._own.append(variable)
        self._restructured()
        return variable

    add_variable = add_weight

    def _settings_of(self, weight: str, *given: Any) -> list[Any]:
        """The initializer, regularizer and constraint of a weight: those given, else the fields named after it."""
        known = fields(self)
        kind = weight if f"{weight}_initializer" in known else weight.removesuffix("_kernel")
        names = [f"{kind}_{setting}" for setting in ("initializer", "regularizer", "constraint")]
        return [
            getattr(self, name) if value is None and name in known else value
            for name, value in zip(names, given, strict=True)
        ]

    # ------------------------------------------------------------ configuration and storage

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, by name: recorded when the layer was made, read from its attributes."""
        base: dict[str, Any] = {"name": self.name, "trainable": self._trainable}
        base["dtype"] = serialize_value(self._dtype_policy)
        if self.activity_regularizer is not None:
            base["activity_regularizer"] = serialize_value(self.activity_regularizer)
        names, takes_more = _own_arguments(type(self))
        if takes_more and not is_declared(type(self)):  # with what was handed on to a base
            names = [*names, *(name for name in self._recorded[1] if name in _known(self) and name not in names)]
        for name in names:
            if name not in base:
                base[name] = serialize_value(self._configured(name))
        return base

    def _configured(self, name: str) -> Any:
        """The present value of a constructor argument: the attribute of that name, else what was passed."""
        if name in self.__dict__ or not isinstance(getattr(type(self), name, _NO_SETTING), Told):
            return getattr(self, name)
        args, kwargs = self._recorded
        given = {**dict(zip(_own_arguments(type(self))[0], args, strict=False)), **kwargs}
        if name in given:
            return given[name]
        default = inspect.signature(type(self).__init__).parameters[name].default
        return None if default is inspect.Parameter.empty else default

    @classmethod
    @user_facing
    def from_config(cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
        """The layer that `get_config` described; `custom_objects`: classes and functions by name, for what it holds."""
        config = {
            name: deserialize_keras_object(value, custom_objects) if _describes(value) else value
            for name, value in config.items()
        }
        named, takes_more = _own_arguments(cls)
        if takes_more:
            return cls(**config)
        left_over = {"name", "trainable", "dtype"} - set(named)
        later = {name: config.pop(name) for name in left_over & config.keys()}
        layer = cls(**config)
        layer.name = later.get("name", layer.name)
        layer.trainable = later.get("trainable", layer.trainable)
        return layer

    def get_build_config(self) -> dict[str, Any] | None:
        """What `build` was called with."""
        shapes = self._build_shapes
        if shapes is None:
            return None
        if len(shapes) == 1:
            return {"input_shape": next(iter(shapes.values()))}
        return {"shapes_dict": dict(shapes)}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Build as `get_build_config` says."""
        if self.built or not config:
            return
        if isinstance(config.get("shapes_dict"), Mapping):  # empty where build() was called without a shape
            shapes = {name: as_shape(shape) for name, shape in config["shapes_dict"].items()}
            if not shapes and _needs_arguments(type(self).build):
                return  # the first call builds it
            self.build(**shapes)
        elif config.get("input_shape") is not None:
            self.build(as_shape(config["input_shape"]))
        else:
            return
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
    def stateless_call(
        self,
        trainable_variables: Any,
        non_trainable_variables: Any,
        *args: Any,
        return_losses: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Call the layer with other values of its variables, which it has again what they were afterwards.

        Args:
            trainable_variables, non_trainable_variables: values in the order of these properties.
            args, kwargs: for the call.
            return_losses: whether the losses of the call are returned too.

        Returns:
            The outputs, the values that the non-trainable variables have after the call, and the losses if wanted.

        Raises:
            ValueError: where the layer is not built, or the values do not fit the variables.
            NotImplementedError: for values through which a gradient is recorded: it would not reach them.

        >>> from minikeras import layers, ops
        >>> layer = layers.Dense(1, kernel_initializer="ones")
        >>> layer.build((None, 2))
        >>> outputs, others = layer.stateless_call([[[2.0], [3.0]], [1.0]], [], ops.ones((1, 2)))
        >>> float(outputs[0, 0]), others
        (6.0, [])
        """
        if not self.built:
            raise ValueError(f"stateless_call needs the weights of {self.name!r}, which is not built; call it first.")
        variables = self.trainable_variables + self.non_trainable_variables
        values = [*trainable_variables, *non_trainable_variables]
        counts = len(self.trainable_variables), len(self.non_trainable_variables)
        if counts != (len(trainable_variables), len(non_trainable_variables)):
            raise ValueError(
                f"The layer {self.name!r} has {counts[0]} trainable and {counts[1]} other variables, got "
                f"{len(trainable_variables)} and {len(non_trainable_variables)} values; pass one for each."
            )
        if is_recording() and any(isinstance(one, Tensor) and one.tracked for one in values):
            raise NotImplementedError(
                "Gradients do not reach the values given to stateless_call(); assign them to the variables, and "
                "differentiate a call of the layer itself."
            )
        with substituted("stateless_call", variables, values):
            outputs = self(*args, **kwargs)
            after = [variable.value for variable in variables[counts[0] :]]
            losses = list(self.losses) if return_losses else []
        return (outputs, after, losses) if return_losses else (outputs, after)

    def __getstate__(self) -> dict[str, Any]:
        if self._loss_functions:
            raise TypeError(
                f"The {type(self).__name__} {self.name!r} cannot be copied or pickled, because the function "
                f"{self._loss_functions[0]!r:.80} given to add_loss() may refer to its weights; make it anew and add "
                "the function to that."
            )
        left_out = ("_losses", "_loss_owners", "_inbound_nodes", "_outbound", "_structure", "_settings", "_known")
        return {name: value for name, value in self.__dict__.items() if name not in left_out}

    def __copy__(self) -> Any:
        """A layer of the same settings and the very same weights, as shallow copies share what they hold."""
        copied = type(self).__new__(type(self))
        state = self.__getstate__().items()
        copied.__setstate__({name: value.copy() if type(value) in (list, dict) else value for name, value in state})
        return copied

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._losses, self._loss_owners, self._inbound_nodes = [], [], []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"


Operation.register(Layer)
