"""The functions that Keras 2 programs call `K` against those that real Keras has kept, which TensorFlow computes."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

from keras.src.legacy import backend as theirs  # noqa: E402

from minikeras import backend as ours  # noqa: E402
from minikeras import tree  # noqa: E402

RNG = np.random.default_rng(0)


def _array(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype("float32")


PICTURES, VOLUMES = _array(2, 5, 6, 3), _array(2, 3, 4, 4, 2)
SHARES = np.abs(_array(4, 3)) / np.abs(_array(4, 3)).max() * 0.4 + 0.3
LABELS = np.eye(3, dtype="float32")[[0, 2, 1, 1]]
VECTOR = np.abs(_array(3)) + 0.5

CALLS: dict[str, tuple[str, tuple, dict[str, Any]]] = {
    "batch_normalization": ("batch_normalization", (PICTURES, VECTOR, VECTOR, VECTOR, VECTOR), {"epsilon": 0.1}),
    "binary focal": ("binary_focal_crossentropy", (LABELS, SHARES), {}),
    "binary focal, balanced": ("binary_focal_crossentropy", (LABELS, SHARES, True, 0.3, 1.5), {}),
    "binary focal, logits": ("binary_focal_crossentropy", (LABELS, _array(4, 3)), {"from_logits": True}),
    "categorical focal": ("categorical_focal_crossentropy", (LABELS, SHARES), {}),
    "categorical focal, logits": ("categorical_focal_crossentropy", (LABELS, _array(4, 3), 0.3, 1.5, True), {}),
    "pool3d": ("pool3d", (VOLUMES, (2, 2, 2), (1, 2, 1), "same", "channels_last", "avg"), {}),
    "pool3d, largest": ("pool3d", (VOLUMES, (1, 2, 2)), {}),
    "pool2d": ("pool2d", (PICTURES, (2, 2)), {}),
    "spatial_3d_padding": ("spatial_3d_padding", (VOLUMES, ((1, 0), (0, 2), (1, 1))), {}),
    "resize_images": ("resize_images", (PICTURES, 2, 3, "channels_last"), {}),
    "resize_volumes": ("resize_volumes", (VOLUMES, 2, 1, 3, "channels_last"), {}),
    "foldl": ("foldl", (lambda total, x: total * 0.5 + x, _array(4, 3)), {}),
    "foldl, begun": ("foldl", (lambda total, x: total * 0.5 + x, _array(4, 3)), {"initializer": _array(3)}),
    "foldr": ("foldr", (lambda total, x: total * 0.5 + x, _array(4, 3)), {}),
    "cumsum": ("cumsum", (_array(2, 3),), {}),
    "cumprod": ("cumprod", (_array(2, 3),), {}),
    "expand_dims": ("expand_dims", (_array(2, 3),), {}),
    "eye": ("eye", (3, "float32"), {}),
    "arange": ("arange", (5,), {}),
    "arange, floats": ("arange", (0.5, 3.0, 0.5, "float32"), {}),
    "clip": ("clip", (_array(5), 1.0, -1.0), {}),
    "maximum": ("maximum", (), {"x": _array(3), "y": _array(3)}),
    "one_hot": ("one_hot", (), {"indices": np.array([0, 2]), "num_classes": 3}),
    "tile": ("tile", (), {"x": _array(2, 3), "n": (1, 2)}),
}
for stride, sizes, padding in (
    ((1, 1), (6, 7), "valid"),
    ((2, 2), (11, 14), "valid"),
    ((2, 3), (10, 17), "same"),
    ((2, 2), (9, 12), "same"),
):
    CALLS[f"conv2d_transpose {stride} {sizes} {padding}"] = (
        "conv2d_transpose",
        (PICTURES, _array(2, 3, 4, 3) if padding == "same" or stride == (2, 2) else _array(2, 2, 4, 3)),
        {"output_shape": (2, *sizes, 4), "strides": stride, "padding": padding},
    )


@pytest.mark.parametrize("name", CALLS)
def test_functions(name: str) -> None:
    function, args, kwargs = CALLS[name]
    found = getattr(ours, function)(*args, **kwargs)
    if name.startswith("resize"):
        args = (tf.constant(args[0]), *args[1:])
    expected = getattr(theirs, function)(*args, **kwargs)
    assert np.asarray(found).dtype == np.asarray(expected).dtype
    np.testing.assert_allclose(found, np.asarray(expected), rtol=2e-5, atol=2e-5)


def _step(K: Any) -> Any:
    def step(x: Any, states: Any) -> Any:
        new = K.tanh(x + states[0] * 0.5 + states[-1])
        return new * 2.0, [new, states[1] + 1.0]

    return step


MASK = np.array([[True, False, True, True], [False, True, True, False]])
SETTINGS: list[dict[str, Any]] = [
    *({}, {"go_backwards": True}, {"mask": MASK}, {"mask": MASK, "zero_output_for_mask": True}),
    *({"mask": MASK, "go_backwards": True}, {"unroll": True}, {"unroll": True, "mask": MASK}, {"time_major": True}),
    {"return_all_outputs": False},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_rnn(settings: dict[str, Any]) -> None:
    x, constant = _array(2, 4, 3), _array(2, 3)
    if settings.get("time_major"):
        x = x.swapaxes(0, 1)
    states = [np.zeros((2, 3), "float32"), np.ones((2, 3), "float32")]
    results = []
    for K, tensor in ((ours, lambda array: array), (theirs, tf.constant)):
        given = {name: tensor(one) if name == "mask" else one for name, one in settings.items()}
        begun = [tensor(state) for state in states]
        results.append(K.rnn(_step(K), tensor(x), begun, constants=[tensor(constant)], **given))
    found, expected = (
        tree.flatten([list(part) if isinstance(part, tuple) else part for part in one]) for one in results
    )
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, np.asarray(other), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("go_backwards", [False, True])
def test_lengths_of_sequences(go_backwards: bool) -> None:
    """As the mask of so many steps."""
    x, states = _array(2, 4, 3), [np.zeros((2, 3), "float32")] * 2
    settings = {"constants": [_array(2, 3)], "go_backwards": go_backwards}
    found = ours.rnn(_step(ours), x, states, input_length=np.array([2, 3]), **settings)
    mask = np.arange(4) < np.array([[2], [3]])
    expected = ours.rnn(_step(ours), x, states, mask=mask, **settings)
    for one, other in zip(tree.flatten(found), tree.flatten(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def test_random_variables() -> None:
    for name, mean, spread in (("random_normal_variable", 1.0, 2.0), ("random_uniform_variable", 0.0, 12**-0.5)):
        drawn = getattr(ours, name)((4000,), *((1.0, 2.0) if "normal" in name else (-0.5, 0.5)), seed=3)
        assert drawn.trainable
        assert abs(drawn.numpy().mean() - mean) < 0.15
        assert abs(drawn.numpy().std() - spread) < 0.15
