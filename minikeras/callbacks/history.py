"""History: the values of each epoch; `fit` returns one."""

from __future__ import annotations

from typing import Any

from minikeras.callbacks.base import Callback


class History(Callback):
    """Records each epoch's losses and metrics.

    Attributes:
        epoch: the numbers of the epochs of the last training, from 0.
        history: `{"loss": [...], "val_loss": [...], ...}`, one value per epoch.
        params: `{"verbose": ..., "epochs": ..., "steps": ...}`.
        model: the trained model.
    """

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[Any]] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)
