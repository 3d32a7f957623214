"""What `compile` was told about losses and metrics, matched to a model's outputs when the first batch shows them."""

from __future__ import annotations

import copy
import itertools
import math
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

from minikeras import losses as losses_room
from minikeras import metrics as metrics_room
from minikeras import ops, tree
from minikeras.autodiff.tensor import Tensor
from minikeras.kernels.arena import current
from minikeras.losses import Loss, LossFunctionWrapper
from minikeras.metrics import Mean, MeanMetricWrapper, Metric, resolve_accuracy
from minikeras.ops.nn import check_labels
from minikeras.registry import is_builtin
from minikeras.training.outputs import Outputs


def _only_loss(part: Any) -> Any:
    """The loss of one output, which may be given alone in a list."""
    while isinstance(part, (list, tuple)):
        if len(part) != 1:
            raise ValueError(f"An output has one loss, got {part!r}; combine them in a function.")
        (part,) = part
    return part


def known_outputs(y_pred: Any, known: Outputs | None) -> Outputs:
    """The outputs of a model: as they are known, or as these predictions show them."""
    return known if known is not None and known.count == len(tree.flatten(y_pred)) else Outputs(y_pred)


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
    """The total loss of a model's outputs; one tracker for each where there are several.

    Args:
        loss, loss_weights: as given to `compile`.
        outputs: the model's, None where only a call shows them.
        metrics: what is to see the first batch too, before anything is trained on it.

    Raises:
        ValueError: for an unknown loss, a factor that is no finite number, and what does not fit the outputs.
    """

    def __init__(self, loss: Any, loss_weights: Any, outputs: Outputs | None, metrics: CompiledMetrics | None = None):
        if isinstance(loss_weights, np.ndarray):
            loss_weights = loss_weights.tolist()
        self._loss, self._weights, self._known_outputs, self._metrics = loss, loss_weights, outputs, metrics
        for weight in tree.flatten(loss_weights):
            if weight is not None and not (isinstance(weight, numbers.Real) and math.isfinite(weight)):
                raise ValueError(f"loss_weights must be finite numbers, got {weight!r}; leave out what is none.")
        self.is_given = any(spec is not None for spec in tree.flatten(loss))
        self.takes_classes = any(_takes_classes(spec) for spec in tree.flatten(loss))
        for spec in tree.flatten(loss):
            if spec not in (None, "crossentropy", "ce"):
                losses_room.get(spec)  # a misspelt name is refused by compile, not by the first batch
        self._outputs: Outputs | None = None  # those that the losses were matched to
        self._wanted: list[bool] = []  # which of them have a loss
        self._parts: list[tuple[Loss, float | None, int]] = []
        self.trackers: list[Metric] = []
        if outputs is not None:
            _losses_of(loss, outputs)
            outputs.spread(loss_weights, "loss_weights")

    def resolve(self, y: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Match losses and weights to the outputs."""
        outputs = known_outputs(y_pred, self._known_outputs)
        specs = _losses_of(self._loss, outputs)
        wanted = [spec is not None for spec in specs]
        predictions, targets = tree.flatten(y_pred), outputs.targets(y, wanted)
        weights = outputs.spread(self._weights, "loss_weights")
        parts = []
        for i, (spec, weight, target, prediction) in enumerate(zip(specs, weights, targets, predictions, strict=True)):
            if spec is not None and target is not None:
                loss = _loss_object(spec, target, prediction)
                assert loss is not None
                parts.append((loss, None if weight is None else float(weight), i))
        count = itertools.count()  # logs come in the order in which the losses were written down
        place = _losses_of(tree.map_structure(lambda _: next(count), self._loss), outputs)
        parts.sort(key=lambda part: place[part[2]])
        if self._metrics is not None:
            self._metrics.try_out(y, y_pred, sample_weight)
        several = parts if len(parts) > 1 else []
        self.trackers = [Mean(name=f"{outputs.loss_names[i]}_loss") for _, _, i in several]
        self._outputs, self._wanted, self._parts = outputs, wanted, parts

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
        known = known_outputs(outputs, self._known_outputs)
        specs = _losses_of(self._loss, known)
        if self._parts and self._outputs is not None and self._outputs.count == 1:
            specs = [self._parts[0][0]]
        targets = known.targets(y, [spec is not None for spec in specs])
        for spec, target, output in zip(specs, targets, tree.flatten(outputs), strict=True):
            _check_labels_of(spec, target, output)

    def __call__(self, y: Any, y_pred: Any, sample_weight: Any = None) -> Tensor | None:
        """The weighted sum of the outputs' losses, or None where there is none."""
        if self._outputs is None:
            self.resolve(y, y_pred, sample_weight)
        outputs = self._outputs
        assert outputs is not None
        if outputs.count == 1:
            if not self._parts:
                return None
            loss, weight, _ = self._parts[0]
            return losses_room.combined([loss(*_only_parts(outputs, y, y_pred, sample_weight))], [weight])
        predictions, targets = tree.flatten(y_pred), outputs.targets(y, self._wanted)
        weights = outputs.spread(sample_weight, "sample_weight")
        values = []
        for number, (loss, _, i) in enumerate(self._parts):
            values.append(loss(targets[i], predictions[i], weights[i]))
            if self.trackers:
                self.trackers[number].update_state(values[-1], sample_weight=float(predictions[i].shape[0]))
        return losses_room.combined(values, [weight for _, weight, _ in self._parts]) if values else None


def _losses_of(loss: Any, outputs: Outputs) -> list[Any]:
    """What `compile` was given as the loss of each output."""
    return [_only_loss(spec) for spec in outputs.spread(loss, "loss")]


def _only_parts(outputs: Outputs, y: Any, y_pred: Any, sample_weight: Any) -> Any:
    """What stands for the only output among targets, predictions and weights."""
    if _SINGLE.issuperset((type(y), type(y_pred), type(sample_weight))):
        return y, y_pred, sample_weight
    return [
        outputs.spread(y, "y")[0] if isinstance(y, tree.NESTED) else y,
        tree.flatten(y_pred)[0],
        outputs.spread(sample_weight, "sample_weight")[0] if isinstance(sample_weight, tree.NESTED) else sample_weight,
    ]


_SINGLE = frozenset({Tensor, np.ndarray, type(None)})


class CompiledMetrics:
    """The metrics given to `compile`, as one metric whose result is a dict."""

    name = "compile_metrics"

    def __init__(
        self, metrics: Any, weighted_metrics: Any, outputs: Outputs | None, run_eagerly: bool = False, loss: Any = None
    ):
        self._metrics, self._weighted, self._known_outputs = metrics, weighted_metrics, outputs
        self._loss, self._run_eagerly = loss, run_eagerly
        self.is_given = metrics is not None or weighted_metrics is not None
        for spec in tree.flatten([metrics, weighted_metrics]):
            known = spec in _BY_SHAPE if isinstance(spec, str) else callable(spec) or isinstance(spec, Metric)
            if not known:
                metrics_room.get(spec)
        _check_distinct(self._objects())
        if outputs is not None:
            groups = _metric_groups(metrics, outputs) + _metric_groups(weighted_metrics, outputs)
            _check_distinct([spec for group in groups for spec in group if isinstance(spec, Metric)])
        self._outputs: Outputs | None = None  # those that the metrics were matched to
        self._wanted: list[bool] = []
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
        outputs = known_outputs(y_pred, self._known_outputs)
        wanted = [self._loss is None or spec is not None for spec in _losses_of(self._loss, outputs)]
        predictions, targets = tree.flatten(y_pred), outputs.targets(y, wanted)
        parts: list[tuple[int, Metric, bool, str]] = []
        taken: set[str] = set()
        for specs, weighted in ((self._metrics, False), (self._weighted, True)):
            for i, group in enumerate(_metric_groups(specs, outputs)):
                output = outputs.metric_names[i]
                prefix = "" if output is None else f"{output}_"
                for spec in group:
                    if spec is None or targets[i] is None:
                        continue
                    metric = _metric_object(spec, targets[i], predictions[i], self._run_eagerly)
                    label = base = prefix + metric.name
                    if weighted and label in taken:
                        label = base = f"{prefix}weighted_{metric.name}"
                    count = 1
                    while label in taken:
                        label, count = f"{base}_{count}", count + 1
                    taken.add(label)
                    parts.append((i, metric, weighted, label))
        _check_distinct([metric for _, metric, _, _ in parts])
        self._parts, self._outputs, self._wanted = parts, outputs, wanted

    def try_out(self, y: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Show a batch to functions, and to copies of built-in metrics, so that what is wrong with them shows."""
        if self._outputs is None:
            self.resolve(y, y_pred)
        kept = self._parts
        shown = [part for part in kept if is_builtin(type(part[1]))]
        self._parts = [(i, copy.deepcopy(metric), weighted, label) for i, metric, weighted, label in shown]
        try:
            self.update_state(y, y_pred, sample_weight)
        finally:
            self._parts = kept

    def update_state(self, y: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take a batch into account."""
        if self._outputs is None:
            self.resolve(y, y_pred)
        if not self._parts:
            return
        outputs = self._outputs
        assert outputs is not None
        if outputs.count == 1:
            y, y_pred, sample_weight = _only_parts(outputs, y, y_pred, sample_weight)
            targets, predictions, weights = [y], [y_pred], [sample_weight]
        else:
            predictions, targets = tree.flatten(y_pred), outputs.targets(y, self._wanted)
            weights = outputs.spread(sample_weight, "sample_weight")
        for i, metric, weighted, _ in self._parts:
            target, weight = targets[i], weights[i] if weighted else None
            if current.recording is not None and not is_builtin(type(metric)):  # a tensor tells who reads it
                target, weight = (
                    ops.convert_to_tensor(target),
                    None if weight is None else ops.convert_to_tensor(weight),
                )
            metric.update_state(target, predictions[i], sample_weight=weight)

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
        for metric in self.metrics if self._outputs is not None else self._objects():
            metric.reset_state()


def _check_distinct(metrics: list[Metric]) -> None:
    """Refuse a metric that stands in two places, whose state would mix what both of them add.

    Raises:
        ValueError: for an object that occurs twice.
    """
    seen: set[int] = set()
    for metric in metrics:
        if id(metric) in seen:
            problem = f"Each place needs a metric of its own, got the object {metric.name!r} twice"
            raise ValueError(f"{problem}; make another {type(metric).__name__} with a name of its own.")
        seen.add(id(metric))


_BY_SHAPE = {"accuracy": "accuracy", "acc": "accuracy", "crossentropy": "crossentropy", "ce": "crossentropy"}


def _metric_groups(specs: Any, outputs: Outputs) -> list[list[Any]]:
    """The metrics of each output, as `compile` was given them."""
    if outputs.count == 1 and not isinstance(specs, Mapping):
        return [tree.flatten(specs)]
    return [tree.flatten(group) for group in outputs.spread(specs, "metrics", lists=True)]


def _metric_object(spec: Any, y: Any, y_pred: Any, run_eagerly: bool) -> Metric:
    if isinstance(spec, Metric):
        return spec
    name = spec if isinstance(spec, str) else None
    if name in _BY_SHAPE:
        spec = resolve_accuracy(tuple(y.shape), tuple(y_pred.shape), kind=_BY_SHAPE[name])
    found = metrics_room.get(spec)
    if not isinstance(found, Metric):
        found = MeanMetricWrapper(found, name=name or getattr(found, "__name__", "metric"))
        found._takes_arrays = bool(run_eagerly)
    if name is not None:
        found.name = name
    return found
