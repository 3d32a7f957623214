"""CPU overrides of reference kernels: NumPy, BLAS and compiled code.  Importing this compiles nothing, nor loads Numba.

A file that is named like a family of the reference has that family's overrides; the others are what these are made of.
"""

import os
from importlib import import_module

from minikeras.kernels.reference import FAMILIES

for _family in FAMILIES:
    if os.path.isfile(os.path.join(os.path.dirname(__file__), f"{_family}.py")):
        import_module(f"{__name__}.{_family}")
