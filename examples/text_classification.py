"""Classify raw texts: TextVectorization in front, a small convolution behind, strings into the finished model."""

from __future__ import annotations

import numpy as np

import minikeras as keras
from minikeras import layers

GOOD = ["wonderful", "delightful", "moving", "brilliant", "warm", "witty", "superb"]
BAD = ["dull", "tedious", "clumsy", "shallow", "loud", "lifeless", "awful"]
THINGS = ["film", "story", "cast", "music", "ending", "scene", "book", "plot", "dialogue", "camera"]
FILLERS = ["the", "a", "this", "that", "was", "is", "with", "very", "quite", "really", "rather", "its"]


def reviews(count: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Made-up reviews; "not" turns the next judgement round."""
    draw = np.random.default_rng(seed)
    texts, labels = [], draw.integers(2, size=count)
    for label in labels:
        words = []
        for _ in range(draw.integers(2, 5)):
            words += [draw.choice(FILLERS), draw.choice(THINGS), draw.choice(FILLERS)]
            turned = draw.random() < 0.25
            words += ["not"] * turned + [draw.choice(GOOD if label != turned else BAD)]
        texts.append(" ".join(words).capitalize() + draw.choice([".", "!", "!!"]))
    return texts, labels.astype("float32")[:, None]


def main() -> None:
    keras.utils.set_random_seed(1)
    texts, labels = reviews(3000, seed=1)
    vectorize = layers.TextVectorization(max_tokens=500, output_sequence_length=24)
    vectorize.adapt(texts)
    print(f"{vectorize.vocabulary_size()} words, the most frequent: {vectorize.get_vocabulary()[2:8]}")

    model = keras.Sequential(
        [
            layers.Embedding(vectorize.vocabulary_size(), 16),
            layers.Conv1D(32, 3, activation="relu"),
            layers.GlobalAveragePooling1D(),
            layers.Dropout(0.2),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    data = keras.data.Dataset.from_tensor_slices((np.array(texts), labels)).shuffle(3000, seed=1).batch(32)
    model.fit(data.map(lambda texts, labels: (vectorize(texts), labels)), epochs=8, verbose=2)

    finished = keras.Sequential([keras.Input((1,), dtype="string"), vectorize, model])  # takes strings
    finished.compile(loss="binary_crossentropy", metrics=["accuracy"])
    texts, labels = reviews(500, seed=2)
    _, accuracy = finished.evaluate(np.array(texts)[:, None], labels, verbose=0)
    for text in ("The film was not dull!", "A clumsy story, and not witty."):
        print(f"{text:32} {finished.predict(np.array([[text]]), verbose=0).item():.2f}")
    print(f"new reviews: accuracy {accuracy:.3f}")
    assert accuracy > 0.9, accuracy


if __name__ == "__main__":
    main()
