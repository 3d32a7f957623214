"""Route support tickets: two texts and some tags in, a priority and a department out.

A functional model with three inputs and two outputs, as a program meets them: dictionaries of arrays by name.
"""

from __future__ import annotations

import numpy as np

import minikeras as keras
from minikeras import layers

WORDS, TAGS, DEPARTMENTS = 200, 6, 4


def tickets(count: int, seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Made-up tickets: the department shows in the words of the body, the urgency in the title and in a tag."""
    draw = np.random.default_rng(seed)
    department = draw.integers(DEPARTMENTS, size=count)
    urgent = draw.integers(2, size=count)
    title = draw.integers(20, WORDS, size=(count, 8))
    title[urgent == 1, 0] = draw.integers(1, 5, size=int(urgent.sum()))  # words 1 to 4: "down", "now", ...
    body = draw.integers(20, WORDS, size=(count, 30))
    body[:, ::6] = 5 + department[:, None] * 3 + draw.integers(3, size=(count, 5))
    tags = draw.integers(2, size=(count, TAGS)).astype("float32")
    tags[:, 0] = np.where(draw.random(count) < 0.9, urgent, 1 - urgent)
    return {"title": title, "body": body, "tags": tags}, {
        "priority": urgent.astype("float32")[:, None],
        "department": keras.utils.to_categorical(department, DEPARTMENTS),
    }


def build() -> keras.Model:
    """Both texts share their embedding; what they say is put together with the tags."""
    title = keras.Input((None,), name="title", dtype="int32")
    body = keras.Input((None,), name="body", dtype="int32")
    tags = keras.Input((TAGS,), name="tags")
    embedding = layers.Embedding(WORDS, 16)
    features = layers.concatenate(
        [
            layers.GlobalMaxPooling1D()(embedding(title)),
            layers.GRU(24)(embedding(body)),
            tags,
        ]
    )
    priority = layers.Dense(1, activation="sigmoid", name="priority")(features)
    department = layers.Dense(DEPARTMENTS, activation="softmax", name="department")(features)
    return keras.Model([title, body, tags], {"priority": priority, "department": department}, name="tickets")


def main() -> None:
    keras.utils.set_random_seed(1)
    model = build()
    model.summary()
    model.compile(
        optimizer=keras.optimizers.Adam(0.01),
        loss={"priority": "binary_crossentropy", "department": "categorical_crossentropy"},
        loss_weights={"priority": 1.0, "department": 0.5},
        metrics={"priority": ["accuracy"], "department": ["accuracy"]},
    )
    inputs, targets = tickets(2000, seed=1)
    model.fit(inputs, targets, epochs=5, batch_size=64, validation_split=0.1, verbose=2)

    inputs, targets = tickets(500, seed=2)
    results = model.evaluate(inputs, targets, verbose=0, return_dict=True)
    print({name: round(value, 3) for name, value in results.items()})
    assert results["priority_accuracy"] > 0.9, results
    assert results["department_accuracy"] > 0.95, results


if __name__ == "__main__":
    main()
