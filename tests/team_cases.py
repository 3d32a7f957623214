"""Teams of any size in place of the process's own, and work in several Python threads at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any
from unittest.mock import patch

from minikeras.kernels.cpu import program
from minikeras.kernels.cpu.compiler import team as module
from minikeras.kernels.cpu.compiler.team import Team
from minikeras.kernels.cpu.tile import convolutions, products, stacks, winograd

_team = lru_cache(maxsize=None)(Team)  # one of each size: helpers live as long as the process


@contextmanager
def team_of(size: int) -> Iterator[Team]:
    """Have a team of this size do the work of the CPU's kernels; plans hold scratch for their team, so they go."""
    plans = (
        products.product_plan, stacks.stack_plan, convolutions.convolution_plan, convolutions.kernel_grad_plan,
        winograd.plan,
    )  # fmt: skip
    own = _team(size)
    try:
        for plan in plans:
            plan.cache_clear()
        with patch.object(module, "team", own), patch.object(program, "team", own):
            yield own
    finally:
        for plan in plans:
            plan.cache_clear()


def at_once(*functions: Callable[[], Any]) -> list[Any]:
    """What the functions give, each called in a thread of its own, all beginning together."""
    barrier, results = threading.Barrier(len(functions)), [None] * len(functions)

    def work(number: int) -> None:
        barrier.wait()
        results[number] = (functions[number](),)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert None not in results, "A thread ended with an error."
    return [result for (result,) in results]


def in_threads(count: int, function: Callable[[int], Any]) -> list[Any]:
    """What the function gives for 0 to `count`, each in a thread of its own."""
    return at_once(*[partial(function, number) for number in range(count)])
