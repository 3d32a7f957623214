"""What `minikeras.preprocessing.image` offers: see `lazy.py`."""

from minikeras.preprocessing.image.file_iterators import DataFrameIterator as DataFrameIterator
from minikeras.preprocessing.image.file_iterators import DirectoryIterator as DirectoryIterator
from minikeras.preprocessing.image.file_iterators import validate_filename as validate_filename
from minikeras.preprocessing.image.files import PictureError as PictureError
from minikeras.preprocessing.image.files import array_to_img as array_to_img
from minikeras.preprocessing.image.files import img_to_array as img_to_array
from minikeras.preprocessing.image.files import list_pictures as list_pictures
from minikeras.preprocessing.image.files import load_img as load_img
from minikeras.preprocessing.image.files import save_img as save_img
from minikeras.preprocessing.image.generator import ImageDataGenerator as ImageDataGenerator
from minikeras.preprocessing.image.iterators import Iterator as Iterator
from minikeras.preprocessing.image.iterators import NumpyArrayIterator as NumpyArrayIterator
from minikeras.preprocessing.image.resizing import resize as resize
from minikeras.preprocessing.image.resizing import smart_resize as smart_resize
from minikeras.preprocessing.image.transforms import apply_affine_transform as apply_affine_transform
from minikeras.preprocessing.image.transforms import apply_brightness_shift as apply_brightness_shift
from minikeras.preprocessing.image.transforms import apply_channel_shift as apply_channel_shift
from minikeras.preprocessing.image.transforms import flip_axis as flip_axis
from minikeras.preprocessing.image.transforms import random_brightness as random_brightness
from minikeras.preprocessing.image.transforms import random_channel_shift as random_channel_shift
from minikeras.preprocessing.image.transforms import random_rotation as random_rotation
from minikeras.preprocessing.image.transforms import random_shear as random_shear
from minikeras.preprocessing.image.transforms import random_shift as random_shift
from minikeras.preprocessing.image.transforms import random_zoom as random_zoom
from minikeras.preprocessing.image.transforms import transform_matrix_offset_center as transform_matrix_offset_center
