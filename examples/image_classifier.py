"""Classify pictures with random changes inside the model: they happen in training and not afterwards."""

from __future__ import annotations

import numpy as np
from shapes import NAMES, SIZE, shapes

import minikeras as keras
from minikeras import layers


def build() -> keras.Model:
    """Random flips, turns, zooms and contrasts, then a small network with residual separable convolutions."""
    inputs = keras.Input((SIZE, SIZE, 3))
    x = layers.RandomFlip("horizontal")(inputs)
    x = layers.RandomRotation(0.05)(x)
    x = layers.RandomZoom(0.1)(x)
    x = layers.RandomContrast(0.2, value_range=(0, 255))(x)
    x = layers.Rescaling(1 / 255)(x)
    x = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    for filters in (32, 48):
        block = layers.SeparableConv2D(filters, 3, padding="same", use_bias=False)(x)
        block = layers.MaxPooling2D(2)(layers.ReLU()(layers.BatchNormalization(momentum=0.9)(block)))
        x = layers.add([block, layers.Conv2D(filters, 1, strides=2)(x)])
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(len(NAMES), activation="softmax")(x))


def main() -> None:
    keras.utils.set_random_seed(1)
    model = build()
    model.compile(keras.optimizers.Adam(4e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*shapes(1500, NAMES, seed=1), epochs=6, batch_size=32, verbose=2)

    pictures, labels = shapes(300, NAMES, seed=2)
    _, accuracy = model.evaluate(pictures, labels, verbose=0)
    predicted = model.predict(pictures, verbose=0)
    np.testing.assert_array_equal(predicted, model.predict(pictures, verbose=0))  # nothing random after training
    print(f"the first picture shows a {NAMES[labels[0]]}; the network says {NAMES[predicted[0].argmax()]}")
    print(f"new pictures: accuracy {accuracy:.3f}")
    assert accuracy > 0.85, accuracy


if __name__ == "__main__":
    main()
