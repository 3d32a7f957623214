"""Learning curves, drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from minikeras.utils.suggest import unknown

_Series = tuple[list[int], list[Any]]
_INCHES = 6.4, 3.2  # of the drawing of one metric
_FEW = 30  # epochs up to which each is marked by a dot


def draw(
    curves: Mapping[tuple[str | None, str], tuple[_Series, _Series]],
    metrics: str | Iterable[str] | None,
    path: Any,
    figure: Any,
) -> Any:
    """The curves of each replica and metric: training and validation, each as epochs and values; see `History.plot`."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        problem = "Drawing learning curves takes matplotlib, which is not installed"
        raise ImportError(f"{problem}; run pip install 'minikeras[plot]'.") from error
    known = list(dict.fromkeys(metric for _, metric in curves))
    chosen = known if metrics is None else [metrics] if isinstance(metrics, str) else list(metrics)
    for metric in chosen:
        if metric not in known:
            raise ValueError(unknown("metric", metric, known))
    if not chosen:
        raise ValueError("There are no curves to draw: no epoch has been trained; call fit() first.")
    replicas = list(dict.fromkeys(replica for replica, _ in curves))
    if figure is None:
        figure = Figure(figsize=(_INCHES[0], _INCHES[1] * len(chosen)), layout="constrained")
    for metric, axes in zip(chosen, figure.subplots(len(chosen), sharex=True, squeeze=False)[:, 0], strict=True):
        for number, replica in enumerate(replicas):
            series = curves.get((replica, metric), (([], []),) * 2)
            for role, style, (epochs, values) in zip(("training", "validation"), ("--", "-"), series, strict=True):
                if values:
                    label, marker = (
                        role if replica is None else f"{replica}, {role}",
                        "." if len(values) <= _FEW else None,
                    )
                    axes.plot(epochs, values, style, color=f"C{number}", marker=marker, label=label)
        axes.set_ylabel(_label(metric))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    axes.set_xlabel("epoch (passes over the training data)")
    figure.axes[0].legend(fontsize="small")
    figure.align_ylabels()
    if path is not None:
        figure.savefig(Path(path).expanduser(), dpi=150)
    return figure


def _label(metric: str) -> str:
    """The axis's name with its unit."""
    if metric.endswith("loss"):
        return f"{metric} (mean per sample)"
    if metric.endswith(("acc", "accuracy")):
        return f"{metric} (fraction of samples)"
    return metric
