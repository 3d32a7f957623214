"""Every kernel once, in plain array code that runs on NumPy and on CuPy: the oracle and the fallback.

A file has a family; importing this package registers all of them.
"""

from importlib import import_module
from pathlib import Path

FAMILIES = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))

for _family in FAMILIES:
    import_module(f"{__name__}.{_family}")
