"""The GPU's overrides of reference kernels: CUDA C of our own.  Importing this compiles nothing and needs no device.

A file that is named like a family of the reference has that family's overrides; the others are what these are made of.
"""

from importlib import import_module
from pkgutil import iter_modules

from minikeras.kernels.reference import FAMILIES

for _module in iter_modules(__path__):
    if _module.name in FAMILIES:
        import_module(f"{__name__}.{_module.name}")
