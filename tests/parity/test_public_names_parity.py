"""`dir()` of each public module against that of real Keras: nothing else is shown but what is ours on purpose."""

from __future__ import annotations

import importlib
import os
import types

import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras")

# ours on purpose: what Keras does not have, and what Keras 2 has
OURS = {
    "": {"GradientTape", "autodiff", "data", "grad", "kernels", "value_and_grad"},
    "config": {
        *("DTypePolicy", "device", "gpu_memory_limit", "kernels", "set_device", "set_gpu_memory_limit", "set_kernels"),
        *("set_tf32", "standardize_dtype", "tf32"),
    },
    "datasets": {"digits"},
    "layers": {"LocallyConnected1D", "LocallyConnected2D", "ThresholdedReLU"},
    "losses": {
        *("BCE", "KLD", "MAE", "MAPE", "MSE", "MSLE", "bce", "kld", "mae", "mape", "mse", "msle"),
        *("LossFunctionWrapper", "Reduction", "cosine", "cosine_proximity", "kullback_leibler_divergence", "logcosh"),
    },
    "metrics": {
        *("KLD", "MAE", "MAPE", "MSE", "MSLE", "accuracy", "cosine_similarity", "kld", "mae", "mape", "mse", "msle"),
        *("kullback_leibler_divergence", "logcosh"),
    },
    "models": {"Functional", "model_from_config"},
    "ops": {"array_equal", "column_stack", "gammainc", "matrix_power"},
    "ops.nn": {
        *("batch_norm_training", "check_labels", "convolution", "dense_layer", "depthwise_convolution"),
        *("embedding_lookup", "explicit_padding", "gru_sequence", "layer_norm", "lstm_sequence", "masked_scale"),
        *("conv_lstm_sequence", "fixed_norm", "group_norm", "piecewise_relu", "simple_rnn_sequence"),
        *("transposed_convolution", "transposed_length", "rms_norm", "time_steps", "unit_norm", "whole_labels"),
    },
    "ops.numpy": {"array_equal", "column_stack", "erf", "logsumexp", "norm", "rsqrt"},
    "preprocessing": {"text"},
    "utils": {
        *("GeneratorEnqueuer", "OrderedEnqueuer", "SequenceEnqueuer", "data_utils", "generic_utils", "layer_utils"),
        *("np_utils", "print_summary", "vis_utils"),
    },
}
MODULES = [
    *OURS,
    *("activations", "callbacks", "constraints", "datasets.cifar10", "datasets.imdb", "datasets.mnist"),
    *("initializers", "optimizers", "optimizers.schedules", "random", "regularizers", "saving", "tree"),
]


@pytest.mark.parametrize("name", MODULES)
def test_nothing_else_is_shown(name: str) -> None:
    theirs: types.ModuleType = keras
    for part in filter(None, name.split(".")):
        theirs = getattr(theirs, part)
    ours = importlib.import_module(f"minikeras.{name}".rstrip("."))
    shown = {one for one in dir(ours) if one[0] != "_"}
    others = shown - set(dir(theirs)) - OURS.get(name, set())
    assert not others, f"{name} shows {sorted(others)}, which Keras does not have; hide them or enter them above"
    assert shown & set(dir(theirs))
