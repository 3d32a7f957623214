"""A training that is killed, broken off or out of disk goes on bit for bit, or says why it cannot."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from minikeras.callbacks import BackupAndRestore, Callback
from tests.resume_cases import CASES, begun, ended


class Stopped(Exception):
    """What breaks a training off."""


class Break(Callback):
    """Breaks a training off after so many batches; counts them."""

    def __init__(self, batches: int = -1):
        self.at, self.batches = batches, 0

    def get_state(self) -> dict[str, Any]:
        return {}

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.batches += 1
        if self.batches == self.at:
            raise Stopped


def fit(case: str, *extra: Callback, **more: Any) -> dict[str, str]:
    model, options = begun(case)
    options["callbacks"] = [*options.get("callbacks", ()), *extra]
    return ended(model, model.fit(**{**options, **more}))


@functools.cache
def undisturbed(case: str) -> tuple[dict[str, str], int]:
    """What it ends with, and how many batches it makes."""
    count = Break()
    return fit(case, count), count.batches


@pytest.fixture
def at_every_step(monkeypatch):
    """A training without `save_freq` is saved after every step."""
    for name in ("FIRST", "EVERY", "SHARE"):
        monkeypatch.setattr(f"minikeras.training.resuming.{name}", 0)


@pytest.mark.parametrize("case", sorted(CASES.keys() - {"cnn_processes"}))
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_broken_off_at_every_step(tmp_path, case, at_every_step):
    expected, total = undisturbed(case)
    for batches in range(1, total + 1):
        folder = tmp_path / str(batches)
        with pytest.raises(Stopped):
            if batches % 2 or case.startswith("own"):
                fit(case, Break(batches), resume=folder)
            else:
                fit(case, Break(batches), BackupAndRestore(folder, save_freq=1))
        rest = Break()
        assert fit(case, rest, resume=folder) == expected, (case, batches)
        assert rest.batches == total - (batches - 1)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_broken_off_in_processes(tmp_path):
    expected, total = undisturbed("cnn_processes")
    with pytest.raises(Stopped):
        fit("cnn_processes", Break(total - 1), BackupAndRestore(tmp_path, save_freq=2))
    rest = Break()
    assert fit("cnn_processes", rest, BackupAndRestore(tmp_path, save_freq=2)) == expected
    assert rest.batches == total - (total - 2) // 2 * 2
