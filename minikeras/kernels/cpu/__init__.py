"""CPU overrides of reference kernels: NumPy, BLAS and compiled code.  Importing this compiles nothing, nor loads Numba.

A file that is named like a family of the reference has that family's overrides; the others are what these are made of.
"""

from importlib import import_module
from pathlib import Path

from minikeras.kernels.reference import FAMILIES

for _family in FAMILIES:
    if (Path(__file__).parent / f"{_family}.py").is_file():
        import_module(f"{__name__}.{_family}")
