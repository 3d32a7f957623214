"""Every kernel once, in plain array code that runs on NumPy and on CuPy: the oracle and the fallback.

A file has a family; importing this package registers all of them.
"""

from importlib import import_module
from pkgutil import iter_modules

FAMILIES = [module.name for module in iter_modules(__path__)]

for _family in FAMILIES:
    import_module(f"{__name__}.{_family}")
