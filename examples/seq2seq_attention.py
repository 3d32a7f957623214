"""Turn sequences round with an encoder, a decoder and attention, and decode without a teacher.

Encoder and decoder are LSTMs; the decoder looks back at the encoder's steps by dot-product attention (Luong et al.
2015).  In training it reads the right answer so far; afterwards its own.
"""

from __future__ import annotations

import numpy as np

import minikeras as keras
from minikeras import layers

SYMBOLS, LENGTH, UNITS = 12, 6, 64
START = SYMBOLS  # one more symbol, which begins every answer


def sequences(count: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Inputs of encoder and decoder, and the answers: the sequence from its end to its beginning."""
    given = np.random.default_rng(seed).integers(SYMBOLS, size=(count, LENGTH))
    answers = given[:, ::-1].copy()
    started = np.concatenate([np.full((count, 1), START), answers[:, :-1]], axis=1)
    return [given, started], answers


def build() -> keras.Model:
    """From a sequence and the answer so far to the probabilities of each next symbol."""
    given = keras.Input((LENGTH,), dtype="int32", name="given")
    started = keras.Input((None,), dtype="int32", name="started")
    steps, *state = layers.LSTM(UNITS, return_sequences=True, return_state=True)(layers.Embedding(SYMBOLS, 24)(given))
    decoded = layers.LSTM(UNITS, return_sequences=True)(layers.Embedding(SYMBOLS + 1, 24)(started), initial_state=state)
    context = layers.Attention()([decoded, steps])
    features = layers.Dense(UNITS, activation="tanh")(layers.concatenate([decoded, context]))
    return keras.Model([given, started], layers.Dense(SYMBOLS, activation="softmax")(features))


def answer(model: keras.Model, given: np.ndarray) -> np.ndarray:
    """Decode symbol by symbol, each time with what was decoded so far."""
    so_far = np.full((len(given), 1), START)
    for _ in range(LENGTH):
        probabilities = model.predict_on_batch([given, so_far])
        so_far = np.concatenate([so_far, probabilities[:, -1:].argmax(-1)], axis=1)
    return so_far[:, 1:]


def main() -> None:
    keras.utils.set_random_seed(1)
    model = build()
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*sequences(4000, seed=1), epochs=12, batch_size=64, verbose=2)

    (given, _), answers = sequences(200, seed=2)
    decoded = answer(model, given)
    print("given  ", given[0], "\ndecoded", decoded[0])
    right = (decoded == answers).all(axis=1).mean()
    print(f"{right:.1%} of new sequences are turned round without a fault")
    assert right > 0.9, right


if __name__ == "__main__":
    main()
