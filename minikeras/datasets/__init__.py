"""Datasets as NumPy arrays: `digits` is drawn by this package, the others are found on disk or downloaded."""

from typing import TYPE_CHECKING

from minikeras.lazy import public_names

__all__ = [
    "boston_housing",
    "california_housing",
    "cifar10",
    "cifar100",
    "digits",
    "fashion_mnist",
    "imdb",
    "mnist",
    "reuters",
]


if not TYPE_CHECKING:  # type checkers would take any name for one that is there
    __getattr__, __dir__ = public_names(__name__, {name: f"{__name__}.{name}" for name in __all__})

if TYPE_CHECKING:
    from minikeras.datasets import boston_housing as boston_housing
    from minikeras.datasets import california_housing as california_housing
    from minikeras.datasets import cifar10 as cifar10
    from minikeras.datasets import cifar100 as cifar100
    from minikeras.datasets import digits as digits
    from minikeras.datasets import fashion_mnist as fashion_mnist
    from minikeras.datasets import imdb as imdb
    from minikeras.datasets import mnist as mnist
    from minikeras.datasets import reuters as reuters
