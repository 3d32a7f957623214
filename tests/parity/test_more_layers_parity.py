"""Layers of functions and of other layers, and what is learned before the training, against real Keras."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import minikeras
from minikeras import layers

RNG = np.random.default_rng(5)
SPREAD = RNG.normal(3, 2, size=(40, 3, 4)).astype("f4") * np.float32([1, 2, 3, 4])


def close(ours, theirs, rtol=2e-5, atol=3e-6):
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=rtol, atol=atol)


# ---------------------------------------------------------------- Normalization


DATA = {
    "array": lambda: SPREAD,
    "integers": lambda: (10 * SPREAD).astype("int32"),
    "list of batches": lambda: [SPREAD[:7], SPREAD[7:20], SPREAD[20:]],
    "generator of pairs": lambda: ((SPREAD[i : i + 16], np.zeros(16)) for i in range(0, 40, 16)),
}


@pytest.mark.parametrize("axis", [-1, None, (1, 2), 1])
@pytest.mark.parametrize("data", DATA)
def test_adapt(data, axis):
    ours, theirs = layers.Normalization(axis=axis), keras.layers.Normalization(axis=axis)
    ours.adapt(DATA[data]())
    theirs.adapt(DATA[data]() if data in ("array", "integers") else SPREAD)  # batches need TensorFlow there
    for weight, wanted in zip(ours.weights, theirs.weights, strict=True):
        assert (weight.name, weight.shape, str(weight.dtype)) == (wanted.name, wanted.shape, wanted.dtype)
        close(weight, wanted, rtol=2e-5)
    close(ours.mean, theirs.mean)
    close(ours.variance, theirs.variance)
    close(ours(SPREAD), theirs(SPREAD))
    ours.adapt(2 * SPREAD), theirs.adapt(2 * SPREAD)  # what was learned before is forgotten
    close(ours(SPREAD), theirs(SPREAD))


def test_adapt_from_a_dataset_of_one_s_own():
    class Batches(minikeras.utils.PyDataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return SPREAD[index * 10 : index * 10 + 10], np.zeros(10)

    ours, theirs = layers.Normalization(), keras.layers.Normalization()
    ours.adapt(Batches()), theirs.adapt(SPREAD)
    close(ours(SPREAD), theirs(SPREAD))


@pytest.mark.parametrize(
    "misuse",
    [
        lambda L: L.Normalization(mean=1.0),
        lambda L: L.Normalization(mean=[1.0, 2.0], variance=1.0),
        lambda L: L.Normalization(axis=None, mean=[1.0], variance=[1.0]),
        lambda L: L.Normalization(axis=4).build((None, 3)),
        lambda L: L.Normalization(axis=1).build((None, None, 3)),
        lambda L: L.Normalization(mean=[1.0, 2.0], variance=[1.0, 2.0]).build((None, 3)),
        lambda L: [layer := L.Normalization(), layer.adapt(np.ones((4, 3))), layer.adapt(np.ones((4, 2)))],
        lambda L: L.Normalization().adapt([]),
        lambda L: L.Normalization().adapt([1.0, 2.0]),
        lambda L: L.Normalization().adapt(3.0),
        lambda L: L.GroupNormalization(0),
        lambda L: L.GroupNormalization(3).build((None, 4)),
        lambda L: L.Conv2DTranspose(2, 2, output_padding=1),
        lambda L: L.Conv2DTranspose(2, 2, strides=2, dilation_rate=2),
        lambda L: L.Conv2DTranspose(2, 2, padding="causal"),
        lambda L: L.SeparableConv2D(2, 2, depth_multiplier=0),
        lambda L: L.SeparableConv1D(0, 2),
        lambda L: L.SeparableConv1D(2, 5).build((None, 3, 2)),
        lambda L: L.AlphaDropout(1.2),
        lambda L: L.Wrapper("no layer"),
        lambda L: L.SpectralNormalization(L.Dense(2), power_iterations=0),
        lambda L: L.SpectralNormalization(L.Flatten()).build((None, 3)),
        lambda L: L.Lambda("no function"),
    ],
)
def test_what_is_refused(misuse):
    with pytest.raises((ValueError, TypeError, ImportError)):  # without TensorFlow it takes no batches
        misuse(keras.layers)
    with pytest.raises((ValueError, TypeError)):
        misuse(layers)


def test_rescaling_integers_and_channels_first():
    pictures = RNG.integers(0, 256, (2, 3, 4, 5)).astype("uint8")
    close(layers.Rescaling(1 / 127.5, -1)(pictures), keras.layers.Rescaling(1 / 127.5, -1)(pictures))
    try:
        for module in (minikeras, keras):
            module.config.set_image_data_format("channels_first")
        close(layers.Rescaling([1.0, 2.0, 3.0])(pictures), keras.layers.Rescaling([1.0, 2.0, 3.0])(pictures))
    finally:
        for module in (minikeras, keras):
            module.config.set_image_data_format("channels_last")
    scale = np.float32([1, 2])
    ours, theirs = layers.Rescaling(scale), keras.layers.Rescaling(scale)
    assert ours.get_config()["scale"] == theirs.get_config()["scale"]
    np.testing.assert_array_equal(layers.Rescaling.from_config(theirs.get_config()).scale, scale)


# ---------------------------------------------------------------- SpectralNormalization and Wrapper


def test_spectral_normalization():
    x = RNG.normal(size=(4, 6, 5, 3)).astype("f4")
    ours = layers.SpectralNormalization(layers.Conv2D(4, 2), power_iterations=2)
    theirs = keras.layers.SpectralNormalization(keras.layers.Conv2D(4, 2), power_iterations=2)
    for layer in (ours, theirs):
        layer.build(x.shape)
    assert [w.name for w in ours.weights] == [w.name for w in theirs.weights]
    ours.set_weights(theirs.get_weights())
    for _ in range(3):
        close(ours(x, training=True), theirs(x, training=True), rtol=1e-4, atol=1e-5)
    for weight, wanted in zip(ours.weights, theirs.weights, strict=True):
        close(weight, wanted, rtol=1e-4, atol=1e-5)
    close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_a_wrapper_of_one_s_own():
    def model(module):
        class Doubled(module.layers.Wrapper):
            def call(self, inputs):
                return 2 * self.layer(inputs)

        layer = Doubled(module.layers.Dense(3, name="inner"), name="outer")
        layer.build((None, 5))
        return layer

    ours, theirs = model(minikeras), model(keras)
    assert [w.path for w in ours.weights] == [w.path for w in theirs.weights]
    assert ours.get_config()["layer"]["class_name"] == theirs.get_config()["layer"]["class_name"] == "Dense"
    ours.set_weights(theirs.get_weights())
    x = np.ones((2, 5), "f4")
    close(ours(x), theirs(x))
    assert type(ours).from_config(ours.get_config()).layer.units == 3
    assert issubclass(layers.TimeDistributed, layers.Wrapper)


# ---------------------------------------------------------------- Lambda


def scaled(x, factor=1.0, training=False):
    return x * factor + (1.0 if training else 0.0)


def softened(x, mask=None):
    return x if mask is None else x * 0.5


LAMBDAS = [
    (lambda M: M.layers.Lambda(scaled, arguments={"factor": 3.0}), (4,)),
    (lambda M: M.layers.Lambda(lambda x: M.ops.sum(x, axis=-1)), (3, 4)),
    (lambda M: M.layers.Lambda(lambda x: M.ops.sum(x, axis=-1), output_shape=(3,)), (3, 4)),
    (lambda M: M.layers.Lambda(lambda x: x[:, ::2], output_shape=lambda s: (s[0], 2, s[2])), (3, 4)),
    (lambda M: M.layers.Lambda(softened, mask=lambda inputs, mask: mask), (3, 4)),
]


@pytest.mark.parametrize("case", range(len(LAMBDAS)))
def test_lambda(case):
    make, shape = LAMBDAS[case]
    x = RNG.normal(size=(2, *shape)).astype("f4")
    ours, theirs = make(minikeras), make(keras)
    for training in (False, True):
        close(ours(x, training=training), theirs(x, training=training))
    assert ours.supports_masking == theirs.supports_masking
    assert tuple(ours.compute_output_shape((None, *shape))) == tuple(theirs.compute_output_shape((None, *shape)))

    def model(module):
        inputs = module.Input(shape)
        masked = module.layers.Masking()(inputs) if len(shape) == 2 else inputs
        return module.Model(inputs, make(module)(masked))

    x[:, 1] = 0
    models = model(minikeras), model(keras)
    assert models[0].output_shape == models[1].output_shape
    close(models[0].predict(x, verbose=0), models[1].predict(x, verbose=0))


def test_lambda_masks_and_arguments():
    x = np.float32([[[1], [0]]])
    for mask in (None, lambda inputs, mask: mask, np.array([[True, True]])):
        ours = layers.Lambda(softened, mask=mask)(layers.Masking()(x))
        theirs = keras.layers.Lambda(softened, mask=mask)(keras.layers.Masking()(x))
        close(ours, theirs)
        ours_mask, theirs_mask = ours._keras_mask, getattr(theirs, "_keras_mask", None)
        assert (ours_mask is None) == (theirs_mask is None)
        assert ours_mask is None or np.array_equal(ours_mask, theirs_mask)


@pytest.mark.parametrize("source", [minikeras, keras], ids=["minikeras", "keras"])
def test_lambda_in_files(source, tmp_path):
    """Files of either open here and there where the functions are passed, and are refused where they are not."""
    inputs = source.Input((4,))
    outputs = source.layers.Lambda(scaled, name="named", arguments={"factor": 3.0})(inputs)
    source.Model(inputs, outputs).save(tmp_path / "named.keras")
    x = np.ones((2, 4), "f4")
    for module in (minikeras, keras):
        with pytest.raises((ValueError, TypeError)):
            module.saving.load_model(tmp_path / "named.keras")
        model = module.saving.load_model(tmp_path / "named.keras", custom_objects={"scaled": scaled})
        close(model.predict(x, verbose=0), 3 * x)


def test_a_function_without_a_name_is_passed_by_the_layer_s(tmp_path):
    inputs = minikeras.Input((4,))
    outputs = minikeras.layers.Lambda(lambda x: 3 * x, name="relu", output_shape=lambda shape: shape)(inputs)
    minikeras.Model(inputs, outputs).save(tmp_path / "ours.keras")
    functions = {"relu>function": lambda x: 3 * x, "relu>output_shape": lambda shape: shape}
    x = np.ones((2, 4), "f4")
    for module in (minikeras, keras):
        for safe_mode in (True, False):
            with pytest.raises((ValueError, TypeError)):
                module.saving.load_model(tmp_path / "ours.keras", safe_mode=safe_mode)
        model = module.saving.load_model(tmp_path / "ours.keras", custom_objects=functions)
        close(model.predict(x, verbose=0), 3 * x)


def test_keras_s_bytecode_is_not_run(tmp_path):
    inputs = keras.Input((4,))
    keras.Model(inputs, keras.layers.Lambda(lambda x: 3 * x, name="code")(inputs)).save(tmp_path / "theirs.keras")
    for safe_mode in (True, False):
        with pytest.raises(ValueError, match=r"never taken from a description.*'code'"):
            minikeras.saving.load_model(tmp_path / "theirs.keras", safe_mode=safe_mode)
    functions = {"code": lambda x: 5 * x}
    model = minikeras.saving.load_model(tmp_path / "theirs.keras", custom_objects=functions)
    close(model.predict(np.ones((2, 4)), verbose=0), np.full((2, 4), 5.0))


def test_name_scope():
    def paths(module):
        with module.name_scope("outer"), module.name_scope("inner"):
            dense = module.layers.Dense(2, name="dense")
            dense.build((None, 3))
        with module.name_scope("outer"), module.name_scope("inner", override_parent="other"):
            other = module.layers.Dense(2, name="dense")
            other.build((None, 3))
        with module.name_scope("left"):
            later = module.layers.Dense(2, name="later")
        later.build((None, 3))
        return [weight.path for layer in (dense, other, later) for weight in layer.weights]

    assert paths(minikeras) == paths(keras)
