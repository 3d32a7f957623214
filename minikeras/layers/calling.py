"""Calling a layer: on values, with the training flag and masks that it is to have, and on symbolic tensors."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from minikeras import journal, regularizers, tree
from minikeras import kernels as k
from minikeras.autodiff.strings import strings_in
from minikeras.autodiff.symbolic import KerasTensor, SymbolicNode, infer_output, is_symbolic
from minikeras.autodiff.tensor import Tensor
from minikeras.config import DTypePolicy
from minikeras.layers.added_losses import AddedLosses
from minikeras.layers.context import context, entrance, within
from minikeras.layers.spec import call_signature, is_plain, mask_of, shapes_of, specs_of
from minikeras.ops.core import cast
from minikeras.tracebacks import end_at_users_line, user_facing


class Calling(AddedLosses):
    """What makes a layer a function of arrays, tensors and symbolic tensors."""

    supports_masking = False
    takes_strings = False  # whether a built-in layer does something with strings

    autocast: bool
    input_spec: Any = None
    activity_regularizer: Any
    build: Any
    _compute_type: np.dtype
    _dtype_policy: DTypePolicy
    _inbound_nodes: list[SymbolicNode]
    _build_shapes: dict[str, Any] | None = None
    _called = False
    _accepted_shape: tuple[int, ...] | None = None
    _initial: Any = None

    def _set_policy(self, dtype: Any) -> None:
        self._dtype_policy = _as_policy(dtype)
        self._compute_type = np.dtype(self._dtype_policy.compute_dtype)

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
            if self._called and training is outer and context.entry is not None:
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
        try:
            if self._called:
                return self.call(*args, **kwargs)
            with within(self.name):
                self._build_from_inputs(args, kwargs)
                outputs = self.call(*args, **kwargs)
        finally:
            context.training, context.entry = outer, entry
        self._called = True
        return outputs

    def _convert(self, value: Any) -> Any:
        """Arrays become tensors, float tensors of another type are cast; structures leaf by leaf."""
        if isinstance(value, Tensor):
            if self.autocast and value.data.dtype != self._compute_type and value.data.dtype.kind == "f":
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
        if self.autocast and array.dtype.kind == "f" and array.dtype != self._compute_type:
            array = array.astype(self._compute_type)
        return Tensor(k.to_device(array))

    def _check_strings(self) -> None:
        """Refuse strings where numbers are computed; a user's layer sees for itself."""
        if not self.takes_strings and type(self).__module__.startswith("minikeras."):
            raise ValueError(
                f"{type(self).__name__} {self.name!r} takes numbers, got strings or other objects; make numbers of "
                "them first, with a StringLookup or a TextVectorization."
            )

    def _build_from_inputs(self, args: tuple, kwargs: dict[str, Any]) -> None:
        if self.built:
            return
        names = call_signature(type(self)).names
        named = dict(zip(names, args, strict=False)) | kwargs
        shapes = {
            f"{name}_shape": shapes_of(value)
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

    # ------------------------------------------------------------ symbolic use

    def _symbolic_call(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        with within(self.name):
            if args:
                self._check_shape(args[0])
            self._build_from_inputs(args, kwargs)
            inputs = args[0] if args else next(iter(kwargs.values()))
            previous_mask = mask_of(inputs)
            outputs = self.compute_output_spec(*args, **self._mask_argument(args, kwargs, previous_mask), **kwargs)
        SymbolicNode(self, args, kwargs, outputs)
        if previous_mask is not None or type(self).compute_mask is not Calling.compute_mask:
            self._attach_symbolic_mask(inputs, outputs, previous_mask)
        return outputs

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

        def run(*arguments: Any, **named: Any) -> Any:
            outer = context.entry, context.on_zeros
            context.entry, context.on_zeros = context.entry or self, True
            for metric in self._contents().metrics:  # their sums change without a word
                for variable in getattr(metric, "variables", ()):
                    journal.note(variable)
            try:
                outputs = self.call(*arguments, **named)
            finally:
                context.entry, context.on_zeros = outer
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


def _has_symbolic(values: tuple) -> bool:
    for value in values:
        if isinstance(value, KerasTensor) or (isinstance(value, (list, tuple, dict)) and is_symbolic(value)):
            return True
    return False


def _as_policy(dtype: Any) -> DTypePolicy:
    if isinstance(dtype, DTypePolicy):
        return dtype
    if isinstance(dtype, dict):
        return DTypePolicy.from_config(dtype["config"])
    return DTypePolicy(None if dtype is None else str(np.dtype(dtype)) if not isinstance(dtype, str) else dtype)
