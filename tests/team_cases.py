"""Teams of any size in place of the process's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from unittest.mock import patch

from minikeras.kernels.cpu import parts, tile
from minikeras.kernels.cpu.team import Team

_team = lru_cache(maxsize=None)(Team)  # one of each size: helpers live as long as the process


@contextmanager
def team_of(size: int) -> Iterator[Team]:
    """Have a team of this size do the work of the CPU's kernels; plans hold scratch for their team, so they go."""
    plans = (tile._product_plan, tile._convolution_plans, tile._kernel_grad_plan)
    own = _team(size)
    try:
        for plan in plans:
            plan.cache_clear()
        with patch.object(tile, "team", own), patch.object(parts, "team", own):
            yield own
    finally:
        for plan in plans:
            plan.cache_clear()
