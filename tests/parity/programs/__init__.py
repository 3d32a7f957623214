"""Programs as strangers write them: each takes the module, `keras` or `minikeras`, and returns what it saw."""

from parity.programs import assorted, contract, layers, models, recurrent, structures, tools, training  # noqa: F401
from parity.programs.common import PROGRAMS

__all__ = ["PROGRAMS"]
