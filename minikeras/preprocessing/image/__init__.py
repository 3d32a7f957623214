"""Pictures: their files, random changes to them, and batches of both for training."""

from minikeras.lazy import offer_names
from minikeras.preprocessing.image.file_iterators import DataFrameIterator, DirectoryIterator, validate_filename
from minikeras.preprocessing.image.files import (
    PictureError,
    array_to_img,
    img_to_array,
    list_pictures,
    load_img,
    save_img,
)
from minikeras.preprocessing.image.generator import ImageDataGenerator
from minikeras.preprocessing.image.iterators import Iterator, NumpyArrayIterator
from minikeras.preprocessing.image.resizing import resize, smart_resize
from minikeras.preprocessing.image.transforms import (
    apply_affine_transform,
    apply_brightness_shift,
    apply_channel_shift,
    flip_axis,
    random_brightness,
    random_channel_shift,
    random_rotation,
    random_shear,
    random_shift,
    random_zoom,
    transform_matrix_offset_center,
)

__all__ = [
    "DataFrameIterator",
    "DirectoryIterator",
    "ImageDataGenerator",
    "Iterator",
    "NumpyArrayIterator",
    "PictureError",
    "apply_affine_transform",
    "apply_brightness_shift",
    "apply_channel_shift",
    "array_to_img",
    "flip_axis",
    "img_to_array",
    "list_pictures",
    "load_img",
    "random_brightness",
    "random_channel_shift",
    "random_rotation",
    "random_shear",
    "random_shift",
    "random_zoom",
    "resize",
    "save_img",
    "smart_resize",
    "transform_matrix_offset_center",
    "validate_filename",
]


offer_names(__name__)
