"""What older Keras called things: classes, arguments, initializers; and which of its settings say nothing today."""

from __future__ import annotations

from typing import Any

# classes of layers that have another name now
NEW_CLASSES = {
    **{f"Convolution{n}D": f"Conv{n}D" for n in (1, 2, 3)},
    **{f"Convolution{n}DTranspose": f"Conv{n}DTranspose" for n in (1, 2, 3)},
    **{f"Deconvolution{n}D": f"Conv{n}DTranspose" for n in (2, 3)},
    **{f"SeparableConvolution{n}D": f"SeparableConv{n}D" for n in (1, 2)},
    **{f"AtrousConvolution{n}D": f"Conv{n}D" for n in (1, 2)},
    **{
        f"{short}Pool{n}D": f"{long}Pooling{n}D"
        for n in (1, 2, 3)
        for short, long in (("Max", "Max"), ("Avg", "Average"))
    },
    **{
        f"Global{s}Pool{n}D": f"Global{l}Pooling{n}D"
        for n in (1, 2, 3)
        for s, l in (("Max", "Max"), ("Avg", "Average"))
    },
    **{f"{name}{end}": name for name in ("LSTM", "GRU", "BatchNormalization") for end in ("V1", "V2")},
    **{"CuDNNLSTM": "LSTM", "CuDNNGRU": "GRU", "UnifiedLSTM": "LSTM", "UnifiedGRU": "GRU"},
    **{"SyncBatchNormalization": "BatchNormalization", "TimeDistributedDense": "Dense"},
}

# layers and models that no description can bring back, and why
GONE = {
    **dict.fromkeys(("Highway", "MaxoutDense", "ParametricSoftplus", "SReLU"), "was dropped by Keras 2"),
    "Graph": "is the graph model of Keras 0.3",
    "ModuleWrapper": "wraps a layer of another Keras or of TensorFlow, of which the file tells nothing",
    "DenseFeatures": "reads feature columns of TensorFlow",
    **dict.fromkeys(("RandomHeight", "RandomWidth"), "gives images of random sizes, which Keras 3 does not have"),
}

# an older argument: those that it may have become, of which the class's own one counts
NEW_ARGUMENTS: dict[str, tuple[str, ...]] = {
    **{"output_dim": ("units",), "nb_filter": ("filters",), "filter_length": ("kernel_size",)},
    "init": ("kernel_initializer", "embeddings_initializer", "alpha_initializer", "depthwise_initializer"),
    **{"inner_init": ("recurrent_initializer",), "inner_activation": ("recurrent_activation",)},
    **{"gamma_init": ("gamma_initializer",), "beta_init": ("beta_initializer",)},
    "W_regularizer": ("kernel_regularizer", "embeddings_regularizer"),
    "W_constraint": ("kernel_constraint", "embeddings_constraint"),
    **{"b_regularizer": ("bias_regularizer",), "b_constraint": ("bias_constraint",)},
    **{"U_regularizer": ("recurrent_regularizer",), "bias": ("use_bias",)},
    **{"dropout_W": ("dropout",), "dropout_U": ("recurrent_dropout",)},
    **{"border_mode": ("padding",), "dim_ordering": ("data_format",), "atrous_rate": ("dilation_rate",)},
    **{"subsample": ("strides",), "subsample_length": ("strides",), "stride": ("strides",)},
    **{"pool_length": ("pool_size",), "length": ("size",), "p": ("rate",), "sigma": ("stddev",)},
    **{"alpha": ("negative_slope",), "bins": ("bin_boundaries",), "max_tokens": ("num_tokens",)},
}

# settings that our classes lack and that change nothing, whatever they are
SAY_NOTHING = {
    *("input_dim", "input_length", "input_dtype", "batch_input_shape", "consume_less", "implementation", "dynamic"),
    *("query_shape", "key_shape", "value_shape", "fused", "rng_type", "vocabulary_size", "autocast"),
    *("renorm_clipping", "renorm_momentum", "forget_bias_init"),
    *("kernel_initializer", "kernel_regularizer", "kernel_constraint"),  # of SeparableConv, which has two kernels
}
# those that change nothing at these values, or where they are empty or false; any other is refused
AT_REST: dict[str, tuple[Any, ...]] = {"groups": (1,), "mode": (0,), "dim_ordering": ("tf",)}

DATA_FORMATS = {"th": "channels_first", "tf": "channels_last", "default": None}

# initializers by the names of Keras 1: class and configuration
_UNIFORM, _NORMAL = "uniform", "untruncated_normal"
FIRST_INITIALIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "uniform": ("RandomUniform", {"minval": -0.05, "maxval": 0.05}),
    "normal": ("RandomNormal", {"mean": 0.0, "stddev": 0.05}),
    "orthogonal": ("Orthogonal", {"gain": 1.1}),
    **{"identity": ("Identity", {}), "zero": ("Zeros", {}), "one": ("Ones", {})},
    **{
        f"{author}_{distribution}": (
            "VarianceScaling",
            {"scale": scale, "mode": mode, "distribution": _UNIFORM if distribution == "uniform" else _NORMAL},
        )
        for author, scale, mode in (("glorot", 1.0, "fan_avg"), ("he", 2.0, "fan_in"), ("lecun", 1.0, "fan_in"))
        for distribution in ("uniform", "normal")
    },
}

# Keras 1's Merge by its mode: the layer that does it now
MERGES = {
    **{"sum": "Add", "mul": "Multiply", "concat": "Concatenate", "ave": "Average", "max": "Maximum"},
    **{"dot": "Dot", "cos": "Dot"},
}
