"""custom_gradient: a function of tensors with a gradient of one's own."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from minikeras import kernels as k
from minikeras import tree
from minikeras.autodiff.op import Op, _linked, composite
from minikeras.autodiff.operands import raw
from minikeras.autodiff.tape import is_recording, recording
from minikeras.autodiff.tensor import Tensor, clock


def custom_gradient(f: Callable) -> Callable:
    """Give a function of tensors a gradient of its own, instead of the one that follows from its operations.

    The gradient is differentiated again as what it is made of: operations on the arguments, on the gradient at the
    result, and on what the function computed.

    Args:
        f: `f(*args)` returns its result, a tensor or a structure of them, and a function `grad`.  That gets the
            gradient at each tensor of the result and returns one for each tensor of the arguments, None for none.  It
            is called `grad(*upstream)` or, where it has `upstream` as a keyword alone, `grad(*args, upstream=...)`.

    Returns:
        A function of the same arguments that returns the result alone.

    Raises:
        TypeError: when called, where `f` returns no pair, or uses tracked tensors that are no arguments.
        ValueError: when the gradient is asked for and `grad` returns another number of gradients, or other shapes.

    >>> from minikeras import ops
    >>> from minikeras.autodiff import grad
    >>> @ops.custom_gradient
    ... def log1pexp(x):
    ...     e = ops.exp(x)
    ...     return ops.log(1 + e), lambda upstream: upstream * (1 - 1 / (1 + e))
    >>> float(grad(log1pexp)(100.0)), float(log1pexp(0.0)) > 0.69
    (1.0, True)
    """

    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        arguments = tree.map_structure(_as_tensor, args)
        since = next(clock)
        pair = f(*arguments, **kwargs)
        if not isinstance(pair, tuple) or len(pair) != 2 or not callable(pair[1]):
            raise TypeError(
                f"A function with a custom gradient returns (result, gradient function), got {type(pair).__name__}."
            )
        result, gradient = pair
        outputs = [_as_tensor(leaf) for leaf in tree.flatten(result)]
        inputs = [one for one in tree.flatten(arguments) if one is not None]
        sources = [one if one.tracked else None for one in inputs]
        if is_recording():
            _require_arguments(outputs, inputs, since)
        if not is_recording() or sources.count(None) == len(sources):
            return tree.pack_sequence_as(result, outputs)
        named = _takes_upstream_by_name(gradient)

        def pull(g: Sequence[Any], needs: Any) -> list[Any]:
            pairs = zip(g, outputs, strict=True)
            upstream = [Tensor(k.xp.zeros_like(out.data)) if part is None else part for part, out in pairs]
            if named:
                found = gradient(*arguments, upstream=upstream[0] if len(upstream) == 1 else upstream)
            else:
                found = gradient(*upstream)
            gradients = [_as_tensor(one) for one in tree.flatten(found)]
            expected = [tuple(one.shape) for one in inputs]
            shapes = [None if one is None else tuple(one.shape) for one in gradients]
            filled = [own if one is None else one for one, own in zip(shapes, expected, strict=False)]
            if len(shapes) != len(expected) or filled != expected:
                raise ValueError(
                    f"A custom gradient returns a gradient, or None, for each argument, of its shape: {expected}, got "
                    f"{shapes}."
                )
            return gradients

        def vjp(g: Any, needs: Any) -> list[Any]:
            with recording(False):
                return [raw(one) for one in pull([None if part is None else Tensor(part) for part in g], needs)]

        arrays = [one.data for one in inputs]
        made = tuple([out.data for out in outputs])
        linked = _linked(_CUSTOM, made, vjp, sources, tuple(inputs), {"pull": pull}, arrays, True)
        return tree.pack_sequence_as(result, list(linked))

    op = composite(call)
    op.made = custom_gradient, f, {}
    return op


_CUSTOM = Op(custom_gradient, True, gradient=lambda *tensors, pull: pull)


def _takes_upstream_by_name(gradient: Callable) -> bool:
    parameter = inspect.signature(gradient).parameters.get("upstream")
    return parameter is not None and parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty


def _as_tensor(value: Any) -> Any:
    array = raw(value)
    return value if isinstance(value, Tensor) or array is None else Tensor(k.xp.asanyarray(array))


def _require_arguments(outputs: Sequence[Tensor], inputs: Sequence[Any], since: int) -> None:
    """Refuse outputs that were computed from tracked tensors beside the inputs."""
    stack, seen = list(outputs), {id(one) for one in inputs}
    while stack:
        tensor = stack.pop()
        if id(tensor) in seen or not tensor.tracked:
            continue
        seen.add(id(tensor))
        if tensor.node is None or tensor.node.order < since:
            raise TypeError(
                f"A function with a custom gradient uses {tensor!r}, which is no argument, so its gradient would be "
                "lost; pass it as one, or what ops.stop_gradient makes of it."
            )
        stack += [one for one in tensor.node.inputs if one is not None]
