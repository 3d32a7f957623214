"""Another name of `minikeras.preprocessing.image`."""

from typing import Any

from minikeras.lazy import homes
from minikeras.preprocessing import image

__all__ = sorted(homes(image.__name__))


def __getattr__(name: str) -> Any:
    return getattr(image, name)


def __dir__() -> list[str]:
    return dir(image)
