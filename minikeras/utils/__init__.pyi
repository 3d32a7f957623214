"""What `minikeras.utils` offers: see `lazy.py`."""

from minikeras.backend import is_keras_tensor as is_keras_tensor
from minikeras.callbacks.progress import Progbar as Progbar
from minikeras.config import disable_interactive_logging as disable_interactive_logging
from minikeras.config import enable_interactive_logging as enable_interactive_logging
from minikeras.config import is_interactive_logging_enabled as is_interactive_logging_enabled
from minikeras.config import standardize_dtype as standardize_dtype
from minikeras.models.summary import print_summary as print_summary
from minikeras.preprocessing.image.files import array_to_img as array_to_img
from minikeras.preprocessing.image.files import img_to_array as img_to_array
from minikeras.preprocessing.image.files import load_img as load_img
from minikeras.preprocessing.image.files import save_img as save_img
from minikeras.preprocessing.image_dataset import image_dataset_from_directory as image_dataset_from_directory
from minikeras.preprocessing.sequence import pad_sequences as pad_sequences
from minikeras.preprocessing.splitting import split_dataset as split_dataset
from minikeras.preprocessing.text_dataset import text_dataset_from_directory as text_dataset_from_directory
from minikeras.preprocessing.timeseries import timeseries_dataset_from_array as timeseries_dataset_from_array
from minikeras.registry import CustomObjectScope as CustomObjectScope
from minikeras.registry import custom_object_scope as custom_object_scope
from minikeras.registry import deserialize_keras_object as deserialize_keras_object
from minikeras.registry import get_custom_objects as get_custom_objects
from minikeras.registry import get_registered_name as get_registered_name
from minikeras.registry import get_registered_object as get_registered_object
from minikeras.registry import register_keras_serializable as register_keras_serializable
from minikeras.registry import serialize_keras_object as serialize_keras_object
from minikeras.training.data import PyDataset as PyDataset
from minikeras.training.data import pack_x_y_sample_weight as pack_x_y_sample_weight
from minikeras.training.data import unpack_x_y_sample_weight as unpack_x_y_sample_weight
from minikeras.utils.data_utils import get_file as get_file
from minikeras.utils.enqueuers import GeneratorEnqueuer as GeneratorEnqueuer
from minikeras.utils.enqueuers import OrderedEnqueuer as OrderedEnqueuer
from minikeras.utils.enqueuers import SequenceEnqueuer as SequenceEnqueuer
from minikeras.utils.layer_utils import get_source_inputs as get_source_inputs
from minikeras.utils.numerical import normalize as normalize
from minikeras.utils.numerical import to_categorical as to_categorical
from minikeras.utils.seeds import clear_session as clear_session
from minikeras.utils.seeds import set_random_seed as set_random_seed
from minikeras.utils.vis_utils import model_to_dot as model_to_dot
from minikeras.utils.vis_utils import plot_model as plot_model

Sequence = PyDataset
