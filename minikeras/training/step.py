"""What a step takes and gives: a batch on the device, and logs that are only read when somebody looks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np

from minikeras import kernels as k
from minikeras import tree
from minikeras.autodiff.tensor import Tensor
from minikeras.training.data import pack_x_y_sample_weight
from minikeras.utils.checks import shown


def step_data(batch: tuple) -> Any:
    """A batch as the steps take it: on the active device, moved once, and without the parts that are absent."""
    for leaf in batch:
        if leaf is not None and not (type(leaf) is np.ndarray and leaf.flags.c_contiguous):
            batch = contiguous(batch)
            break
    if k.xp is not np:
        batch = tree.map_structure(lambda leaf: None if leaf is None else k.to_device(leaf), batch)
    x, y, sample_weight = batch
    return (x, y) if sample_weight is None and y is not None else pack_x_y_sample_weight(x, y, sample_weight)


def contiguous(batch: Any) -> Any:
    """A batch whose arrays have no gaps, as in a program: other kernels may round differently."""
    return tree.map_structure(_contiguous, batch)


def _contiguous(leaf: Any) -> Any:
    if not isinstance(leaf, (np.ndarray, k.xp.ndarray)) or leaf.flags.c_contiguous:
        return leaf
    return np.ascontiguousarray(leaf) if type(leaf) is np.ndarray else k.xp.ascontiguousarray(leaf)


class MetricLogs(MutableMapping):
    """The metrics' results as a dict that is only computed when somebody looks."""

    __slots__ = ("_model", "_values")

    def __init__(self, model: Any):
        self._model = model
        self._values: dict[str, Any] | None = None

    def _filled(self) -> dict[str, Any]:
        if self._values is None:
            self._values = self._model.get_metrics_result()
        return self._values

    def __getitem__(self, name: str) -> Any:
        return self._filled()[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._filled()[name] = value

    def __delitem__(self, name: str) -> None:
        del self._filled()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._filled())

    def __len__(self) -> int:
        return len(self._filled())

    def __repr__(self) -> str:
        return repr(self._filled())


def checked_logs(logs: Any, step: str) -> Any:
    """The logs that a step returned, as they are.

    Raises:
        ValueError: where these are no dict.
    """
    if not isinstance(logs, Mapping):
        raise ValueError(f"{step}() must return a dict of values by name, got {shown(logs)}; return {{'loss': loss}}.")
    return logs


def to_floats(logs: Any) -> dict[str, Any]:
    """Logs as a dict of Python floats, sorted by name; this reads values back from the device.

    The entries of a dict within, such as the result of all compiled metrics, take its place, as in Keras.
    """
    floats: dict[str, Any] = {}
    values = logs._filled() if type(logs) is MetricLogs else logs
    for name in sorted(values, key=str):
        value = values[name]
        if isinstance(value, Mapping):
            floats.update(to_floats(value))
        else:
            floats[name] = _to_float(value)
    return floats


def _to_float(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.numpy() if value.data.ndim or k.xp is not np else value.data
    if getattr(value, "ndim", 0) or isinstance(value, (str, bytes)):
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


class Later:
    """Logs that become a dict of floats when called."""

    __slots__ = ("_logs",)

    def __init__(self, logs: Any):
        self._logs = logs

    def __call__(self) -> dict[str, Any]:
        return to_floats(self._logs)
