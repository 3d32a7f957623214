"""check_gradients: compare an operation's gradient with a difference quotient along random directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minikeras import kernels as k
from minikeras import tree
from minikeras.autodiff.tape import backward, is_recording, recording
from minikeras.autodiff.tensor import Tensor, Variable


def check_gradients(
    function: Callable,
    *inputs: Any,
    variables: Sequence[Variable] = (),
    step: float = 1e-6,
    rtol: float = 1e-5,
    atol: float = 1e-7,
    directions: int = 3,
    seed: int = 0,
    order: int = 1,
    **settings: Any,
) -> None:
    """Verify the gradient of `function(*inputs, **settings)` at every float64 input and variable.

    The result (an array or a structure of them) is weighted by random numbers u and the inputs move along random
    directions v: the difference quotient of `sum(u * f)` along v must equal the dot product of v with the gradient.
    An empty result passes if the gradients have the right shapes.

    Args:
        inputs: float64 arrays are differentiated; anything else is passed on as it is.
        variables: float64 variables that the function uses and that are to be differentiated too.
        step: half the width of the difference quotient.
        rtol, atol: permitted error, relative to the magnitude of the two numbers compared, and absolute.
        directions: how many random directions are tried for each input.
        order: with 2 the gradient of the gradient is verified too, with 3 the gradient of that, and so on.

    Raises:
        AssertionError: names the input and both numbers where they differ.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> from minikeras.autodiff import check_gradients
    >>> check_gradients(ops.tanh, np.array([0.5, -1.0]), order=2)
    """
    if order > 1:
        options: dict[str, Any] = {"step": step, "rtol": rtol, "atol": atol, "directions": directions}
        slopes = _slopes(function, variables, seed, settings)
        check_gradients(slopes, *inputs, variables=variables, seed=seed + 1, order=order - 1, **options)
    rng = np.random.default_rng(seed)
    tensors = [_as_tracked(value) for value in inputs]
    places = [i for i, value in enumerate(tensors) if isinstance(value, Tensor) and value.tracked]
    with recording():
        outputs = [out for out in tree.flatten(function(*tensors, **settings)) if _is_float(out)]
    weights = [rng.standard_normal(out.shape) for out in outputs]
    sources = [tensors[i] for i in places] + list(variables)
    labels = [f"input {i}" for i in places] + [f"variable {v.path}" for v in variables]
    gradients: list[Any] = [np.zeros(source.shape) for source in sources]
    for out, weight in zip(outputs, weights, strict=True):
        for i, gradient in enumerate(backward(out, sources, k.to_device(weight))):
            if gradient is not None:
                gradient = k.to_host(gradient)
                if gradient.shape != sources[i].shape:
                    raise AssertionError(f"{labels[i]}: gradient of shape {gradient.shape} for {sources[i].shape}.")
                gradients[i] = gradients[i] + gradient

    def weighted_sum() -> float:
        with recording(False):
            flat = [out for out in tree.flatten(function(*tensors, **settings)) if _is_float(out)]
        return float(sum(np.sum(k.to_host(out.data) * w) for out, w in zip(flat, weights, strict=True)))

    for source, gradient, label in zip(sources, gradients, labels, strict=True):
        if source.size == 0:
            continue
        kept = source.data.copy()
        for _ in range(directions):
            direction = rng.standard_normal(source.shape)
            direction /= np.sqrt(np.sum(direction**2)) or 1.0
            shift = k.to_device(np.asarray(direction * step))
            source.data[...] = kept + shift
            above = weighted_sum()
            source.data[...] = kept - shift
            below = weighted_sum()
            source.data[...] = kept
            numeric = (above - below) / (2 * step)
            exact = float(np.sum(gradient * direction))
            # rounding of the two sums limits what the quotient can tell
            noise = 4 * np.finfo(np.float64).eps * max(abs(above), abs(below)) / step
            limit = atol + noise + rtol * max(abs(numeric), abs(exact), float(np.sqrt(np.sum(gradient**2))) * 0.1)
            if not abs(numeric - exact) <= limit:
                raise AssertionError(
                    f"{label}: the gradient along a random direction is {exact!r}, the difference quotient {numeric!r}."
                )


def _slopes(function: Callable, variables: Sequence[Variable], seed: int, settings: dict[str, Any]) -> Callable:
    """A function of the same inputs that returns the gradients at them, for random gradients at the results."""

    def slopes(*inputs: Any) -> list[Any]:
        linked = is_recording()
        sources = [value for value in inputs if isinstance(value, Tensor) and value.tracked] + list(variables)
        with recording():
            outputs = [out for out in tree.flatten(function(*inputs, **settings)) if _is_float(out)]
        rng = np.random.default_rng(seed)
        found: list[Any] = []
        for out in outputs:
            weight = k.to_device(np.asarray(rng.standard_normal(out.shape)))
            found += [g for g in backward(out, sources, weight, linked=linked) if g is not None]
        return [g if isinstance(g, Tensor) else Tensor(g) for g in found]

    return slopes


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.data.dtype.kind == "f"


def _as_tracked(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.float64)) and value.dtype == np.float64:
        return Tensor(k.to_device(np.array(value)), tracked=True)
    return value
