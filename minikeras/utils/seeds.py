"""Starting anew: random numbers from one seed, automatic names from the beginning."""

from __future__ import annotations

import random as python_random

import numpy as np

from minikeras import config, seeds
from minikeras.autodiff.symbolic import reset_names


def set_random_seed(seed: int) -> None:
    """Seed Python's `random`, NumPy's global generator and minikeras.

    What is built and drawn afterwards, in the same order, is the same in every run.

    Raises:
        ValueError: for what is not a whole number.
    """
    seeds.set_seed(seed)
    number = seeds.whole_number(seed)
    python_random.seed(number)
    np.random.seed(number % 2**32)


def clear_session(free_memory: bool = True) -> None:
    """Start the automatic names of layers anew, the next Dense is `dense` again, and forget the global dtype policy.

    Args:
        free_memory: accepted for familiarity; models free their memory with their last reference.
    """
    reset_names()
    config.reset_dtype_policy()
