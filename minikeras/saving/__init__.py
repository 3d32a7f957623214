"""Files: models and weights in Keras's formats.  h5py is imported when a file is touched."""

from minikeras.lazy import public_names

__getattr__, __dir__ = public_names(__name__)
