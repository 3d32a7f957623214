"""Layer: configuration in `__init__`, weights in `build`, mathematics in `call`; the rest is here."""

from __future__ import annotations

import functools
import inspect
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from minikeras import constraints, initializers, journal, regularizers, tree
from minikeras import kernels as k
from minikeras.autodiff.symbolic import KerasTensor, SymbolicNode, infer_output, is_symbolic, snake_case, unique_name
from minikeras.autodiff.tape import is_recording
from minikeras.autodiff.tensor import Tensor, Variable, assign_all
from minikeras.config import DTypePolicy
from minikeras.layers.structure import Structure
from minikeras.ops.core import cast
from minikeras.registry import deserialize_keras_object, is_builtin, is_description, serialize_value, spend_weights
from minikeras.tracebacks import end_at_users_line, is_own, user_facing
from minikeras.utils.checks import flag


class _Context(threading.local):
    """What nested calls share: the training flag, the outermost layer, and the path of names for new weights."""

    training: bool | None = None
    entry: Any = None
    path: tuple[str, ...] = ()
    on_zeros: bool = False  # whether `call` runs only to find out what its outputs look like
    building: Any = None  # the layer whose `build` runs
    predicting: bool = False  # whether nobody will ask for the losses of this call
    entries: int = 0  # how many outermost calls there were
    on_entry: Any = None  # called with the outermost layer before it computes


_context = _Context()


def call_on_entry(function: Callable[[Any], None] | None) -> None:
    """Have `function(layer)` called in this thread before a layer computes that no other layer calls."""
    _context.on_entry = function


class InputSpec:
    """What a layer accepts: rank, sizes of some axes.  None means anything.

    Args:
        dtype, shape, ndim, max_ndim, min_ndim: as the names say; `shape` includes the batch axis.
        axes: `{axis: size}`.
        allow_last_axis_squeeze, optional, name: accepted for familiarity.
    """

    def __init__(
        self,
        dtype: Any = None,
        shape: Any = None,
        ndim: int | None = None,
        max_ndim: int | None = None,
        min_ndim: int | None = None,
        axes: dict[int, int] | None = None,
        allow_last_axis_squeeze: bool = False,
        name: str | None = None,
        optional: bool = False,
    ):
        self.dtype = dtype
        self.shape = None if shape is None else tuple(shape)
        self.ndim = len(self.shape) if self.shape is not None else ndim
        self.max_ndim, self.min_ndim = max_ndim, min_ndim
        self.axes = {int(axis): size for axis, size in (axes or {}).items()}
        self.name, self.optional, self.allow_last_axis_squeeze = name, optional, allow_last_axis_squeeze

    def problem(self, shape: tuple) -> str | None:
        """What is expected, in words, where `shape` does not fit; else None."""
        rank = len(shape)
        if self.ndim is not None and rank != self.ndim:
            return f"inputs of rank {self.ndim}"
        if self.min_ndim is not None and rank < self.min_ndim:
            return f"inputs of rank {self.min_ndim} or more"
        if self.max_ndim is not None and rank > self.max_ndim:
            return f"inputs of rank {self.max_ndim} or less"
        for axis, size in self.axes.items():
            if size is not None and shape[axis] not in (size, None):
                return f"inputs with {size} entries along axis {axis}"
        for axis, size in enumerate(self.shape or ()):
            if size is not None and shape[axis] not in (size, None):
                return f"inputs of shape {self.shape}"
        return None

    def get_config(self) -> dict[str, Any]:
        names = ("dtype", "shape", "ndim", "max_ndim", "min_ndim", "axes")
        return {name: getattr(self, name) for name in names}


class _CallSignature:
    """What `call` of a class takes; looked at once per class."""

    def __init__(self, call: Callable):
        parameters = list(inspect.signature(call).parameters.values())[1:]
        self.names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        every = {p.name for p in parameters}
        self.training = "training" in every
        self.mask = "mask" in every
        self.open = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self.training_position = self.names.index("training") if "training" in self.names else 99
        self.mask_position = self.names.index("mask") if "mask" in self.names else 99
        self.masked = [name for name in self.names if f"{name}_mask" in every]
        self.defaults = {p.name: p.default for p in parameters if p.default is not p.empty}

    def further_masks(self, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The inputs' masks for a `call` with several inputs `x`, `y` and parameters `x_mask`, `y_mask` for them."""
        given = dict(zip(self.names, args, strict=False)) | kwargs
        if sum(not _is_plain(value) for value in given.values()) < 2:
            return {}
        masks = {f"{name}_mask": _mask_of(given.get(name)) for name in self.masked}
        return {name: mask for name, mask in masks.items() if mask is not None and given.get(name) is None}


def _read_call(cls: Any) -> _CallSignature:
    return _CallSignature(cls.call)


def _read_init(cls: Any) -> tuple[list[inspect.Parameter], bool]:
    if cls.__init__ is Layer.__init__:
        return [], True
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    return named, any(p.kind is p.VAR_KEYWORD for p in parameters)


def _is_derived_from_builtin(cls: Any) -> bool:
    return any(is_builtin(base) for base in cls.__mro__)


_has_builtin_base: Callable[[Any], bool] = functools.cache(_is_derived_from_builtin)
_call_signature: Callable[[Any], _CallSignature] = functools.cache(_read_call)
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
        outer = _context.path
        if not outer or outer[-1] != self.name:
            _context.path = (*outer, self.name)
        outside, _context.building = _context.building, self
        try:
            with journal.paused():
                build(self, *args, **kwargs)
        except BaseException as error:
            end_at_users_line(error)
            raise
        finally:
            _context.path, _context.building = outer, outside
        if not self.built:
            _remember_build_shapes(self, build, args, kwargs)
        self.built = True

    return building


def _remember_build_shapes(layer: Layer, build: Callable, args: tuple, kwargs: dict[str, Any]) -> None:
    names = [name for name in inspect.signature(build).parameters if name != "self"]
    layer._build_shapes = {**dict(zip(names, args, strict=False)), **kwargs}


class Layer(Structure):
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

    supports_masking = False

    _UNTRACKED = frozenset(
        {
            *("_inbound_nodes", "_losses", "_loss_owners", "_loss_functions"),
            *("_recorded", "_own", "_build_shapes", "_initial", "_accepted_shape"),
        }
    )
    _recorded: tuple[tuple, dict[str, Any]]

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
        self.built = False
        self.autocast = autocast
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self.input_spec: Any = None
        self._trainable = bool(trainable)
        self._dtype_policy = _as_policy(dtype)
        self._compute_type = np.dtype(self._dtype_policy.compute_dtype)
        self._own: list[Variable] = []
        self._losses: list[Any] = []
        self._loss_owners: list[Layer] = []
        self._loss_functions: list[Callable[[], Any]] = []
        self._own_functions = 0  # how many of these its class added
        self._entry = 0  # the number of its last outermost call
        self._inbound_nodes: list[SymbolicNode] = []
        self._build_shapes: dict[str, Any] | None = None
        self._called = False
        self._accepted_shape: tuple[int, ...] | None = None
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
        scope = _context.path if _context.path and _context.path[-1] == self.name else (*_context.path, self.name)
        variable.path = "/".join((*scope, variable.name))
        regularizers.check(regularizer, variable)
        variable.regularizer, variable.constraint = regularizer, constraint
        variable.aggregation, variable.autocast = aggregation, autocast
        self._own.append(variable)
        self._restructured()
        return variable

    @user_facing
    def add_loss(self, loss: Any, inputs: Any = None) -> None:
        """Add to what training minimises.

        Args:
            loss: inside `call` a tensor, or a structure of tensors, which counts for this call.  In `__init__`, in
                `build` or outside of the layer a function without arguments that returns one, computed anew for every
                batch: `layer.add_loss(lambda: ops.sum(layer.kernel))`.  What is not a scalar is summed up.
            inputs: accepted for familiarity.

        Raises:
            ValueError: for a value that would count once at most: one computed outside of `call` or not by a tensor's
                operations, and for a symbolic tensor, which is added to the functional model that it belongs to.
        """
        values = [loss] if type(loss) is Tensor else self._losses_to_add(loss)
        if _context.on_zeros or not values:
            return
        if _context.building is self or (_context.entry is None and not is_recording() and not k.arena.in_step()):
            raise ValueError(
                f"add_loss of {self.name!r} got a tensor of shape {values[0].shape} outside of call(), where it would "
                "be the same for all batches; pass a function that computes it, such as lambda: ops.sum(layer.kernel)."
            )
        self._note_losses(values)

    def _losses_to_add(self, loss: Any) -> list[Any]:
        """The tensors in what `add_loss` was given; functions are kept."""
        values, functions = [], []
        for value in tree.flatten(loss):
            if isinstance(value, KerasTensor):
                raise ValueError(
                    f"add_loss of {self.name!r} got the symbolic tensor {value!r}, which has no value in this layer; "
                    "add it to the functional model with model.add_loss(), or make it of what call() is given."
                )
            if callable(value):
                if _context.entry is not None and self.built and _context.building is not self:
                    raise ValueError(
                        f"add_loss of {self.name!r} got the function {value!r:.80} inside call(), which would add it "
                        "again at every call; pass the tensor that it returns."
                    )
                functions.append(value)
            elif isinstance(value, Tensor):
                values.append(value)
            else:
                raise ValueError(
                    f"add_loss of {self.name!r} takes tensors, got {value!r:.80}, through which no gradient flows; "
                    "compute the loss with minikeras.ops."
                )
        if functions:
            if self._adds_itself() and self._own_functions == len(self._loss_functions):
                self._own_functions += len(functions)
            self._loss_functions.extend(functions)
            self._restructured()
        return values

    def _adds_itself(self) -> bool:
        """Whether `add_loss` is called by the layer's own constructor or `build`, which a restored layer runs too."""
        frame: Any = sys._getframe(1)
        while frame is not None:
            code = frame.f_code
            if code.co_name in ("__init__", "build") and frame.f_locals.get(code.co_varnames[0]) is self:
                return True
            frame = frame.f_back
        return False

    def _note_losses(self, values: list[Any]) -> None:
        owners = (_context.entry or self)._loss_owners
        if not any(owner is self for owner in owners):
            self._losses.clear()  # of a call from elsewhere
            owners.append(self)
        self._losses.extend(values)

    @property
    def losses(self) -> list[Any]:
        """Losses added by the last call here and below, those of functions, and the penalties of regularizers.

        A functional model whose losses were not computed has the symbolic tensors that were added to it instead.
        """
        contents = self._contents()
        collected = [loss for layer in contents.layers for loss in layer._added_losses()]
        collected += [_value_of(function) for function in contents.loss_functions]
        return collected + [v.regularizer(v) for v in self.trainable_weights if v.regularizer is not None]

    def _added_losses(self) -> list[Any]:
        return self._losses

    def _unwritten_losses(self) -> list[Any]:
        """What was added to the loss that neither a description of this layer holds nor its class adds again."""
        return self._loss_functions[self._own_functions :]

    def _clear_losses(self) -> None:
        for owner in self._loss_owners:
            owner._losses.clear()
        self._loss_owners.clear()

    # ------------------------------------------------------------ calling

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """The mathematics of the layer."""
        raise NotImplementedError(f"{type(self).__name__} does not define call(); write its mathematics there.")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            plain = (
                len(args) == 1 and not kwargs and type(args[0]) is Tensor and args[0].data.dtype is self._compute_type
            )
            if plain:
                if self._called and self._is_routine(args[0]):
                    if not _call_signature(type(self)).training:
                        return self.call(args[0])
                    if _context.training is not None:
                        return self.call(args[0], training=bool(_context.training))
            else:  # anything but the one tensor that layers mostly get
                args = tuple([self._convert(value) if not _is_plain(value) else value for value in args])
                kwargs = {name: self._convert(v) if not _is_plain(v) else v for name, v in kwargs.items()}
                if _has_symbolic(args) or (kwargs and _has_symbolic(tuple(kwargs.values()))):
                    return self._symbolic_call(args, kwargs)
            signature = _call_signature(type(self))
            outer = _context.training
            training = kwargs.get("training")
            if training is None and len(args) > signature.training_position:
                training = args[signature.training_position]
            if training is None:
                training = outer
                if training is None and signature.training:
                    training = signature.defaults.get("training")
            if signature.training:
                if len(args) <= signature.training_position:
                    kwargs["training"] = bool(training) if training is not None else False
            elif not signature.open:
                kwargs.pop("training", None)
            inputs = args[0] if args else next((v for v in kwargs.values() if not _is_plain(v)), None)
            if self.input_spec is not None:
                self._check_shape(inputs)
            previous_mask = _mask_of(inputs)
            if previous_mask is not None and signature.mask and len(args) <= signature.mask_position:
                kwargs.setdefault("mask", previous_mask)
            if kwargs.get("mask") is not None:
                previous_mask = kwargs["mask"]
            if signature.masked:
                kwargs.update(signature.further_masks(args, kwargs))
            if self._called and training is outer and _context.entry is not None:
                outputs = self.call(*args, **kwargs)
            else:
                outputs = self._call_in_context(args, kwargs, training)
            if previous_mask is not None or type(self).compute_mask is not Layer.compute_mask:
                self._attach_mask(inputs, outputs, previous_mask)
            if self.activity_regularizer is not None:
                for output in tree.flatten(outputs):
                    penalty = self.activity_regularizer(output)
                    if getattr(penalty, "size", 1) != 1:
                        raise regularizers.not_one_number(self.activity_regularizer, penalty)
                    if not _context.on_zeros:
                        self._note_losses(self._losses_to_add(penalty / float(max(output.shape[0], 1))))
            return outputs
        except BaseException as error:
            end_at_users_line(error)
            raise

    def _is_routine(self, x: Tensor) -> bool:
        """Whether a call inside a model has nothing to do but `call`: a shape seen before, no mask, no penalty."""
        return (
            x._keras_mask is None
            and (self.input_spec is None or x.data.shape == self._accepted_shape)
            and self.activity_regularizer is None
            and type(self).compute_mask is Layer.compute_mask
            and _context.entry is not None
        )

    def _call_in_context(self, args: tuple, kwargs: dict[str, Any], training: Any) -> Any:
        """`call` as the outermost layer, with another training flag than around it, or for the first time."""
        outer, path, entry = _context.training, _context.path, _context.entry
        if entry is None:
            if _context.on_entry is not None:
                _context.on_entry(self)
            _context.entry = self
            _context.entries = self.__dict__["_entry"] = _context.entries + 1
            self._clear_losses()
        _context.training = training
        try:
            if not self._called:
                if not path or path[-1] != self.name:
                    _context.path = (*path, self.name)
                self._build_from_inputs(args, kwargs)
            outputs = self.call(*args, **kwargs)
        finally:
            _context.training, _context.path, _context.entry = outer, path, entry
        self._called = True
        return outputs

    def _convert(self, value: Any) -> Any:
        """Arrays become tensors, float tensors of another type are cast; structures leaf by leaf."""
        if isinstance(value, Tensor):
            if self.autocast and value.data.dtype != self._compute_type and value.data.dtype.kind == "f":
                mask, value = value._keras_mask, cast(value, self._compute_type)
                value._keras_mask = mask
            return value
        if isinstance(value, (list, tuple, dict)):
            return tree.map_structure(lambda leaf: leaf if _is_plain(leaf) else self._convert(leaf), value)
        if isinstance(value, KerasTensor) or not hasattr(value, "__array__"):
            return value
        array = k.to_host(value) if not isinstance(value, k.xp.ndarray) else value
        if self.autocast and array.dtype.kind == "f" and array.dtype != self._compute_type:
            array = array.astype(self._compute_type)
        return Tensor(k.to_device(array))

    def _build_from_inputs(self, args: tuple, kwargs: dict[str, Any]) -> None:
        if self.built:
            return
        names = _call_signature(type(self)).names
        named = dict(zip(names, args, strict=False)) | kwargs
        shapes = {
            f"{name}_shape": _shapes(value)
            for name, value in named.items()
            if any(isinstance(leaf, (Tensor, KerasTensor)) for leaf in tree.flatten(value))
            and not name.endswith("mask")
        }
        wanted = [name for name in inspect.signature(self.build).parameters if name not in ("args", "kwargs")]
        if len(wanted) == 1 or not shapes:
            self.build(next(iter(shapes.values()), None))
        else:
            self.build(**{name: shape for name, shape in shapes.items() if name in wanted})
        self._after_build()

    def _after_build(self) -> None:
        if not self.built:
            self.built = True
        if self._initial is not None:
            weights, self._initial = self._initial, None
            with journal.paused():
                self.set_weights(weights)

    def _check_shape(self, inputs: Any) -> None:
        """Refuse inputs that do not fit `input_spec`; the last shape found right is not checked again."""
        shape = inputs.data.shape if isinstance(inputs, Tensor) else None
        if shape is None or shape != self._accepted_shape:
            problem = self._input_problem(inputs)
            if problem:
                raise ValueError(problem)
            self._accepted_shape = shape

    def _input_problem(self, inputs: Any) -> str | None:
        """A sentence about inputs that do not fit `input_spec`, or None."""
        if self.input_spec is None:
            return None
        if inputs is None:
            return f"{type(self).__name__} {self.name!r} expects a tensor or an array, got None."
        leaves = tree.flatten(inputs)
        specs = tree.flatten(self.input_spec)
        if len(specs) != len(leaves):
            return f"{type(self).__name__} {self.name!r} expects {len(specs)} inputs, got {len(leaves)}."
        for spec, leaf in zip(specs, leaves, strict=True):
            expected = spec.problem(tuple(leaf.shape)) if spec is not None and hasattr(leaf, "shape") else None
            if expected:
                return f"{type(self).__name__} {self.name!r} expects {expected}, got shape {tuple(leaf.shape)}."
        return None

    def _attach_mask(self, inputs: Any, outputs: Any, previous_mask: Any) -> None:
        if not self.supports_masking and type(self).compute_mask is Layer.compute_mask:
            return  # what layers inside have found out stays: the tensor may be theirs, or an input of others
        masks = self.compute_mask(inputs, previous_mask)
        if masks is None:
            return
        if isinstance(outputs, Tensor):
            outputs._keras_mask = masks[0] if isinstance(masks, (list, tuple)) else masks
        else:
            for output, mask in zip(tree.flatten(outputs), tree.flatten(masks), strict=False):
                if isinstance(output, Tensor):
                    output._keras_mask = mask

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """The mask of the outputs; by default that of the inputs."""
        return previous_mask

    # ------------------------------------------------------------ symbolic use

    def _symbolic_call(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        path = _context.path
        if not path or path[-1] != self.name:
            _context.path = (*path, self.name)
        try:
            if args:
                self._check_shape(args[0])
            self._build_from_inputs(args, kwargs)
            inputs = args[0] if args else next(iter(kwargs.values()))
            previous_mask = _mask_of(inputs)
            outputs = self.compute_output_spec(*args, **self._mask_argument(args, kwargs, previous_mask), **kwargs)
        finally:
            _context.path = path
        SymbolicNode(self, args, kwargs, outputs)
        if previous_mask is not None or type(self).compute_mask is not Layer.compute_mask:
            self._attach_symbolic_mask(inputs, outputs, previous_mask)
        return outputs

    def _mask_argument(self, args: tuple, kwargs: dict[str, Any], previous_mask: Any) -> dict[str, Any]:
        """The mask, for a `call` that takes one and is run to find out its outputs.

        Graphs do not keep it: each run makes its own.
        """
        signature = _call_signature(type(self))
        wanted = previous_mask is not None and signature.mask and len(args) <= signature.mask_position
        own_spec = type(self).compute_output_spec is not Layer.compute_output_spec
        return {"mask": previous_mask} if wanted and not own_spec and "mask" not in kwargs else {}

    def _attach_symbolic_mask(self, inputs: Any, outputs: Any, previous_mask: Any) -> None:
        if type(self).compute_mask is not Layer.compute_mask:
            masks = infer_output(self.compute_mask, (inputs, previous_mask), {})
        else:
            masks = previous_mask if self.supports_masking else None
        for output, mask in zip(tree.flatten(outputs), tree.flatten(masks), strict=False):
            output._keras_mask = mask

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Symbolic outputs for symbolic inputs."""
        if type(self).compute_output_shape is not Layer.compute_output_shape:
            shape = self.compute_output_shape(_shapes(args[0]) if args else _shapes(next(iter(kwargs.values()))))
            return _specs(shape, str(self.compute_dtype))
        return self._spec_by_running(args, kwargs)

    def _spec_by_running(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Symbolic outputs, found by running `call` on zeros."""
        signature = _call_signature(type(self))
        if not signature.training and not signature.open:
            kwargs.pop("training", None)

        def run(*arguments: Any, **named: Any) -> Any:
            outer = _context.entry, _context.on_zeros
            _context.entry, _context.on_zeros = _context.entry or self, True
            for metric in self._contents().metrics:  # their sums change without a word
                for variable in getattr(metric, "variables", ()):
                    journal.note(variable)
            try:
                outputs = self.call(*arguments, **named)
            finally:
                _context.entry, _context.on_zeros = outer
            if is_symbolic(outputs):
                raise ValueError(
                    f"The {type(self).__name__} {self.name!r} refers to a symbolic tensor that it is not called with, "
                    f"so that it returned {outputs!r:.200} for values; pass the tensor as an input."
                )
            return outputs

        return infer_output(run, args, kwargs)

    @user_facing
    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the outputs for inputs of this shape (None: open)."""
        inputs = _specs(input_shape, str(self.compute_dtype))
        self._build_from_inputs((inputs,), {})
        return _shapes(self.compute_output_spec(inputs))

    @property
    def input(self) -> Any:
        """The symbolic input of the layer's first use in a graph."""
        node = self._first_node()
        return node.args[0] if len(node.args) == 1 else node.input_tensors

    @property
    def output(self) -> Any:
        """The symbolic output of the layer's first use in a graph."""
        return self._first_node().outputs

    def _first_node(self) -> SymbolicNode:
        if not self._inbound_nodes:
            raise AttributeError(f"The layer {self.name!r} has not been used in a graph; call it on an Input first.")
        return self._inbound_nodes[0]

    @property
    def dtype(self) -> str:
        return self._dtype_policy.variable_dtype

    @property
    def compute_dtype(self) -> str:
        return self._dtype_policy.compute_dtype

    @property
    def variable_dtype(self) -> str:
        return self._dtype_policy.variable_dtype

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
            self.build(**{name: _as_shape(shape) for name, shape in config["shapes_dict"].items()})
        elif config.get("input_shape") is not None:
            self.build(_as_shape(config["input_shape"]))
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


class name_scope:
    """Within this block the paths of new weights begin with a name.

    Args:
        name: the name, without `/`.
        caller, deduplicate: accepted for familiarity.
        override_parent: a path, such as `"outer/inner"`, that takes the place of the blocks around this one.
    """

    def __init__(self, name: str, caller: Any = None, deduplicate: bool = True, override_parent: str | None = None):
        if not isinstance(name, str) or "/" in name:
            raise ValueError(f"A name_scope has a name of type str without '/', got {name!r}.")
        self.name, self.caller, self.deduplicate, self.override_parent = name, caller, deduplicate, override_parent

    def __enter__(self) -> name_scope:
        self._outer = _context.path
        parent = self._outer if self.override_parent is None else tuple(filter(None, self.override_parent.split("/")))
        _context.path = (*parent, self.name)
        return self

    def __exit__(self, *error: object) -> None:
        _context.path = self._outer


def _value_of(function: Callable[[], Any]) -> Tensor:
    """What a function that was given to `add_loss` returns now."""
    value = function()
    if not isinstance(value, Tensor):
        raise ValueError(
            f"The function {function!r:.80} given to add_loss() returns a tensor, got {value!r:.80}; compute it of "
            "weights and other tensors with minikeras.ops."
        )
    return value


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def _has_symbolic(values: tuple) -> bool:
    for value in values:
        if isinstance(value, KerasTensor) or (isinstance(value, (list, tuple, dict)) and is_symbolic(value)):
            return True
    return False


def _mask_of(inputs: Any) -> Any:
    if isinstance(inputs, (Tensor, KerasTensor)):
        return inputs._keras_mask
    if isinstance(inputs, (list, tuple)):
        masks = [_mask_of(value) for value in inputs]
        return masks if any(mask is not None for mask in masks) else None
    return None


def _shapes(value: Any) -> Any:
    """The shapes of a structure of tensors; a single tensor's as a tuple."""
    if isinstance(value, (Tensor, KerasTensor)):
        shape = tuple(value.shape)
        return (None, *shape[1:]) if isinstance(value, Tensor) and shape else shape
    if isinstance(value, dict):
        return {key: _shapes(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shapes(item) for item in value]
    return None


def _is_shape(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(v is None or isinstance(v, (int, np.integer)) for v in value)


def _as_shape(value: Any) -> Any:
    """JSON's lists as tuples, in a structure of shapes."""
    if _is_shape(value):
        return tuple(value)
    if isinstance(value, dict):
        return {key: _as_shape(item) for key, item in value.items()}
    return [_as_shape(item) for item in value]


def _specs(shape: Any, dtype: str) -> Any:
    if _is_shape(shape):
        return KerasTensor(tuple(shape), dtype)
    if isinstance(shape, dict):
        return {key: _specs(item, dtype) for key, item in shape.items()}
    return type(shape)([_specs(item, dtype) for item in shape])


def _as_policy(dtype: Any) -> DTypePolicy:
    if isinstance(dtype, DTypePolicy):
        return dtype
    if isinstance(dtype, dict):
        return DTypePolicy.from_config(dtype["config"])
    return DTypePolicy(None if dtype is None else str(np.dtype(dtype)) if not isinstance(dtype, str) else dtype)


def _input_shape_argument(kwargs: dict[str, Any]) -> tuple | None:
    """The batch shape that a first layer's `input_shape=`, `input_dim=` or `batch_input_shape=` gives."""
    batch_shape = kwargs.pop("batch_input_shape", None)
    shape = kwargs.pop("input_shape", None)
    size = kwargs.pop("input_dim", None)
    length = kwargs.pop("input_length", None)
    batch_size = kwargs.pop("batch_size", None)
    if batch_shape is not None:
        return tuple(batch_shape)
    if shape is not None:
        return (batch_size, *((shape,) if isinstance(shape, int) else tuple(shape)))
    if size is not None:
        return (batch_size, size) if length is None else (batch_size, length, size)
    return None


def warn(message: str) -> None:
    """A warning that points at the user's line."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and is_own(frame):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
