"""Calling a layer: on values, with the training flag and masks that it is to have, and on symbolic tensors."""

from __future__ import annotations

import functools
import inspect
from threading import get_ident
from typing import Any

import numpy as np

from minikeras import dtype_policies, journal, regularizers, tree
from minikeras import kernels as k
from minikeras.autodiff.strings import strings_in
from minikeras.autodiff.symbolic import KerasTensor, SymbolicNode, infer_output, is_symbolic
from minikeras.autodiff.tensor import FLOATS, Tensor, _state
from minikeras.autodiff.turns import computing, turn, wait
from minikeras.config import DTypePolicy
from minikeras.layers.added_losses import AddedLosses
from minikeras.layers.context import context, entrance, within
from minikeras.layers.operation import Uses
from minikeras.layers.spec import call_signature, is_plain, mask_of, shapes_of, specs_of
from minikeras.ops.core import cast
from minikeras.tracebacks import end_at_users_line, user_facing


class Calling(AddedLosses, Uses):
    """What makes a layer a function of arrays, tensors and symbolic tensors."""

    supports_masking = False
    takes_strings = False  # whether a built-in layer does something with strings

    autocast: bool
    input_spec: Any = None
    activity_regularizer: Any
    build: Any
    _compute_type: np.dtype
    _casts_inputs: bool  # whether float inputs take its type; a graph casts to the types of its own inputs
    _casts: np.dtype | None = None  # the type of two bytes that its `call` takes variables for
    _dtype_policy: DTypePolicy
    _own_policy: DTypePolicy  # the entry of that for this layer
    _build_shapes: dict[str, Any] | None = None
    _called = False
    _answers: Any = None  # what may do the work of `call` where nothing around it wants more than the outputs
    _accepted_shape: tuple[int, ...] | None = None
    _initial: Any = None

    def _set_policy(self, dtype: Any) -> None:
        self._dtype_policy = policy = dtype_policies.get(dtype)
        if self._path is not None and isinstance(policy, dtype_policies.DTypePolicyMap):
            policy = policy[self._path]
        self._own_policy = policy
        self._compute_type = np.dtype(policy.compute_dtype)
        self._casts_inputs = self.autocast and self.__dict__.get("_casts_inputs", True)
        narrow = self._compute_type.char in FLOATS and self._compute_type.itemsize == 2
        self._casts = self._compute_type if narrow and self.autocast else None

    def _place_at(self, path: str) -> None:
        """Note the layer's path in its model, which the number types may depend on."""
        self._path = path
        if isinstance(self._dtype_policy, dtype_policies.DTypePolicyMap):
            self._set_policy(self._dtype_policy)

    @property
    def variable_dtype(self) -> str:
        """The number type of the weights."""
        return self._own_policy.variable_dtype

    @property
    def dtype(self) -> str:
        """The number type of the weights, `variable_dtype`."""
        return self.variable_dtype

    @property
    def compute_dtype(self) -> str:
        """The number type of the mathematics, and of the outputs."""
        return self._own_policy.compute_dtype

    @property
    def input_dtype(self) -> str:
        """The number type that float inputs are cast to, `compute_dtype`."""
        return self.compute_dtype

    @property
    def dtype_policy(self) -> DTypePolicy:
        """The number types: a policy, or a map of policies of which the entry for the layer's path counts."""
        return self._dtype_policy

    @dtype_policy.setter
    def dtype_policy(self, value: Any) -> None:
        policies = self._dtype_policy
        if self._path is not None and isinstance(policies, dtype_policies.DTypePolicyMap):
            if self._path in policies:
                del policies[self._path]
            policies[self._path] = value
            value = policies
        self._set_policy(value)

    @property
    def quantization_mode(self) -> None:
        """None: nothing is quantized here."""
        return None

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
                    if not call_signature(type(self)).training:
                        return self.call(args[0])
                    if context.training is not None:
                        return self.call(args[0], training=bool(context.training))
            else:  # anything but the one tensor that layers mostly get
                args = tuple([self._convert(value) if not is_plain(value) else value for value in args])
                kwargs = {name: self._convert(v) if not is_plain(v) else v for name, v in kwargs.items()}
                if _has_symbolic(args) or (kwargs and _has_symbolic(tuple(kwargs.values()))):
                    return self._symbolic_call(args, kwargs)
            signature = call_signature(type(self))
            outer = context.training
            given = len(args) > signature.training_position
            training = args[signature.training_position] if given else kwargs.get("training")
            if training is None:
                training = signature.default_training if outer is None else outer
            if signature.training and not given:
                kwargs["training"] = bool(training)
            elif not (signature.training or signature.open):
                kwargs.pop("training", None)
            inputs = args[0] if args else next((v for v in kwargs.values() if not is_plain(v)), None)
            if self.input_spec is not None:
                self._check_shape(inputs)
            previous_mask = mask_of(inputs)
            if previous_mask is not None and signature.mask and len(args) <= signature.mask_position:
                kwargs.setdefault("mask", previous_mask)
            if kwargs.get("mask") is not None:
                previous_mask = kwargs["mask"]
            if signature.masked:
                kwargs.update(signature.further_masks(args, kwargs))
            if (
                self._called
                and training is outer
                and context.entry is not None
                and self._casts is _state.casts  # as around it
            ):
                outputs = self.call(*args, **kwargs)
            else:
                outputs = self._call_in_context(args, kwargs, training)
            if previous_mask is not None or type(self).compute_mask is not Calling.compute_mask:
                self._attach_mask(inputs, outputs, previous_mask)
            if self.activity_regularizer is not None:
                for output in tree.flatten(outputs):
                    penalty = self.activity_regularizer(output)
                    if getattr(penalty, "size", 1) != 1:
                        raise regularizers.not_one_number(self.activity_regularizer, penalty)
                    if not context.on_zeros:
                        self._note_losses(self._losses_to_add(penalty / float(max(output.shape[0], 1))))
            return outputs
        except BaseException as error:
            if isinstance(error, AttributeError) and "_own" not in self.__dict__:
                raise RuntimeError(
                    f"{type(self).__name__}.__init__ does not call super().__init__(); call it there, before all else."
                ) from error
            end_at_users_line(error)
            raise

    def _is_routine(self, x: Tensor) -> bool:
        """Whether a call inside a model has nothing to do but `call`: a shape seen before, no mask, no penalty."""
        return (
            x._keras_mask is None
            and (self.input_spec is None or x.data.shape == self._accepted_shape)
            and self.activity_regularizer is None
            and type(self).compute_mask is Calling.compute_mask
            and context.entry is not None
            and self._casts is _state.casts
        )

    def _call_in_context(self, args: tuple, kwargs: dict[str, Any], training: Any) -> Any:
        """`call` as the outermost layer, with another training flag than around it, or for the first time."""
        outer, entry = context.training, context.entry
        if entry is None:
            if entrance.before is not None:
                entrance.before(self)
            context.entry = self
            context.entries = self.__dict__["_entry"] = context.entries + 1
            self._clear_losses()
        context.training = training
        casts, _state.casts = _state.casts, self._casts
        try:
            if entry is None:
                computing.add(me := get_ident())
                if turn.owner is not None:
                    wait(me)
            if self._called:
                if entry is None and self._answers is not None and not (training or _state.recording):
                    return self._answers(args, kwargs)
                return self.call(*args, **kwargs)
            with within(self.name):
                self._build_from_inputs(args, kwargs)
                outputs = self.call(*args, **kwargs)
        finally:
            context.training, context.entry, _state.casts = outer, entry, casts
            if entry is None:
                computing.discard(get_ident())
        self._called = True
        return outputs

    def _convert(self, value: Any) -> Any:
        """Arrays become tensors, float tensors of another type are cast; structures leaf by leaf."""
        if isinstance(value, Tensor):
            if self._casts_inputs and value.data.dtype != self._compute_type and value.data.dtype.char in FLOATS:
                mask, value = value._keras_mask, cast(value, self._compute_type)
                value._keras_mask = mask
            elif value.data.dtype.kind == "O":
                self._check_strings()
            return value
        if isinstance(value, (list, tuple, dict)):
            return tree.map_structure(lambda leaf: leaf if is_plain(leaf) else self._convert(leaf), value)
        if isinstance(value, KerasTensor) and value.dtype == "string":
            self._check_strings()
        if isinstance(value, KerasTensor) or not hasattr(value, "__array__"):
            return value
        array = k.to_host(value) if not isinstance(value, k.xp.ndarray) else value
        if array.dtype.kind in "OSTU":
            self._check_strings()
            text = strings_in(array)
            array = array if text is None else text
        if self._casts_inputs and array.dtype.char in FLOATS and array.dtype != self._compute_type:
            array = array.astype(self._compute_type)
        return Tensor(k.to_device(array))

    def _check_strings(self) -> None:
        """Refuse strings where numbers are computed; a user's layer sees for itself."""
        if not self.takes_strings and type(self).__module__.startswith("minikeras."):
            self._refuse(
                "takes numbers, got strings or other objects; make numbers of them first, with a StringLookup or a "
                "TextVectorization"
            )

    def _build_from_inputs(self, args: tuple, kwargs: dict[str, Any]) -> None:
        if self.built:
            return
        names = call_signature(type(self)).names
        named = dict(zip(names, args, strict=False)) | kwargs
        shapes = {
            f"{name}_shape": shapes_of(value)
            for name, value in named.items()
            if any(isinstance(leaf, (Tensor, KerasTensor)) for leaf in tree.flatten(value)) and name != "mask"
        }
        parameters = inspect.signature(self.build).parameters
        wanted = [name for name in parameters if name not in ("args", "kwargs")]
        if len(wanted) == 1 or not shapes:
            self.build(next(iter(shapes.values()), None))
        else:
            missing = [name for name in wanted if name not in shapes and parameters[name].default is inspect._empty]
            if missing:
                raise ValueError(
                    f"{type(self).__name__}.build takes {wanted}, and call got inputs for {list(shapes)}; name what "
                    "build takes after the arguments of call, with _shape behind each."
                )
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
            self._check_specs(inputs)
            self._accepted_shape = shape

    def _check_specs(self, inputs: Any) -> None:
        if self.input_spec is None:
            return
        expects = f"{type(self).__name__} {self.name!r} expects"
        if inputs is None:
            raise ValueError(f"{expects} a tensor or an array, got None.")
        leaves, specs = tree.flatten(inputs), tree.flatten(self.input_spec)
        if len(specs) != len(leaves):
            raise ValueError(f"{expects} {len(specs)} inputs, got {len(leaves)}.")
        for spec, leaf in zip(specs, leaves, strict=True):
            expected = spec.problem(tuple(leaf.shape)) if spec is not None and hasattr(leaf, "shape") else None
            if expected:
                raise ValueError(f"{expects} {expected}, got shape {tuple(leaf.shape)}.")

    def _attach_mask(self, inputs: Any, outputs: Any, previous_mask: Any) -> None:
        if not self.supports_masking and type(self).compute_mask is Calling.compute_mask:
            return  # what layers inside have found out stays: the tensor may be theirs, or an input of others
        masks = self.compute_mask(inputs, previous_mask)
        if masks is None:
            return
        for output, mask in zip(tree.flatten(outputs), tree.flatten(masks), strict=False):
            if isinstance(output, Tensor):
                output._keras_mask = mask

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """The mask of the outputs; by default that of the inputs."""
        return previous_mask

    # ------------------------------------------------------------ arguments that reach the layers within

    _context_names: tuple[str, ...] = ()

    @property
    def _call_context_args(self) -> set[str]:
        return {"training", *self._context_names}

    def _register_call_context_args(self, *names: str) -> None:
        """Have arguments of a call reach all layers within that register them too, as `training` does.

        A layer that is called with one of them itself takes that; `call` gets those that it has parameters for.

        Raises:
            RuntimeError: where the layer has been called.
        """
        if self._called or self._inbound_nodes:
            raise RuntimeError(f"The layer {self.name!r} was called already; register its arguments in __init__.")
        self._context_names = (
            *self._context_names,
            *(name for name in names if name not in ("training", *self._context_names)),
        )
        self.__dict__["call"] = functools.partial(_call_with_context, self)

    # ------------------------------------------------------------ symbolic use

    def _symbolic_call(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        with within(self.name):
            if args:
                self._check_shape(args[0])
            self._build_from_inputs(args, kwargs)
            inputs = args[0] if args else next(iter(kwargs.values()))
            previous_mask = mask_of(inputs)
            masks = self._mask_argument(args, kwargs, previous_mask)
            as_used, as_named = tree.map_structure(self._cast_symbol, (args, kwargs))
            outputs = self.compute_output_spec(*as_used, **masks, **as_named)
        SymbolicNode(self, args, kwargs, outputs)
        if previous_mask is not None or type(self).compute_mask is not Calling.compute_mask:
            self._attach_symbolic_mask(inputs, outputs, previous_mask)
        return outputs

    def _cast_symbol(self, value: Any) -> Any:
        """What stands for an argument after its cast; the graph keeps the argument itself."""
        if not (isinstance(value, KerasTensor) and self._casts_inputs and "float" in value.dtype):
            return value
        if value.dtype == self.compute_dtype:
            return value
        cast_value = KerasTensor(value.shape, self.compute_dtype)
        cast_value._keras_mask = value._keras_mask
        return cast_value

    def _mask_argument(self, args: tuple, kwargs: dict[str, Any], previous_mask: Any) -> dict[str, Any]:
        """The mask, for a `call` that takes one and is run to find out its outputs.

        Graphs do not keep it: each run makes its own.
        """
        signature = call_signature(type(self))
        wanted = previous_mask is not None and signature.mask and len(args) <= signature.mask_position
        own_spec = type(self).compute_output_spec is not Calling.compute_output_spec
        return {"mask": previous_mask} if wanted and not own_spec and "mask" not in kwargs else {}

    def _attach_symbolic_mask(self, inputs: Any, outputs: Any, previous_mask: Any) -> None:
        if type(self).compute_mask is not Calling.compute_mask:
            masks = infer_output(self.compute_mask, (inputs, previous_mask), {})
        else:
            masks = previous_mask if self.supports_masking else None
        for output, mask in zip(tree.flatten(outputs), tree.flatten(masks), strict=False):
            output._keras_mask = mask

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Symbolic outputs for symbolic inputs."""
        if type(self).compute_output_shape is not Calling.compute_output_shape:
            shape = self.compute_output_shape(shapes_of(args[0]) if args else shapes_of(next(iter(kwargs.values()))))
            return specs_of(shape, str(self.compute_dtype))
        return self._spec_by_running(args, kwargs)

    def _spec_by_running(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Symbolic outputs, found by running `call` on zeros."""
        signature = call_signature(type(self))
        if not signature.training and not signature.open:
            kwargs.pop("training", None)
        elif signature.needs_training and len(args) <= signature.training_position:
            kwargs.setdefault("training", bool(context.training))

        def run(*arguments: Any, **named: Any) -> Any:
            outer = context.entry, context.on_zeros, _state.casts
            context.entry, context.on_zeros, _state.casts = context.entry or self, True, self._casts
            for metric in self._contents().metrics:  # their sums change without a word
                for variable in getattr(metric, "variables", ()):
                    journal.note(variable)
            arguments, named = tree.map_structure(self._convert, (arguments, named))
            try:
                outputs = self.call(*arguments, **named)
            finally:
                context.entry, context.on_zeros, _state.casts = outer
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
        inputs = specs_of(input_shape, str(self.compute_dtype))
        self._build_from_inputs((inputs,), {})
        return shapes_of(self.compute_output_spec(inputs))


def _call_with_context(layer: Any, *args: Any, **kwargs: Any) -> Any:
    """`call` of a layer with registered arguments."""
    names, outer = layer._context_names, context.arguments
    signature = call_signature(type(layer))
    given = {**dict(zip(signature.names, args, strict=False)), **kwargs}
    values = {name: outer.get(name) if given.get(name) is None else given[name] for name in names}
    for name, value in values.items():
        kwargs.pop(name, None)
        takes = name in signature.names[len(args) :] or signature.open
        if takes and value is not None:
            kwargs[name] = value
    context.arguments = {**outer, **values}
    try:
        return type(layer).call(layer, *args, **kwargs)
    finally:
        context.arguments = outer


def _has_symbolic(values: tuple) -> bool:
    for value in values:
        if isinstance(value, KerasTensor) or (isinstance(value, (list, tuple, dict)) and is_symbolic(value)):
            return True
    return False
