"""Helpers for users, each loaded when it is first asked for."""

from importlib import import_module
from typing import Any

_HOMES = {
    "CustomObjectScope": "minikeras.registry.CustomObjectScope",
    "Progbar": "minikeras.callbacks.progress.Progbar",
    "PyDataset": "minikeras.training.data.PyDataset",
    "Sequence": "minikeras.training.data.PyDataset",
    "array_to_img": "minikeras.preprocessing.image.files.array_to_img",
    "clear_session": "minikeras.utils.seeds.clear_session",
    "custom_object_scope": "minikeras.registry.custom_object_scope",
    "deserialize_keras_object": "minikeras.registry.deserialize_keras_object",
    "disable_interactive_logging": "minikeras.config.disable_interactive_logging",
    "enable_interactive_logging": "minikeras.config.enable_interactive_logging",
    "get_custom_objects": "minikeras.registry.get_custom_objects",
    "get_file": "minikeras.utils.data_utils.get_file",
    "get_registered_name": "minikeras.registry.get_registered_name",
    "get_registered_object": "minikeras.registry.get_registered_object",
    "get_source_inputs": "minikeras.utils.layer_utils.get_source_inputs",
    "image_dataset_from_directory": "minikeras.preprocessing.image_dataset.image_dataset_from_directory",
    "img_to_array": "minikeras.preprocessing.image.files.img_to_array",
    "is_interactive_logging_enabled": "minikeras.config.is_interactive_logging_enabled",
    "is_keras_tensor": "minikeras.backend.is_keras_tensor",
    "load_img": "minikeras.preprocessing.image.files.load_img",
    "model_to_dot": "minikeras.utils.vis_utils.model_to_dot",
    "normalize": "minikeras.utils.numerical.normalize",
    "pack_x_y_sample_weight": "minikeras.training.data.pack_x_y_sample_weight",
    "pad_sequences": "minikeras.preprocessing.sequence.pad_sequences",
    "plot_model": "minikeras.utils.vis_utils.plot_model",
    "print_summary": "minikeras.models.summary.print_summary",
    "register_keras_serializable": "minikeras.registry.register_keras_serializable",
    "save_img": "minikeras.preprocessing.image.files.save_img",
    "serialize_keras_object": "minikeras.registry.serialize_keras_object",
    "set_random_seed": "minikeras.utils.seeds.set_random_seed",
    "split_dataset": "minikeras.preprocessing.splitting.split_dataset",
    "standardize_dtype": "minikeras.backend.standardize_dtype",
    "text_dataset_from_directory": "minikeras.preprocessing.text_dataset.text_dataset_from_directory",
    "timeseries_dataset_from_array": "minikeras.preprocessing.timeseries.timeseries_dataset_from_array",
    "to_categorical": "minikeras.utils.numerical.to_categorical",
    "unpack_x_y_sample_weight": "minikeras.training.data.unpack_x_y_sample_weight",
}

__all__ = list(_HOMES)


# Where Keras 2 has some of these.
_MODULES = ("data_utils", "generic_utils", "layer_utils", "np_utils", "vis_utils")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'minikeras.utils' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].rpartition(".")
    value = globals()[name] = getattr(import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_MODULES})
