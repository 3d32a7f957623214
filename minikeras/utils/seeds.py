"""Starting anew: random numbers from one seed, automatic names from the beginning."""

from __future__ import annotations

import random as python_random

import numpy as np

from minikeras import config, seeds
from minikeras.autodiff.symbolic import reset_names


def set_random_seed(seed: int) -> None:
    """Seed Python's `random`, NumPy's global generator and minikeras.

    What is built and drawn afterwards, in the same order, is the same in every run.

    Args:
        seed: a whole number.

    Raises:
        ValueError: for what is not a whole number.

    >>> import minikeras as keras
    >>> keras.utils.set_random_seed(1)
    >>> first = keras.random.normal((2,)).numpy()
    >>> keras.utils.set_random_seed(1)
    >>> bool((keras.random.normal((2,)).numpy() == first).all())
    True
    """
    seeds.set_seed(seed)
    number = seeds.whole_number(seed)
    python_random.seed(number)
    np.random.seed(number % 2**32)


def clear_session(free_memory: bool = True) -> None:
    """Start the automatic names of layers anew, the next Dense is `dense` again, and forget the global dtype policy.

    Args:
        free_memory: accepted for familiarity; models free their memory with their last reference.

    >>> import minikeras as keras
    >>> from minikeras import layers
    >>> keras.backend.clear_session()
    >>> layers.Dense(1).name
    'dense'
    """
    reset_names()
    config.reset_dtype_policy()
