"""Pictures: their files, random changes to them, and batches of both for training."""

from importlib import import_module
from typing import Any

_HOMES = {
    "files": ("PictureError", "array_to_img", "img_to_array", "list_pictures", "load_img", "save_img"),
    "resizing": ("resize", "smart_resize"),
    "transforms": (
        "apply_affine_transform",
        "apply_brightness_shift",
        "apply_channel_shift",
        "flip_axis",
        "random_brightness",
        "random_channel_shift",
        "random_rotation",
        "random_shear",
        "random_shift",
        "random_zoom",
        "transform_matrix_offset_center",
    ),
    "file_iterators": ("DataFrameIterator", "DirectoryIterator", "validate_filename"),
    "iterators": ("Iterator", "NumpyArrayIterator"),
    "generator": ("ImageDataGenerator",),
}
_ROOM_OF = {name: room for room, names in _HOMES.items() for name in names}

__all__ = sorted(_ROOM_OF)


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'minikeras.preprocessing.image' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_ROOM_OF[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOM_OF})
