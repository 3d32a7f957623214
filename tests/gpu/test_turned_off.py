"""What a check finds wrong on a GPU is left out there, also by processes to come; limits of its memory."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu import host, recorder, spoilt

from minikeras import config
from minikeras import kernels as k
from minikeras.kernels import table
from minikeras.kernels.cuda import turned_off

DEVICE = "Stand-in, driver 12.8, minikeras "
xp = recorder._module


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose GPU nobody has used."""
    monkeypatch.setattr(turned_off, "path", lambda: tmp_path / "cache" / "gpu.json")
    monkeypatch.setattr(turned_off, "_begun", set())
    monkeypatch.setattr(turned_off, "_off", {})
    yield
    for name in table.names():
        table.turn_off(name, "gpu", None)


def another_process() -> None:
    for name in turned_off.all_off():
        table.turn_off(name, "gpu", None)
    turned_off._off.clear()
    turned_off._begun.clear()


def kept() -> dict[str, Any]:
    return json.loads(turned_off.path().read_text())


def launches(name: str, *arguments: Any) -> int:
    """How many programs of the device a kernel runs."""
    host.launched.clear()
    getattr(table.Kernels(xp, "gpu"), name)(*arguments)
    return sum(host.launched.values())


def x() -> Any:
    return xp.asarray(np.linspace(-2, 2, 12, dtype="float32"))


def test_what_passes_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        turned_off.begin_on(xp)
    assert list(kept().values()) == [{}]
    assert next(iter(kept())).startswith(DEVICE)
    monkeypatch.setattr(turned_off, "quick_check", lambda xp: pytest.fail("checked again"))
    turned_off.begin_on(xp)
    another_process()
    turned_off.begin_on(xp)
    assert launches("activate", x(), "tanh") == 1


def test_wrong_numbers_turn_a_kernel_off_with_one_warning() -> None:
    with spoilt.activate(spoilt.wrong_numbers):
        with pytest.warns(UserWarning) as told:
            turned_off.begin_on(xp)
        (message,) = [str(one.message) for one in told]
        assert message.startswith(f"On {DEVICE}") and "'activate' differs by" in message and "doctor" in message
        assert message.count(". ") == 0
        assert launches("activate", x(), "tanh") == 0 and launches("activate_grad", x(), x(), "tanh") == 1
        np.testing.assert_allclose(table.Kernels(xp, "gpu").activate(x(), "tanh").get(), np.tanh(x().get()), rtol=1e-6)
        another_process()
        assert launches("activate", x(), "tanh") == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            turned_off.begin_on(xp)
        assert launches("activate", x(), "tanh") == 0
        assert "differs by" in str(turned_off.reason("activate")) and turned_off.reason("softmax") is None


def test_what_raises_is_turned_off() -> None:
    with spoilt.activate(spoilt.refused):
        with pytest.warns(UserWarning, match="'activate' RuntimeError: the driver has no such instruction"):
            turned_off.begin_on(xp)
        assert set(turned_off.all_off()) == {"activate"}
        assert launches("activate", x(), "tanh") == 0


def test_a_kernel_that_stops_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: Any) -> Any:
        monkeypatch.setattr(recorder.DeviceArray, "get", lambda self: 1 / 0, raising=False)
        raise RuntimeError("an illegal memory access was encountered")

    with spoilt.activate(stop), pytest.warns(UserWarning, match="illegal memory access"):
        turned_off.begin_on(xp)
    assert set(turned_off.all_off()) == {"activate"}


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"Stand-in": 3}', b"\xff\xfe"])
def test_a_damaged_file_is_none(content: str | bytes) -> None:
    turned_off.path().parent.mkdir()
    turned_off.path().write_bytes(content if isinstance(content, bytes) else content.encode())
    turned_off.begin_on(xp)
    assert list(kept().values()) == [{}]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in the place of the folder")
    with spoilt.activate(spoilt.wrong_numbers):
        for _ in range(2):  # each process finds out for itself
            with pytest.warns(UserWarning):
                turned_off.begin_on(xp)
            assert launches("activate", x(), "tanh") == 0
            another_process()


def test_another_driver_another_check(monkeypatch: pytest.MonkeyPatch) -> None:
    turned_off.begin_on(xp)
    turned_off.turn_off(xp, "graphs", "were wrong")
    monkeypatch.setattr(xp.cuda.runtime, "driverGetVersion", lambda: 13010)
    another_process()
    turned_off.begin_on(xp)
    assert turned_off.reason("graphs") is None
    assert sorted(kept().values(), key=len) == [{}, {"graphs": "were wrong"}]


def test_reset() -> None:
    turned_off.begin_on(xp)
    turned_off.turn_off(xp, "activate", "was wrong")
    assert launches("activate", x(), "tanh") == 0
    turned_off.reset(xp)
    assert launches("activate", x(), "tanh") == 1
    assert kept() == {} and turned_off.all_off() == {}


def test_a_users_override_stays() -> None:
    calls = []

    @k.override("activate", "gpu", when=lambda activation: activation == "tanh")
    def activate(k: Any, x: Any, activation: Any, out: Any = None) -> Any:
        calls.append(activation)
        return x

    try:
        kernels = table.Kernels(xp, "gpu")
        kernels.activate(x(), "relu")
        turned_off.turn_off(xp, "activate", "was wrong")
        host.launched.clear()
        kernels.activate(x(), "tanh")
        kernels.activate(x(), "relu")
        assert calls == ["tanh"] and not host.launched
        turned_off.reset(xp)
        kernels.activate(x(), "tanh")
        kernels.activate(x(), "relu")
        assert calls == ["tanh", "tanh"] and sum(host.launched.values()) == 1
    finally:
        k.withdraw("activate", "gpu")
    assert launches("activate", x(), "tanh") == 1


def test_without_graphs_steps_stay_eager_and_without_the_binding_products_are_cupys() -> None:
    from minikeras import Sequential, layers
    from minikeras.kernels.cuda import cublas
    from minikeras.training import repeatable
    from minikeras.training.trainer import Trainer

    with recorder.recording_device():
        model = Sequential([layers.Input((3,)), layers.Dense(2)])
        model.compile("sgd", "mse")
        assert repeatable.obstacle(model, "train", Trainer) is None
        turned_off.turn_off(xp, "graphs", "was wrong")
        turned_off.turn_off(xp, "cublaslt", "was wrong")
        why = repeatable.obstacle(model, "train", Trainer)
        assert why == "graphs are turned off on this GPU, because it was wrong"
        assert cublas.binding(xp) is None
    if k.active_device() == "cpu":
        assert k.turned_off("graphs") is None


def test_the_stand_in_is_not_checked_by_itself() -> None:
    with recorder.recording_device():
        assert not turned_off._begun and not turned_off.path().exists()


# ---- memory ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    yield lambda: recorder.pool.limit
    config.set_gpu_memory_limit(None)
    with recorder.recording_device():
        pass
    recorder.pool.limit = 0


def test_a_limit_of_memory_before_and_after_first_use(limit: Any) -> None:
    config.set_gpu_memory_limit("25%")
    assert limit() == (250_000 if k.active_device() == "gpu" else 0)
    with recorder.recording_device():
        assert limit() == 250_000
        config.set_gpu_memory_limit(3000)
        assert limit() == 3000 == config.gpu_memory_limit()
        config.set_gpu_memory_limit(None)
        assert limit() == 0


def test_without_a_limit_that_of_cupy_stays(limit: Any) -> None:
    recorder.pool.limit = 77  # as CUPY_GPU_MEMORY_LIMIT sets it
    with recorder.recording_device():
        assert limit() == 77
        config.set_gpu_memory_limit(None)
        assert limit() == 77


def test_too_little_memory_is_one_sentence() -> None:
    from cupy.cuda.memory import OutOfMemoryError

    from minikeras.tracebacks import _explain_memory

    error = OutOfMemoryError(4000, 9000, 10_000)
    _explain_memory(error)
    assert str(error) == (
        "The GPU has no memory for 4,000 more bytes, this process uses 9,000 of the 10,000 that it may use at most; "
        "use a smaller batch_size or a higher limit (config.set_gpu_memory_limit)."
    )
    error = OutOfMemoryError(4000, 9000)
    _explain_memory(error)
    assert str(error) == (
        "The GPU has no memory for 4,000 more bytes, this process uses 9,000 already; use a smaller batch_size, or end "
        "other processes that use the GPU."
    )
