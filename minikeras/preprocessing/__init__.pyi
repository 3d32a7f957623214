"""What `minikeras.preprocessing` offers: see `lazy.py`."""

from minikeras.preprocessing import image as image
from minikeras.preprocessing import sequence as sequence
from minikeras.preprocessing import text as text
from minikeras.preprocessing.image_dataset import image_dataset_from_directory as image_dataset_from_directory
from minikeras.preprocessing.text_dataset import text_dataset_from_directory as text_dataset_from_directory
from minikeras.preprocessing.timeseries import timeseries_dataset_from_array as timeseries_dataset_from_array
