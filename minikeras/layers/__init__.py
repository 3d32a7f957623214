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
for _home, _names in {
    "convnext": ["LayerScale", "StochasticDepth"],
    "inception_resnet_v2": ["CustomScaleLayer"],
}.items():
    registry.builtin_later(f"keras.src.applications.{_home}", {name: f"{__name__}.residual:{name}" for name in _names})
__getattr__, __dir__ = public_names(__name__, {file: f"{__name__}.{file}" for file in FILES}, hidden=" ".join(FILES))
open_older_paths(__name__)
registry.older = LazyModule("minikeras.models.older_config")  # the room below, for descriptions without a module
