"""Files: models and weights in Keras's formats.  h5py is imported when a file is touched."""

from minikeras.lazy import offer_names
from minikeras.registry import (
    CustomObjectScope,
    custom_object_scope,
    deserialize_keras_object,
    get_custom_objects,
    get_registered_name,
    get_registered_object,
    register_keras_serializable,
    serialize_keras_object,
)
from minikeras.saving.keras_file import load_model, save_model
from minikeras.saving.weights_file import load_weights, save_weights

__all__ = ["CustomObjectScope", "custom_object_scope", "deserialize_keras_object", "get_custom_objects"]
__all__ += ["get_registered_name", "get_registered_object", "load_model", "load_weights"]
__all__ += ["register_keras_serializable", "save_model", "save_weights", "serialize_keras_object"]


offer_names(__name__)
