"""Forecast a time series with an LSTM on windows, and compare with the forecast "as yesterday"."""

from __future__ import annotations

import numpy as np

import minikeras as keras
from minikeras import layers

PAST, AHEAD = 48, 6  # hours looked at, hours looked ahead


def temperatures(hours: int = 4000) -> np.ndarray:
    """Hourly temperatures: the day, the season, slow weather, and noise."""
    draw = np.random.default_rng(1)
    t = np.arange(hours)
    weather = np.convolve(draw.normal(size=hours + 99), np.hanning(100) / 7, mode="valid")
    series = 10 + 8 * np.sin(t * 2 * np.pi / 8760) + 4 * np.sin(t * 2 * np.pi / 24) + 3 * weather
    return (series + draw.normal(scale=0.3, size=hours)).astype("float32")


def windows(series: np.ndarray, shuffle: bool) -> keras.data.Dataset:
    """Batches of (the past hours, the temperature some hours later)."""
    return keras.utils.timeseries_dataset_from_array(
        series[: -AHEAD - PAST + 1, None], series[PAST + AHEAD - 1 :], PAST, batch_size=64, shuffle=shuffle, seed=1
    )


def main() -> None:
    keras.utils.set_random_seed(1)
    series = temperatures()
    split = len(series) * 3 // 4
    mean, deviation = series[:split].mean(), series[:split].std()
    normal = (series - mean) / deviation
    train, test = windows(normal[:split], shuffle=True), windows(normal[split:], shuffle=False)

    model = keras.Sequential([keras.Input((PAST, 1)), layers.LSTM(24), layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
    slower = keras.callbacks.ReduceLROnPlateau(monitor="loss", factor=0.5, patience=1)
    model.fit(train, epochs=6, callbacks=[slower], verbose=2)

    ours = model.evaluate(test, verbose=0, return_dict=True)["mae"] * deviation
    later = normal[split + PAST + AHEAD - 1 :]
    yesterday = float(np.abs(later - normal[split + PAST + AHEAD - 25 : -24]).mean() * deviation)
    print(f'mean error {ours:.2f} degrees; of the forecast "as yesterday" {yesterday:.2f}')
    assert ours < 0.75 * yesterday, (ours, yesterday)


if __name__ == "__main__":
    main()
