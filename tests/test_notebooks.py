"""What a notebook shows of a model and of a history."""

from __future__ import annotations

import numpy as np

from minikeras import Input, Sequential, layers


def test_a_model_shows_its_summary_and_a_history_its_table() -> None:
    model = Sequential([Input((3,)), layers.Dense(2, name="a<b")])
    shown = model._repr_html_()
    assert shown.startswith("<pre>") and "a&lt;b (Dense)" in shown and "Total params: 8" in shown
    model.compile("sgd", "mse", metrics=["mae"])
    history = model.fit(np.ones((4, 3)), np.ones((4, 2)), epochs=2, verbose=0)
    shown = history._repr_html_()
    assert shown.startswith("<pre>") and "loss" in shown and "mae" in shown


def test_a_model_that_is_not_built_is_shown_too() -> None:
    assert "(unbuilt)" in Sequential([layers.Dense(2)])._repr_html_()
