"""What `compile` was told about losses and metrics, matched to a model's outputs when the first batch shows them."""

from __future__ import annotations

import copy
import math
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

from minikeras import losses as losses_room
from minikeras import metrics as metrics_room
from minikeras import tree
from minikeras.autodiff.tensor import Tensor
from minikeras.losses import Loss, LossFunctionWrapper
from minikeras.metrics import Mean, MeanMetricWrapper, Metric, resolve_accuracy
from minikeras.ops.nn import check_labels
from minikeras.registry import is_builtin


def per_output(structure: Any, names: list[str], role: str) -> list[Any]:
    """One entry per output from a single value, a list or a dict by output name.

    Raises:
        ValueError: where a list has another length or a dict names an output that does not exist.
    """
    if isinstance(structure, Mapping):
        unknown = sorted(set(structure) - set(names))
        if unknown:
            raise ValueError(
                f"{role} names the outputs {unknown}, which the model does not have; its outputs are {names}."
            )
        return [structure.get(name) for name in names]
    if isinstance(structure, (list, tuple)):
        if len(structure) != len(names):
            raise ValueError(
                f"{role} has {len(structure)} entries for the {len(names)} outputs {names}; give one for each."
            )
        return list(structure)
    return [structure] * len(names)


def _only_loss(part: Any) -> Any:
    """The loss of one output, which may be given alone in a list."""
    while isinstance(part, (list, tuple)):
        if len(part) != 1:
            raise ValueError(f"An output has one loss, got {part!r}; combine them in a function.")
        (part,) = part
    return part


def outputs_list(structure: Any, names: list[str], role: str) -> list[Any]:
    """Targets, predictions or weights as a list in the outputs' order."""
    if isinstance(structure, Mapping):
        return per_output(structure, names, role)
    if isinstance(structure, (list, tuple)):
        flat = tree.flatten(structure)
        if len(flat) != len(names):
            raise ValueError(f"{role} has {len(flat)} parts for the {len(names)} outputs {names}; give one for each.")
        return flat
    if len(names) > 1 and structure is not None and role == "y":
        raise ValueError(f"y has 1 part for the {len(names)} outputs {names}; give one for each.")
    return [structure] * len(names)


def name_outputs(y_pred: Any, names: list[str] | None) -> list[str]:
    """The names of the outputs: the model's own, a dict's keys, or `output_1`, ..."""
    count = len(tree.flatten(y_pred))
    if names is not None and len(names) == count:
        return names
    if isinstance(y_pred, Mapping):
        return list(y_pred)
    return ["output"] if count == 1 else [f"output_{i}" for i in range(count)]


def _loss_object(spec: Any, y: Any, y_pred: Any) -> Loss | None:
    if spec is None or isinstance(spec, Loss):
        return spec
    if spec in ("crossentropy", "ce"):
        spec = resolve_accuracy(tuple(y.shape), tuple(y_pred.shape), kind="crossentropy")
    found = losses_room.get(spec)
    if isinstance(found, Loss):
        return found
    return LossFunctionWrapper(found, name=getattr(found, "__name__", "loss"))


def _takes_classes(spec: Any) -> bool:
    """Whether the targets of a loss are, or may be, the numbers of classes."""
    if isinstance(spec, str) and spec in ("crossentropy", "ce"):
        return True
    loss = losses_room.get(spec)
    return getattr(loss, "fn", loss) is losses_room.sparse_categorical_crossentropy


def _check_labels_of(spec: Any, target: Any, output: Any) -> None:
    """Refuse what are no labels for a loss of class numbers; `output` may be None."""
    if spec is None or not isinstance(target, np.ndarray) or target.dtype.kind not in "iuf":
        return
    if output is None and spec in ("crossentropy", "ce"):
        return
    loss = _loss_object(spec, target, output)
    if isinstance(loss, LossFunctionWrapper) and loss.fn is losses_room.sparse_categorical_crossentropy:
        ignored = loss._fn_kwargs.get("ignore_class")
        classes = None if output is None else output.shape[loss._fn_kwargs.get("axis", -1)]
        check_labels(target if ignored is None else target[target != ignored], classes)


class CompiledLoss:
    """The total loss of a model's outputs; one tracker per output where there are several.

    Args:
        loss, loss_weights: as given to `compile`.
        names: of the model's outputs, None where only a call shows them.
        metrics: what is to see the first batch too, before anything is trained on it.

    Raises:
        ValueError: for an unknown loss, a factor that is no finite number, and what does not fit the outputs' names.
    """

    def __init__(self, loss: Any, loss_weights: Any, names: list[str] | None, metrics: CompiledMetrics | None = None):
        if isinstance(loss_weights, np.ndarray):
            loss_weights = loss_weights.tolist()
        self._loss, self._weights, self._given_names, self._metrics = loss, loss_weights, names, metrics
        for weight in tree.flatten(loss_weights):
            if weight is not None and not (isinstance(weight, numbers.Real) and math.isfinite(weight)):
                raise ValueError(
                    f"loss_weights must be finite numbers, got {weight!r}; leave out what should not count."
                )
        self.is_given = any(spec is not None for spec in tree.flatten(loss))
        self.takes_classes = any(_takes_classes(spec) for spec in tree.flatten(loss))
        for spec in tree.flatten(loss):
            if spec not in (None, "crossentropy", "ce"):
                losses_room.get(spec)  # a misspelt name is refused by compile, not by the first batch
        self._parts: list[tuple[Loss, float | None, int]] | None = None
        self.names: list[str] = []
        self.trackers: list[Metric] = []
        if names is not None:
            self._specs(names)
            per_output(loss_weights, names, "loss_weights")

    def resolve(self, y: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Match losses and weights to the outputs."""
        names = name_outputs(y_pred, self._given_names)
        predictions = outputs_list(y_pred, names, "the model")
        targets = outputs_list(y, names, "y")
        specs = self._specs(names)
        weights = per_output(self._weights, names, "loss_weights")
        parts = []
        trackers: list[Metric] = []
        for i, (spec, weight, target, prediction) in enumerate(zip(specs, weights, targets, predictions, strict=True)):
            if spec is None or target is None:
                continue
            loss = _loss_object(spec, target, prediction)
            assert loss is not None
            parts.append((loss, None if weight is None else float(weight), i))
            if len(names) > 1:
                trackers.append(Mean(name=f"{names[i]}_loss"))
        if self._metrics is not None:
            self._metrics.try_out(y, y_pred, sample_weight)
        self.names, self._parts, self.trackers = names, parts, trackers

    def _specs(self, names: list[str]) -> list[Any]:
        """What `compile` was given as the loss of each output."""
        return [_only_loss(spec) for spec in per_output(self._loss, names, "loss")]

    def check_labels(self, y: Any, outputs: Any) -> None:
        """Refuse labels on the host that name no class of the outputs, tensors or symbolic ones.

        Where there are no outputs yet, what could not be a label of any is refused.

        Raises:
            ValueError: a label is out of range or has a fraction.
        """
        if not self.takes_classes:
            return
        if outputs is None:
            specs = [_only_loss(spec) for spec in tree.flatten(self._loss)]
            if len(specs) == 1 and len(tree.flatten(y)) == 1:
                _check_labels_of(specs[0], tree.flatten(y)[0], None)
            return
        if self._parts and len(self.names) == 1:
            _check_labels_of(self._parts[0][0], *_only_parts(self.names, y, outputs))
            return
        names = name_outputs(outputs, self._given_names)
        for spec, target, output in zip(
            self._specs(names), outputs_list(y, names, "y"), tree.flatten(outputs), strict=True
        ):
            _check_labels_of(spec, target, output)

    def __call__(self, y: Any, y_pred: Any, sample_weight: Any = None) -> Tensor | None:
        """The weighted sum of the outputs' losses, or None where there is none."""
        if self._parts is None:
            self.resolve(y, y_pred, sample_weight)
        assert self._parts is not None
        if len(self.names) == 1:
            if not self._parts:
                return None
            loss, weight, _ = self._parts[0]
            value = loss(*_only_parts(self.names, y, y_pred, sample_weight))
            return value if weight is None else value * weight
        predictions = outputs_list(y_pred, self.names, "the model")
        targets = outputs_list(y, self.names, "y")
        weights = outputs_list(sample_weight, self.names, "sample_weight")
        total = None
        for number, (loss, weight, i) in enumerate(self._parts):
            value = loss(targets[i], predictions[i], weights[i])
            self.trackers[number].update_state(value, sample_weight=float(predictions[i].shape[0]))
            if weight is not None:
                value = value * weight
            total = value if total is None else total + value
        return total


def _only_parts(names: list[str], *parts: Any) -> Any:
    """What stands for the only output among targets, predictions and weights."""
    if _SINGLE.issuperset(map(type, parts)):
        return parts
    roles = ("y", "the model", "sample_weight")
    return [
        outputs_list(part, names, role)[0] if isinstance(part, (list, tuple, dict)) else part
        for part, role in zip(parts, roles, strict=False)
    ]


_SINGLE = frozenset({Tensor, np.ndarray, type(None)})


class CompiledMetrics:
    """The metrics given to `compile`, as one metric whose result is a dict."""

    name = "compile_metrics"

    def __init__(self, metrics: Any, weighted_metrics: Any, names: list[str] | None, run_eagerly: bool = False):
        self._metrics, self._weighted, self._given_names = metrics, weighted_metrics, names
        self._run_eagerly = run_eagerly
        for spec in tree.flatten([metrics, weighted_metrics]):
            known = spec in _BY_SHAPE if isinstance(spec, str) else callable(spec) or isinstance(spec, Metric)
            if not known:
                metrics_room.get(spec)
        _check_distinct(self._objects())
        if names is not None:
            groups = _metric_groups(metrics, names) + _metric_groups(weighted_metrics, names)
            _check_distinct([spec for group in groups for spec in group if isinstance(spec, Metric)])
        self.names: list[str] | None = None
        self._parts: list[tuple[int, Metric, bool, str]] = []

    def _objects(self) -> list[Metric]:
        """The metrics that were given as objects, which may have been used before."""
        return [spec for spec in tree.flatten([self._metrics, self._weighted]) if isinstance(spec, Metric)]

    @property
    def metrics(self) -> list[Metric]:
        return [metric for _, metric, _, _ in self._parts]

    @property
    def variables(self) -> list[Any]:
        return [variable for metric in self.metrics for variable in metric.variables]

    def resolve(self, y: Any, y_pred: Any) -> None:
        """Match the metrics to the outputs."""
        names = name_outputs(y_pred, self._given_names)
        predictions = outputs_list(y_pred, names, "the model")
        targets = outputs_list(y, names, "y")
        parts: list[tuple[int, Metric, bool, str]] = []
        taken: set[str] = set()
        for specs, weighted in ((self._metrics, False), (self._weighted, True)):
            for i, group in enumerate(_metric_groups(specs, names)):
                for spec in group:
                    if spec is None or targets[i] is None:
                        continue
                    metric = _metric_object(spec, targets[i], predictions[i], self._run_eagerly)
                    prefix = "" if len(names) == 1 else f"{names[i]}_"
                    label = base = prefix + metric.name
                    if weighted and label in taken:
                        label = base = f"{prefix}weighted_{metric.name}"
                    count = 1
                    while label in taken:
                        label, count = f"{base}_{count}", count + 1
                    taken.add(label)
                    parts.append((i, metric, weighted, label))
        _check_distinct([metric for _, metric, _, _ in parts])
        self._parts, self.names = parts, names

    def try_out(self, y: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Show a batch to functions, and to copies of built-in metrics, so that what is wrong with them shows."""
        if self.names is None:
            self.resolve(y, y_pred)
        kept = self._parts
        self._parts = [
            (i, copy.deepcopy(metric), weighted, label)
            for i, metric, weighted, label in kept
            if is_builtin(type(metric))
        ]
        try:
            self.update_state(y, y_pred, sample_weight)
        finally:
            self._parts = kept

    def update_state(self, y: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take a batch into account."""
        if self.names is None:
            self.resolve(y, y_pred)
        if not self._parts:
            return
        assert self.names is not None
        if len(self.names) == 1:
            y, y_pred, sample_weight = _only_parts(self.names, y, y_pred, sample_weight)
            targets, predictions, weights = [y], [y_pred], [sample_weight]
        else:
            predictions = outputs_list(y_pred, self.names, "the model")
            targets = outputs_list(y, self.names, "y")
            weights = outputs_list(sample_weight, self.names, "sample_weight")
        for i, metric, weighted, _ in self._parts:
            metric.update_state(targets[i], predictions[i], sample_weight=weights[i] if weighted else None)

    def result(self) -> dict[str, Any]:
        results: dict[str, Any] = {}
        for _, metric, _, label in self._parts:
            value = metric.result()
            if isinstance(value, dict):
                results.update(value)
            else:
                results[label] = value
        return results

    def reset_state(self) -> None:
        for metric in self.metrics if self.names is not None else self._objects():
            metric.reset_state()


def _check_distinct(metrics: list[Metric]) -> None:
    """Refuse a metric that stands in two places, whose state would mix what both of them add.

    Raises:
        ValueError: for an object that occurs twice.
    """
    seen: set[int] = set()
    for metric in metrics:
        if id(metric) in seen:
            raise ValueError(
                f"Each place needs a metric of its own, got the object {metric.name!r} twice; make another "
                f"{type(metric).__name__} with a name of its own."
            )
        seen.add(id(metric))


_BY_SHAPE = {"accuracy": "accuracy", "acc": "accuracy", "crossentropy": "crossentropy", "ce": "crossentropy"}


def _metric_groups(specs: Any, names: list[str]) -> list[list[Any]]:
    if specs is None:
        return [[] for _ in names]
    if isinstance(specs, Mapping):
        specs = per_output(specs, names, "metrics")
    elif len(names) == 1:
        specs = (
            [specs]
            if not (isinstance(specs, (list, tuple)) and any(isinstance(s, (list, tuple)) for s in specs))
            else specs
        )
    elif not isinstance(specs, (list, tuple)):
        specs = [specs] * len(names)
    specs = per_output(list(specs), names, "metrics")
    return [list(group) if isinstance(group, (list, tuple)) else [group] for group in specs]


def _metric_object(spec: Any, y: Any, y_pred: Any, run_eagerly: bool) -> Metric:
    if isinstance(spec, Metric):
        return spec
    name = None
    if isinstance(spec, str):
        name = spec
        if spec in _BY_SHAPE:
            spec = resolve_accuracy(tuple(y.shape), tuple(y_pred.shape), kind=_BY_SHAPE[spec])
    found = metrics_room.get(spec)
    if not isinstance(found, Metric):
        found = MeanMetricWrapper(found, name=name or getattr(found, "__name__", "metric"))
        found._takes_arrays = bool(run_eagerly)
    if name is not None:
        found.name = name
    return found
