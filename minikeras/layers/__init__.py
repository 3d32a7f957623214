"""Layers: configuration in the constructor, weights in `build`, mathematics in `call`."""

from minikeras import registry
from minikeras.layers.older_paths import FILES, open_older_paths
from minikeras.lazy import LazyModule, homes, public_names

_NO_LAYERS = {"Input", "InputSpec", "Layer"}
_OLD = {"RandomHeight": "image", "RandomWidth": "image", "ThresholdedReLU": "activation"}
registry.builtin_later("keras._legacy.layers", {name: f"{__name__}.{file}:{name}" for name, file in _OLD.items()})
registry.builtin_later(
    "keras.layers",
    {
        name: home
        for name, home in homes(__name__).items()
        if home.endswith(f":{name}") and name[0].isupper() and name not in _NO_LAYERS
    },
)
registry.builtin_later("keras.layers", {"GroupQueryAttention": f"{__name__}.attention:GroupedQueryAttention"})
_PARTS = {"LayerScale": "convnext", "StochasticDepth": "convnext", "CustomScaleLayer": "inception_resnet_v2"}
for _name, _family in _PARTS.items():  # of applications, which need not be loaded for a file of one
    registry.builtin_later(f"keras.src.applications.{_family}", {_name: f"{__name__}.residual:{_name}"})
__getattr__, __dir__ = public_names(__name__, {file: f"{__name__}.{file}" for file in FILES}, hidden=" ".join(FILES))
open_older_paths(__name__)
registry.older = LazyModule("minikeras.models.older_config")  # the room below, for descriptions without a module
