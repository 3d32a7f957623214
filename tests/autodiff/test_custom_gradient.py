"""custom_gradient: Keras's protocol and TensorFlow's, structures, gradients of every order, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import minikeras
from minikeras import ops
from minikeras.autodiff import GradientTape, Variable, check_gradients, grad


@ops.custom_gradient
def log1pexp(x):
    """As Keras's documentation has it."""
    e = ops.exp(x)

    def gradient(*args, upstream=None):
        if upstream is None:
            (upstream,) = args
        return ops.multiply(upstream, 1.0 - 1.0 / ops.add(1, e))

    return ops.log(1 + e), gradient


def test_the_example_of_the_documentation() -> None:
    x = np.array([-1.0, 0.5, 100.0])
    np.testing.assert_allclose(log1pexp(x), np.log1p(np.exp(x)))
    np.testing.assert_allclose(grad(lambda x: ops.sum(log1pexp(x)))(x), 1 / (1 + np.exp(-x)))
    check_gradients(log1pexp, x[:2], order=3)
    assert log1pexp.__doc__ == "As Keras's documentation has it."


@pytest.mark.parametrize("numbered", [True, False])
def test_other_spellings_and_structures(numbered: bool) -> None:
    """A gradient scaled by 10, of a dict and a number, with upstream gradients as arguments or by their name."""

    @ops.custom_gradient
    def both(inputs, factor):
        a, b = inputs["a"], inputs["b"]

        def of(first, second):
            return {"a": first * 10.0, "b": None}, ops.sum(second * b)

        def named(*args, upstream):
            assert len(args) == 2
            return of(*upstream)

        return (a + b, b * factor), of if numbered else named

    a, b, factor = Variable([1.0, 2.0]), Variable([3.0, 4.0]), Variable(2.0)
    with GradientTape() as tape:
        first, second = both({"a": a, "b": b}, factor)
        y = ops.sum(first) + ops.sum(second)
    assert (first.tolist(), second.tolist()) == ([4, 6], [6, 8])
    of_a, of_b, of_factor = tape.gradient(y, [a, b, factor])
    assert (of_a.tolist(), of_b, float(of_factor)) == ([10, 10], None, 7)
    assert tape.gradient(first, factor).tolist() == 0  # of what is not used the gradient is zero


def test_the_gradient_is_the_users_alone() -> None:
    @ops.custom_gradient
    def rounded(x):  # straight through
        return ops.round(x), lambda upstream: upstream

    x = Variable([1.4, 2.6])
    with GradientTape() as tape:
        y = rounded(x * 2.0) ** 2
    np.testing.assert_allclose(tape.gradient(y, x), 2 * np.array([3.0, 5.0]) * 2)
    assert rounded(x).node is None  # nothing is recorded outside


def test_on_symbolic_tensors() -> None:
    x = minikeras.Input((2,))
    y = log1pexp(x)
    assert y.shape == (None, 2)
    model = minikeras.Model(x, y)
    np.testing.assert_allclose(model.predict(np.zeros((3, 2)), verbose=0), np.full((3, 2), np.log(2)), rtol=1e-6)


def test_what_is_refused() -> None:
    w, x = Variable([2.0]), Variable([3.0])

    @ops.custom_gradient
    def with_a_weight(x):
        return x * w, lambda upstream: upstream

    @ops.custom_gradient
    def no_pair(x):
        return x

    @ops.custom_gradient
    def too_many(x):
        return x * 1.0, lambda upstream: (upstream, upstream)

    @ops.custom_gradient
    def too_few(x, y):
        return x * y, lambda upstream: upstream

    @ops.custom_gradient
    def of_another_shape(x):
        return x * 1.0, lambda upstream: ops.sum(upstream)

    with GradientTape() as tape:
        with pytest.raises(TypeError, match="which is no argument"):
            with_a_weight(x)
        with pytest.raises(TypeError, match=r"returns \(result, gradient function\), got Variable"):
            no_pair(x)
        first, second, third = too_many(x), of_another_shape(x), too_few(x, x)
    with pytest.raises(ValueError, match=r"for each argument, of its shape: \[\(1,\)\], got \[\(1,\), \(1,\)\]"):
        tape.gradient(first, x)
    with pytest.raises(ValueError, match=r"got \[\(\)\]"):
        tape.gradient(second, x)
    with pytest.raises(ValueError, match=r"\[\(1,\), \(1,\)\], got \[\(1,\)\]"):
        tape.gradient(third, x)
    assert with_a_weight(x).tolist() == [6]
