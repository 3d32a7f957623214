"""Classify sequences with a transformer block written as a custom layer, save it, and load it again."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import minikeras as keras
from minikeras import layers, ops

TOKENS, LENGTH, WIDTH = 12, 16, 32


@keras.saving.register_keras_serializable(package="examples")
class TransformerBlock(layers.Layer):
    """Self-attention and a small network for each token, both with a residual and normalisation before them."""

    def __init__(self, width: int, heads: int, hidden: int, rate: float = 0.1, **kwargs: Any):
        super().__init__(**kwargs)
        self.width, self.heads, self.hidden, self.rate = width, heads, hidden, rate
        self.attention = layers.MultiHeadAttention(heads, width // heads, dropout=rate)
        self.network = keras.Sequential([layers.Dense(hidden, activation="gelu"), layers.Dense(width)])
        self.before_attention, self.before_network = layers.LayerNormalization(), layers.LayerNormalization()
        self.dropout = layers.Dropout(rate)

    def call(self, inputs: Any, training: bool = False) -> Any:
        normal = self.before_attention(inputs)
        x = inputs + self.attention(normal, normal, training=training)
        return x + self.dropout(self.network(self.before_network(x)), training=training)

    def get_config(self) -> dict[str, Any]:
        own = {"width": self.width, "heads": self.heads, "hidden": self.hidden, "rate": self.rate}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="examples")
class TokenAndPosition(layers.Layer):
    """Each token's vector and its place's, added."""

    def __init__(self, length: int, tokens: int, width: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.length, self.tokens, self.width = length, tokens, width
        self.token, self.position = layers.Embedding(tokens, width), layers.Embedding(length, width)

    def call(self, inputs: Any) -> Any:
        return self.token(inputs) + self.position(ops.arange(ops.shape(inputs)[-1]))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "length": self.length, "tokens": self.tokens, "width": self.width}


def sequences(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Does the token that stands first come again?  That takes attention between places."""
    draw = np.random.default_rng(seed)
    x = draw.integers(1, TOKENS, size=(count, LENGTH))
    x[:, 1:] = np.where(x[:, 1:] == x[:, :1], 0, x[:, 1:])
    again = draw.integers(2, size=count)
    places = draw.integers(1, LENGTH, size=(count, 3))
    for one in range(3):
        rows = np.flatnonzero(again)
        x[rows, places[rows, one]] = x[rows, 0]
    return x, again


def main() -> None:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((LENGTH,), dtype="int32")
    x = TokenAndPosition(LENGTH, TOKENS, WIDTH)(inputs)
    x = TransformerBlock(WIDTH, heads=4, hidden=64, rate=0.0)(x)
    x = TransformerBlock(WIDTH, heads=4, hidden=64, rate=0.0)(x)
    outputs = layers.Dense(1, activation="sigmoid")(layers.GlobalMaxPooling1D()(x))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.AdamW(3e-3), "binary_crossentropy", metrics=["accuracy"])
    model.fit(*sequences(6000, seed=1), epochs=4, batch_size=64, verbose=2)

    x, y = sequences(500, seed=2)
    _, accuracy = model.evaluate(x, y, verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "transformer.keras"
        model.save(path)
        again = keras.models.load_model(path)
    np.testing.assert_allclose(again.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-6)
    print(f"accuracy on new sequences {accuracy:.3f}; the saved model predicts the same")
    assert accuracy > 0.9, accuracy


if __name__ == "__main__":
    main()
