"""What asks for gradients: `GradientTape`, `grad` and `value_and_grad`.

A gradient that is asked for while another tape records is itself recorded, so gradients of every order are had by tapes
within tapes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from minikeras import kernels as k
from minikeras import tree
from minikeras.autodiff.op import stacked
from minikeras.autodiff.operands import raw
from minikeras.autodiff.tape import backward, recording
from minikeras.autodiff.tensor import FLOATS, Tensor, Variable, _state, clock
from minikeras.tracebacks import user_facing


class GradientTape:
    """Record operations on trainable variables and watched tensors, then ask for gradients.

    A tape knows what was computed since it was opened; what was computed before is a constant to it.  A gradient that
    is asked for while another tape is open, or this one where it is `persistent`, can be differentiated again; within
    `with tape.stop_recording():` it is a constant.

    Args:
        persistent: whether a gradient that is asked for while the tape is open is recorded on it, as in TensorFlow;
            asked more than once may be every tape.
        watch_accessed_variables: with False, only what `watch` names has a gradient.

    >>> from minikeras import GradientTape, ops
    >>> x = ops.convert_to_tensor([1.0, 2.0])
    >>> with GradientTape() as outer:
    ...     outer.watch(x)
    ...     with GradientTape() as inner:
    ...         inner.watch(x)
    ...         y = ops.sum(x**3)
    ...     slope = inner.gradient(y, x)
    >>> slope.tolist(), outer.gradient(slope, x).tolist()
    ([3.0, 12.0], [6.0, 12.0])
    """

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True):
        self.persistent = persistent
        self.watch_accessed_variables = watch_accessed_variables
        self._watched: list[Tensor] = []
        self._recorder = recording()
        self._is_open = False
        self._since = 0

    def __enter__(self) -> GradientTape:
        self._recorder.__enter__()
        self._is_open = True
        self._since = self._since or next(clock)
        return self

    def __exit__(self, *error: object) -> None:
        self._is_open = False
        self._recorder.__exit__(*error)

    def reset(self) -> None:
        """Forget what was watched and computed so far: it is from now on a constant to this tape."""
        self._watched.clear()
        self._since = next(clock)

    def __reduce__(self) -> Any:
        raise TypeError(
            "A GradientTape cannot be copied or pickled: what it recorded are the very tensors of this process; ask it "
            "for the gradients, and copy those."
        )

    def stop_recording(self) -> recording:
        """A block, `with tape.stop_recording():`, whose operations no tape records."""
        return recording(False)

    @user_facing
    def watch(self, tensor: Any) -> None:
        """Track a tensor (or a structure of them) that is not a trainable variable.

        Raises:
            TypeError: for what is no tensor of a float type.
        """
        for leaf in tree.flatten(tensor):
            if not isinstance(leaf, Tensor):
                raise TypeError(
                    f"GradientTape.watch takes tensors, got {type(leaf).__name__}; make one with ops.convert_to_tensor."
                )
            _require_float(leaf.data)
            leaf.tracked = True
            self._watched.append(leaf)

    @user_facing
    def gradient(
        self, target: Any, sources: Any, output_gradients: Any = None, unconnected_gradients: str = "none"
    ) -> Any:
        """Gradients of the sum of `target` at `sources`, in the structure of `sources`.

        Args:
            target: a tensor or a structure of them, computed while the tape was open.
            sources: variables or watched tensors.
            output_gradients: the gradients at `target`, default ones.
            unconnected_gradients: what a source has that the target does not depend on, `"none"` or `"zero"`: None, or
                zeros of its shape.

        Raises:
            TypeError: for a target or source that is no tensor.
            ValueError: where a variable was changed since the target was computed from it.
            NotImplementedError: inside another open tape, for an operation that cannot be differentiated twice.
        """
        flat = tree.flatten(sources)
        _require_tensors("target", tree.flatten(target))
        _require_tensors("sources", flat)
        if unconnected_gradients not in ("none", "zero"):
            raise ValueError(f"unconnected_gradients must be 'none' or 'zero', got {unconnected_gradients!r}.")
        known = flat
        if not self.watch_accessed_variables:
            watched = {id(tensor) for tensor in self._watched}
            known = [source if id(source) in watched else Tensor(source.data) for source in flat]
        linked = _state.recording > (self._is_open and not self.persistent)  # whether a tape records it
        targets = tree.flatten(target)
        seeds = [None] * len(targets) if output_gradients is None else tree.flatten(output_gradients)
        total: list[Any] = [None] * len(flat)
        for one, seed in zip(targets, seeds, strict=True):
            seed = seed if linked and isinstance(seed, Tensor) else raw(seed)
            for i, gradient in enumerate(backward(one, known, seed, since=self._since, linked=linked)):
                if gradient is not None:
                    total[i] = gradient if total[i] is None else total[i] + gradient
        if unconnected_gradients == "zero":
            total = [k.xp.zeros_like(x.data) if g is None else g for g, x in zip(total, flat, strict=True)]
        found = [g if g is None or isinstance(g, Tensor) else Tensor(g) for g in total]
        return tree.pack_sequence_as(sources, found)

    @user_facing
    def jacobian(self, target: Tensor, sources: Any, unconnected_gradients: str = "none") -> Any:
        """The derivatives of every element of `target` at `sources`: of shape `target.shape + source.shape`.

        One gradient is computed for each element.  Arguments and what is raised are as for `gradient`.

        >>> from minikeras import GradientTape, ops
        >>> x = ops.convert_to_tensor([1.0, 2.0])
        >>> with GradientTape() as tape:
        ...     tape.watch(x)
        ...     y = x * x
        >>> tape.jacobian(y, x).tolist()
        [[2.0, 0.0], [0.0, 4.0]]
        """
        _require_tensors("target", [target])
        flat, shape = tree.flatten(sources), target.shape
        seeds = [Tensor(one) for one in k.xp.eye(target.size, dtype=target.data.dtype).reshape(target.size, *shape)]
        rows = [self.gradient(target, flat, seed, unconnected_gradients) for seed in seeds]
        found = []
        for source, *parts in zip(flat, *rows, strict=True):
            connected = parts and parts[0] is not None
            found.append(stacked(parts).reshape(*shape, *source.shape) if connected else None)
        return tree.pack_sequence_as(sources, found)


def _require_tensors(role: str, values: Sequence[Any]) -> None:
    for value in values:
        if not isinstance(value, Tensor):
            raise TypeError(
                f"A gradient's {role} must be a tensor made by minikeras.ops or a variable, got "
                f"{'None' if value is None else type(value).__name__}; a NumPy array or a number has no gradient."
            )


def value_and_grad(function: Callable, argnums: int | Sequence[int] = 0) -> Callable:
    """A function that returns `(function(...), its gradient)` with respect to the arguments numbered `argnums`."""

    @user_facing
    @functools.wraps(function)
    def evaluate(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        positions = [argnums] if isinstance(argnums, int) else list(argnums)
        arguments = list(args)
        for position in positions:
            arguments[position] = tree.map_structure(_tracked, arguments[position])
        with GradientTape() as tape:
            value = function(*arguments, **kwargs)
        _require_tensors("function's value", [value])
        if value.size != 1:
            raise ValueError(
                f"grad needs a scalar function, got a value of shape {value.shape}; reduce it with ops.sum."
            )
        gradients = tape.gradient(value, [arguments[position] for position in positions])
        return value, gradients[0] if isinstance(argnums, int) else tuple(gradients)

    return evaluate


def grad(function: Callable, argnums: int | Sequence[int] = 0) -> Callable:
    """A function that returns the gradient of the scalar `function` with respect to the arguments numbered `argnums`.

    An argument may be a structure (list, dict) of arrays or variables; the gradient has the same structure.  The
    gradient of a gradient, and so on, is that of such a function.

    >>> from minikeras.autodiff import grad
    >>> float(grad(grad(grad(lambda x: x**4)))(2.0))
    48.0
    """
    evaluate = value_and_grad(function, argnums)

    @user_facing
    @functools.wraps(function)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        return evaluate(*args, **kwargs)[1]

    return gradient


def _tracked(value: Any) -> Tensor:
    if isinstance(value, Variable) or (isinstance(value, Tensor) and value.tracked):
        return value
    array = raw(value) if not isinstance(value, (int, float)) else k.xp.asarray(float(value))
    _require_float(array)
    return Tensor(array, tracked=True)


def _require_float(array: Any) -> None:
    if array.dtype.char not in FLOATS:
        raise TypeError(
            f"A gradient is taken at float tensors, got one of type {array.dtype}, in which it would be rounded; cast "
            "it to float32 first."
        )
