"""Pictures, text and sequences made ready for training, each module loaded when it is first asked for."""

from typing import TYPE_CHECKING

from minikeras.lazy import public_names

_MODULES = ("image", "sequence", "text")
_HOMES: dict[str, str] = {
    "image_dataset_from_directory": "minikeras.preprocessing.image_dataset:image_dataset_from_directory",
    "text_dataset_from_directory": "minikeras.preprocessing.text_dataset:text_dataset_from_directory",
    "timeseries_dataset_from_array": "minikeras.preprocessing.timeseries:timeseries_dataset_from_array",
}

__all__ = [*_MODULES, *_HOMES]


if not TYPE_CHECKING:  # type checkers would take any name for one that is there
    __getattr__, __dir__ = public_names(__name__, {**{name: f"{__name__}.{name}" for name in _MODULES}, **_HOMES})

if TYPE_CHECKING:  # what __getattr__ finds, for type checkers and editors
    from minikeras.preprocessing import image as image
    from minikeras.preprocessing import sequence as sequence
    from minikeras.preprocessing import text as text
    from minikeras.preprocessing.image_dataset import image_dataset_from_directory as image_dataset_from_directory
    from minikeras.preprocessing.text_dataset import text_dataset_from_directory as text_dataset_from_directory
    from minikeras.preprocessing.timeseries import timeseries_dataset_from_array as timeseries_dataset_from_array
