"""Transfer learning with a network of `keras.applications`: learn one task, freeze, learn another from few pictures.

Where the weights of ImageNet are in the cache or can be downloaded, `weights="imagenet"` replaces the first part.
"""

from __future__ import annotations

import numpy as np
from shapes import NAMES, SIZE, shapes

import minikeras as keras
from minikeras import layers

FIRST, SECOND = NAMES[:4], NAMES[2:]


def with_head(base: keras.Model, classes: int, training: bool | None = None) -> keras.Model:
    """The base's features, averaged over the picture, and a new classifier; `training=False` keeps its averages."""
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.applications.mobilenet.preprocess_input(inputs)
    x = layers.GlobalAveragePooling2D()(base(x, training=training))
    return keras.Model(inputs, layers.Dense(classes, activation="softmax")(x))


def train(model: keras.Model, kinds: tuple[str, ...], count: int, epochs: int, rate: float, seed: int) -> float:
    """The accuracy on new pictures after some epochs on `count` pictures."""
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*shapes(count, kinds, seed), epochs=epochs, batch_size=32, verbose=2)
    return model.evaluate(*shapes(300, kinds, seed=99), verbose=0)[1]


def main() -> None:
    keras.utils.set_random_seed(1)
    whole = keras.applications.MobileNet((SIZE, SIZE, 3), alpha=0.25, include_top=False, weights=None)
    for layer in whole.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.9  # averages that a short training fills
    base = keras.Model(whole.input, whole.get_layer("conv_pw_5_relu").output, name="base")
    first = train(with_head(base, len(FIRST)), FIRST, count=1200, epochs=6, rate=4e-3, seed=1)
    print(f"the first task, {FIRST}: accuracy {first:.3f}")

    base.trainable = False
    before = [np.array(weight) for weight in base.weights]
    model = with_head(base, len(SECOND), training=False)
    second = train(model, SECOND, count=120, epochs=20, rate=0.02, seed=3)
    assert all(np.array_equal(a, b) for a, b in zip(before, base.weights, strict=True)), "a frozen weight moved"
    print(f"the second task from 120 pictures, only the head trained: {second:.3f}")

    base.trainable = True
    fine = train(model, SECOND, count=120, epochs=10, rate=2e-4, seed=3)
    print(f"after fine-tuning everything: {fine:.3f}")
    assert first > 0.85 and max(second, fine) > 0.7, (first, second, fine)


if __name__ == "__main__":
    main()
