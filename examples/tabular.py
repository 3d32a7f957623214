"""Structured data: numbers, categories and words become features inside the model, by preprocessing layers.

The layers learn their tables (`adapt`) before training, the model takes the columns as they are, and the saved file
holds it all: nothing has to be prepared where the model is used.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import minikeras as keras
from minikeras import layers

CITIES = np.array(["Aachen", "Bern", "Graz", "Oslo", "Turin"])


def customers(count: int, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Made-up customers, a column each, and whether they come back."""
    draw = np.random.default_rng(seed)
    age, visits = draw.integers(18, 90, size=count), draw.poisson(3, size=count)
    city, plan = draw.integers(len(CITIES), size=count), draw.choice([10, 20, 50], size=count)
    likes = np.array([0.5, -1.0, 1.0, -0.5, 0.0])[city] + (visits - 3) * 0.8
    likes += np.where((age > 30) & (age < 50), 1.5, -0.5) + np.where((plan == 50) & (city == 1), 3.0, 0.0)
    back = draw.random(count) < 1 / (1 + np.exp(-2 * likes))
    columns = {"age": age.astype("float32"), "visits": visits.astype("float32"), "city": CITIES[city], "plan": plan}
    return {name: column[:, None] for name, column in columns.items()}, back.astype("float32")[:, None]


def build(columns: dict[str, np.ndarray]) -> keras.Model:
    """A model of the raw columns."""
    types = {"age": "float32", "visits": "float32", "city": "string", "plan": "int32"}
    inputs = {name: keras.Input((1,), name=name, dtype=dtype) for name, dtype in types.items()}
    visits = layers.Normalization()
    visits.adapt(columns["visits"])
    age = layers.Discretization(num_bins=8, output_mode="one_hot")
    age.adapt(columns["age"])
    city = layers.StringLookup(output_mode="one_hot")
    city.adapt(columns["city"])
    plan = layers.IntegerLookup(vocabulary=[10, 20, 50], output_mode="one_hot")
    names = layers.StringLookup(vocabulary=city.get_vocabulary()[1:])
    crossed = layers.HashedCrossing(num_bins=64, output_mode="one_hot")
    features = layers.concatenate(
        [
            visits(inputs["visits"]),
            age(inputs["age"]),
            city(inputs["city"]),
            plan(inputs["plan"]),
            crossed([names(inputs["city"]), inputs["plan"]]),
        ]
    )
    x = layers.Dense(32, activation="relu")(features)
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))


def main() -> None:
    keras.utils.set_random_seed(1)
    columns, back = customers(4000, seed=1)
    model = build(columns)
    model.compile(
        keras.optimizers.Adam(0.01), "binary_crossentropy", metrics=["accuracy", keras.metrics.AUC(name="auc")]
    )
    model.fit(columns, back, epochs=6, batch_size=64, verbose=2)

    columns, back = customers(1000, seed=2)
    results = model.evaluate(columns, back, verbose=0, return_dict=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "customers.keras"
        model.save(path)
        again = keras.models.load_model(path)
    np.testing.assert_allclose(again.predict(columns, verbose=0), model.predict(columns, verbose=0), rtol=1e-6)
    one = {"age": 41.0, "visits": 6.0, "city": "Graz", "plan": 20}
    chance = again.predict({name: np.array([[value]]) for name, value in one.items()}, verbose=0)
    print(f"{one}: comes back with probability {chance.item():.2f}")
    print(f"new customers: accuracy {results['accuracy']:.3f}, AUC {results['auc']:.3f}")
    assert results["auc"] > 0.9, results


if __name__ == "__main__":
    main()
