"""What `compile` was given to compare: lists of optimizers, of losses, or of both become an entry for each replica."""

from __future__ import annotations

import copy
import itertools
import math
import numbers
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from minikeras import optimizers as optimizers_room
from minikeras.autodiff.symbolic import snake_case


@dataclass
class Entry:
    """One of the things that are compared.

    Attributes:
        name: what the logs call it.
        optimizer, loss: what this replica trains with.
        output_weights: the factors of its outputs' losses, as `compile` takes them.
        factor: what the loss that it trains on is multiplied by; None for 1.
    """

    name: str
    optimizer: Any
    loss: Any
    output_weights: Any = None
    factor: float | None = None


def find_entries(optimizer: Any, loss: Any, loss_weights: Any, outputs: int | None) -> list[Entry] | None:
    """What is to be compared; None where nothing is.

    Args:
        optimizer, loss, loss_weights: as given to `compile`.
        outputs: the number of the model's outputs, None where it is not known yet.

    Raises:
        ValueError: for an empty list, an optimizer that is no optimizer or occurs twice, and lists of unequal lengths.
    """
    several = isinstance(optimizer, (list, tuple))
    losses = list(loss) if outputs == 1 and isinstance(loss, (list, tuple)) and len(loss) > 1 else None
    if not several and losses is None:
        return None
    if several:
        optimizers = _distinct_optimizers(optimizer)
        names = [_optimizer_name(one) for one in optimizers]
    else:
        assert losses is not None
        optimizers = _copies(optimizers_room.get(optimizer), len(losses))
        names = [""] * len(losses)
    if losses is not None:
        if len(losses) != len(optimizers):
            raise ValueError(
                f"Optimizers and losses are compared in pairs, got {len(optimizers)} optimizers and {len(losses)} "
                "losses; give one loss for each optimizer, or a single one for all."
            )
        names = [f"{name}+{_loss_name(one)}".lstrip("+") for name, one in zip(names, losses, strict=True)]
    parts = zip(_distinct_names(names), optimizers, losses or [loss] * len(names), strict=True)
    entries = [Entry(name, one, own) for name, one, own in parts]
    _weigh(entries, loss_weights)
    return entries


def _distinct_optimizers(given: Sequence[Any]) -> list[Any]:
    if not given:
        raise ValueError("A comparison needs optimizers, got an empty list; pass at least one.")
    optimizers = [optimizers_room.get(one) for one in given]
    for i, one in enumerate(optimizers):
        if one is None:
            raise ValueError(f"A comparison needs optimizers, got None in place {i} of the list; leave it out.")
        if any(one is other for other in optimizers[:i]):
            problem = f"Each replica needs an optimizer of its own, got {one.name!r} twice"
            raise ValueError(f"{problem}; make another with {type(one).__name__}.from_config(optimizer.get_config()).")
    return optimizers


def _copies(optimizer: Any, count: int) -> list[Any]:
    """An optimizer and copies of it, with the same state for the same weights."""
    if optimizer is None:
        return [None] * count
    weights = {id(variable): variable for variable in [*optimizer._trainable_variables, *optimizer._undecayed]}
    return [optimizer, *(copy.deepcopy(optimizer, dict(weights)) for _ in range(count - 1))]


def _optimizer_name(optimizer: Any) -> str:
    """The class in small letters, unless the user gave the optimizer a name."""
    cls = type(optimizer)
    if re.fullmatch(rf"{re.escape(snake_case(cls.__name__))}(_\d+)?", optimizer.name):
        return cls.__name__.lower()
    return optimizer.name


def _loss_name(loss: Any) -> str:
    while isinstance(loss, (list, tuple)) and len(loss) == 1:
        (loss,) = loss
    if isinstance(loss, str):
        return loss
    if isinstance(loss, type):
        return snake_case(loss.__name__)
    name = getattr(loss, "name", None) or getattr(loss, "__name__", None)
    if name is None:
        raise ValueError(f"A comparison of losses takes a loss for each replica, got {loss!r}; give one by name.")
    return name


def _distinct_names(names: list[str]) -> list[str]:
    """Names without `/`, a repeated one with `_1`, `_2`, ..."""
    found: list[str] = []
    for name in names:
        base = name.replace("/", "_")
        numbered = (f"{base}_{count}" if count else base for count in itertools.count())
        found.append(next(one for one in numbered if one not in found))
    return found


def _weigh(entries: list[Entry], loss_weights: Any) -> None:
    """Give each entry its part of `loss_weights`."""
    if hasattr(loss_weights, "tolist"):
        loss_weights = loss_weights.tolist()
    if loss_weights is None or isinstance(loss_weights, dict):
        for entry in entries:
            entry.output_weights = loss_weights
        return
    if not isinstance(loss_weights, (list, tuple)) or len(loss_weights) != len(entries):
        raise ValueError(
            f"In a comparison of {[entry.name for entry in entries]} loss_weights is a list with one number for each, "
            f"got {loss_weights!r}; factors of the outputs go into a dict by their names."
        )
    for entry, weight in zip(entries, loss_weights, strict=True):
        if weight is None or isinstance(weight, (dict, list, tuple)):
            entry.output_weights = weight
        elif isinstance(weight, numbers.Real) and not isinstance(weight, bool) and math.isfinite(weight):
            entry.factor = None if weight == 1 else float(weight)
        else:
            raise ValueError(f"The weight of a loss is a finite number, got {weight!r} for {entry.name!r}.")
