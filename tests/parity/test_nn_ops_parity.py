"""Values and gradients of the public neural-network operations against real Keras on JAX, as `nn_cases` lists them."""

from __future__ import annotations

import inspect

import pytest

keras = pytest.importorskip("keras")
pytest.importorskip("jax")

from ops.nn_cases import PUBLIC  # noqa: E402
from ops.op_cases import Case  # noqa: E402
from parity.test_ops_parity import compare_gradients, compare_values  # noqa: E402

from minikeras.ops import nn  # noqa: E402

# On JAX, Keras takes no `strides=None` in a pooling, no labels without another axis than the last, and broadcasts the
# scale of another axis along the last.
WITHOUT_COUNTERPART = {
    "sparse_categorical_crossentropy(array,1x4x3,from_logits=True,axis=1)",
    "rms_normalization(2x3x4,3,axis=1,epsilon=0.001)",
}
COMPARED = [one for one in PUBLIC if one.kwargs.get("strides", 1) is not None and str(one) not in WITHOUT_COUNTERPART]
# its sparsemax returns what does not add up to 1 wherever more than one value is left
COMPARED = [one for one in COMPARED if one.name != "sparsemax"]


@pytest.mark.parametrize("case", COMPARED, ids=str)
def test_values_and_types(case: Case) -> None:
    compare_values(case)


@pytest.mark.parametrize("case", [case for case in COMPARED if case.differentiable], ids=str)
def test_gradients(case: Case) -> None:
    compare_gradients(case)


NAMES = [name for name in dir(nn) if callable(getattr(keras.ops, name, None)) and name not in ("multi_hot", "__dir__")]


@pytest.mark.parametrize("name", NAMES)  # multi_hot has an older spelling
def test_arguments(name: str) -> None:
    """The names, order and defaults of Keras's arguments."""

    def arguments(module: object) -> list[tuple]:
        parameters = inspect.signature(getattr(module, name)).parameters.values()
        return [(one.name, one.default) for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]

    assert arguments(nn) == arguments(keras.ops)
