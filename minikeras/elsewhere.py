"""Names of Keras that are no part of minikeras, and what to use instead."""

from __future__ import annotations

PAGE = "docs/compatibility.md"  # of the project: what differs from Keras

_SMALLER = "store weights as float16 or bfloat16 with a dtype policy"
_ONE_MACHINE = "train on one machine, with fit()"
_STATE = "call layers themselves, or layer.stateless_call(); gradients come from minikeras.GradientTape"
_OTHER_LIBRARY = "write the computation in the call() of a layer of your own, with minikeras.ops"
_SERVE = "save the model with model.save() and call predict(), which needs no other library"
_DATA = "use minikeras.data.Dataset, which map() and batch() prepare"
_PREPROCESSING = "use preprocessing layers"
_LESS_MEMORY = "use smaller batches, which need less memory"
_ATTENTION = "leave it out, attention is always computed block by block"
_BOXES = "compute with minikeras.ops"
_DRAW = "draw with Matplotlib"

# name without the leading `keras.` -> what to do instead; a module's entry is that of all names in it too
REMEDIES: dict[str, str] = {
    "Quantizer": _SMALLER,
    "RematScope": _LESS_MEMORY,
    "StatelessScope": _STATE,
    "SymbolicScope": _STATE,
    "config.disable_flash_attention": _ATTENTION,
    "config.enable_flash_attention": _ATTENTION,
    "config.is_flash_attention_enabled": _ATTENTION,
    "config.is_nnx_enabled": _STATE,
    "distillation": "write a train_step() that adds the teacher's loss",
    "distribution": _ONE_MACHINE,
    "dtype_policies.AWQDTypePolicy": _SMALLER,
    "dtype_policies.GPTQDTypePolicy": _SMALLER,
    "dtype_policies.Int4DTypePolicy": _SMALLER,
    "dtype_policies.QuantizedDTypePolicy": _SMALLER,
    "dtype_policies.QuantizedFloat8DTypePolicy": _SMALLER,
    "dtype_policies.TernaryDTypePolicy": _SMALLER,
    "estimator": "use model.fit() and model.evaluate()",
    "experimental": "use the name without experimental",
    "export": _SERVE,
    "feature_column": _PREPROCESSING,
    "layers.AugMix": "use layers.RandAugment",
    "layers.ContrastLimitedAdaptiveHistogramEqualization": "use layers.Equalization",
    "layers.DenseFeatures": _PREPROCESSING,
    "layers.FlaxLayer": _OTHER_LIBRARY,
    "layers.JaxLayer": _OTHER_LIBRARY,
    "layers.MelSpectrogram": _OTHER_LIBRARY,
    "layers.RandomElasticTransform": "use layers.RandomShear",
    "layers.RandomPerspective": "use layers.RandomShear",
    "layers.STFTSpectrogram": _OTHER_LIBRARY,
    "layers.TFSMLayer": "use load_model() of the .keras file that the model was saved to",
    "layers.TernaryDense": "use layers.Dense",
    "layers.TorchModuleWrapper": _OTHER_LIBRARY,
    "layers.experimental": "use the layer's name in minikeras.layers",
    "optimizers.Muon": "use optimizers.AdamW",
    "optimizers.ScheduleFreeAdamW": "use optimizers.AdamW",
    "optimizers.experimental": "use the optimizer's name in minikeras.optimizers",
    "quantizers": _SMALLER,
    "remat": _LESS_MEMORY,
    "saving.KerasFileEditor": "use load_model() and model.get_weights()",
    "src": "use the public name",
    "utils.Config": "use a dict",
    "utils.FeatureSpace": _PREPROCESSING,
    "utils.audio_dataset_from_directory": _DATA,
    "utils.bounding_boxes": _BOXES,
    "utils.experimental": "use the name in minikeras.utils",
    "visualization.draw_bounding_boxes": _DRAW,
    "visualization.draw_segmentation_masks": _DRAW,
    "visualization.plot_bounding_box_gallery": _DRAW,
    "visualization.plot_image_gallery": _DRAW,
    "visualization.plot_segmentation_mask_gallery": _DRAW,
}


def remedy_for(name: str) -> str | None:
    """One sentence for a name of Keras that is not here, None for any other name.

    Args:
        name: with the leading `minikeras.`.

    >>> from minikeras.elsewhere import remedy_for
    >>> remedy_for("minikeras.utils.Config")
    'keras.utils.Config is not part of minikeras; use a dict (see docs/compatibility.md).'
    """
    parts = name.split(".")[1:]
    for length in range(len(parts), 0, -1):
        remedy = REMEDIES.get(".".join(parts[:length]))
        if remedy is not None:
            return f"keras.{'.'.join(parts)} is not part of minikeras; {remedy} (see {PAGE})."
    return None
