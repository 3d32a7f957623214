"""What `minikeras.saving` offers: see `lazy.py`."""

from minikeras.registry import CustomObjectScope as CustomObjectScope
from minikeras.registry import custom_object_scope as custom_object_scope
from minikeras.registry import deserialize_keras_object as deserialize_keras_object
from minikeras.registry import get_custom_objects as get_custom_objects
from minikeras.registry import get_registered_name as get_registered_name
from minikeras.registry import get_registered_object as get_registered_object
from minikeras.registry import register_keras_serializable as register_keras_serializable
from minikeras.registry import serialize_keras_object as serialize_keras_object
from minikeras.saving.keras_file import load_model as load_model
from minikeras.saving.keras_file import save_model as save_model
from minikeras.saving.weights_file import load_weights as load_weights
from minikeras.saving.weights_file import save_weights as save_weights
