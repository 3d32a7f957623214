"""minikeras: a lightweight Keras, written from scratch.

Whoever knows Keras needs no manual: `import minikeras as keras` runs their program.  Importing this imports NumPy and
little else; each room opens at first need (PEP 562).
"""

from minikeras.lazy import public_names

__version__ = "0.1.0"


def version() -> str:
    """The version of minikeras.

    >>> import minikeras as keras
    >>> keras.version() == keras.__version__
    True
    """
    return __version__


__getattr__, __dir__ = public_names(__name__)
