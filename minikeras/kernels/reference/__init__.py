"""Every kernel once, in plain array code that runs on NumPy and on CuPy: the oracle and the fallback.

A file has a family; importing this package registers all of them.
"""

import os
from importlib import import_module

FAMILIES = sorted(name[:-3] for name in os.listdir(os.path.dirname(__file__)) if name[0] != "_" and name[-3:] == ".py")

for _family in FAMILIES:
    import_module(f"{__name__}.{_family}")
