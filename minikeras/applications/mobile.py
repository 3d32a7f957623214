"""Networks of inverted residual blocks, MobileNet and EfficientNet with their versions; and ConvNeXt."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

from minikeras import initializers, layers
from minikeras.applications.blocks import Style, channel_axis, correct_pad, divisible
from minikeras.applications.family import pooled, predictions
from minikeras.layers.residual import LayerScale
from minikeras.models.sequential import Sequential

# ---------------------------------------------------------------- MobileNet

_OFTEN = {"momentum": 0.999, "epsilon": 1e-3}
_V1 = Style("{0} {0}_bn {0}_relu", lambda name: layers.ReLU(6.0, name=name))
_V2 = replace(_V1, names="{0} {0}_BN {0}_relu", norm=_OFTEN, pad="pad")
_RELU = Style("{0} {0}_bn -", lambda name: layers.ReLU(), _OFTEN, pad="depthwise_pad")
_SWISH = replace(_RELU, activation="hard_swish")


def mobilenet(x: Any, a: Any) -> Any:
    """Pairs of depthwise and pointwise convolutions, with their filters; every strided one doubles them."""
    x, before = _V1.unit(x, "conv1", int(32 * a.alpha), 3, 2), 64
    a.part = "_".join(f"{100 * a.alpha:.0f}"[:2])  # 7_5 for 0.75
    for i, filters in enumerate((64, 128, 128, 256, 256, *(512,) * 6, 1024, 1024), 1):
        strides, before = 1 + (filters > before), filters
        if strides == 2:
            x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"conv_pad_{i}")(x)
        how = (strides, "same" if strides == 1 else "valid")
        x = _V1.unit(x, f"conv_dw_{i}", None, 3, *how, depth_multiplier=a.depth_multiplier)
        x = _V1.unit(x, f"conv_pw_{i}", int(filters * a.alpha))
    return x


def mobilenet_top(x: Any, a: Any) -> Any:
    """The classifier as a convolution."""
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Dropout(a.dropout, name="dropout")(x)
    x = layers.Conv2D(a.classes, 1, padding="same", name="conv_preds")(x)
    x = layers.Reshape((a.classes,), name="reshape_2")(x)
    return layers.Activation(a.classifier_activation, name="predictions")(x)


def mobilenet_v2(x: Any, a: Any) -> Any:
    """Inverted residual blocks: filters, strides and number of each."""
    x = _V2.unit(x, "Conv1", divisible(32 * a.alpha), 3, 2, names="Conv1 bn_Conv1 Conv1_relu")
    block = 0
    rows = ((16, 1, 1), (24, 2, 2), (32, 2, 3), (64, 2, 4), (96, 1, 3), (160, 2, 3), (320, 1, 1))
    for filters, first, count in rows:
        for strides in (first, *(1,) * (count - 1)):
            prefix, expanded = (f"block_{block}_", 6 * x.shape[channel_axis()]) if block else ("expanded_conv_", None)
            x = _V2.inverted(x, prefix, divisible(int(filters * a.alpha)), expanded, (3, strides))
            block += 1
    last = divisible(1280 * max(a.alpha, 1.0))
    return _V2.unit(x, "Conv_1", last, padding="valid", names="Conv_1 Conv_1_bn out_relu")


# expansion, filters, kernel, strides; with attention; with hard swish where others have relu
SMALL = (
    *((1, 16, 3, 2, 1, 0), (72 / 16, 24, 3, 2, 0, 0), (88 / 24, 24, 3, 1, 0, 0), (4, 40, 5, 2, 1, 1)),
    *((6, 40, 5, 1, 1, 1), (6, 40, 5, 1, 1, 1), (3, 48, 5, 1, 1, 1), (3, 48, 5, 1, 1, 1)),
    *((6, 96, 5, 2, 1, 1), (6, 96, 5, 1, 1, 1), (6, 96, 5, 1, 1, 1)),
)
LARGE = (
    *((1, 16, 3, 1, 0, 0), (4, 24, 3, 2, 0, 0), (3, 24, 3, 1, 0, 0), (3, 40, 5, 2, 1, 0), (3, 40, 5, 1, 1, 0)),
    *((3, 40, 5, 1, 1, 0), (6, 80, 3, 2, 0, 1), (2.5, 80, 3, 1, 0, 1), (2.3, 80, 3, 1, 0, 1), (2.3, 80, 3, 1, 0, 1)),
    *((6, 112, 3, 1, 1, 1), (6, 112, 3, 1, 1, 1), (6, 160, 5, 2, 1, 1), (6, 160, 5, 1, 1, 1), (6, 160, 5, 1, 1, 1)),
)


def mobilenet_v3(x: Any, a: Any) -> Any:
    """Inverted residual blocks with attention to channels."""
    a.part = f"{a.kind}{'_minimalistic' * a.minimalistic}_224_{a.alpha}"
    a.style = _RELU if a.minimalistic else _SWISH
    if a.include_preprocessing:
        x = layers.Rescaling(1 / 127.5, -1.0)(x)
    x = a.style.unit(x, "conv", 16, 3, 2)
    for i, (expansion, filters, kernel, strides, attends, swish) in enumerate(a.table):
        prefix = f"expanded_conv_{i}_" if i else "expanded_conv_"
        expanded = divisible(x.shape[channel_axis()] * expansion)
        squeeze = partial(_attended, prefix=prefix) if attends and not a.minimalistic else None
        style, kernel = (a.style if swish else _RELU), (3 if a.minimalistic else kernel)
        width = divisible(filters * a.alpha)
        x = style.inverted(x, prefix, width, expanded if i else None, (kernel, strides), squeeze)
    return a.style.unit(x, "conv_1", divisible(x.shape[channel_axis()] * 6))


def _attended(x: Any, prefix: str) -> Any:
    """Channels weighted by what all places say of them (Hu et al. 2018, squeeze and excitation)."""
    name, channels = f"{prefix}squeeze_excite_", x.shape[channel_axis()]
    y = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}avg_pool")(x)
    y = layers.Conv2D(divisible(channels * 0.25), 1, padding="same", name=f"{name}conv")(y)
    y = layers.ReLU(name=f"{name}relu")(y)
    y = layers.Conv2D(channels, 1, padding="same", name=f"{name}conv_1")(y)
    return layers.Multiply(name=f"{name}mul")([x, layers.ReLU(6.0)(y + 3.0) * (1 / 6)])


def mobilenet_v3_top(x: Any, a: Any) -> Any:
    """Two convolutions on the means."""
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Conv2D(divisible(a.last * a.alpha) if a.alpha > 1 else a.last, 1, padding="same", name="conv_2")(x)
    x = a.style.activated(x)
    if a.dropout_rate > 0:
        x = layers.Dropout(a.dropout_rate)(x)
    x = layers.Flatten()(layers.Conv2D(a.classes, 1, padding="same", name="logits")(x))
    return layers.Activation(a.classifier_activation, name="predictions")(x)


# ---------------------------------------------------------------- EfficientNet


def _scaling(scale: float, distribution: str) -> dict[str, Any]:
    config = {"scale": scale, "mode": "fan_out", "distribution": distribution}
    return {"class_name": "VarianceScaling", "config": config}


_CONV, _DENSE = _scaling(2.0, "truncated_normal"), _scaling(1 / 3, "uniform")
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's channels, from 0 to 1
_E1 = Style(
    *("{0}_conv {0}_bn {0}_activation", "swish", {}, {"use_bias": False, "kernel_initializer": _CONV}, 3),
    *("dwconv_pad", "{0}dwconv {0}bn {0}activation", False),
)
_E2 = replace(_E1, norm={"momentum": 0.9}, pad="", depthwise="{0}dwconv2 {0}bn {0}activation")
# number, filters, expansion, strides, and in version 1 the kernel; in version 2 the first three are fused
B = (
    *((1, 16, 1, 1, 3), (2, 24, 6, 2, 3), (2, 40, 6, 2, 5), (3, 80, 6, 2, 3)),
    *((3, 112, 6, 1, 5), (4, 192, 6, 2, 5), (1, 320, 6, 1, 3)),
)
B2 = ((1, 16, 1, 1), (2, 32, 4, 2), (2, 48, 4, 2), (3, 96, 4, 2), (5, 112, 6, 1), (8, 192, 6, 2))
S2 = ((2, 24, 1, 1), (4, 48, 4, 2), (4, 64, 4, 2), (6, 128, 4, 2), (9, 160, 6, 1), (15, 256, 6, 2))
M2 = ((3, 24, 1, 1), (5, 48, 4, 2), (5, 80, 4, 2), (7, 160, 4, 2), (14, 176, 6, 1), (18, 304, 6, 2), (5, 512, 6, 1))
L2 = ((4, 32, 1, 1), (7, 64, 4, 2), (7, 96, 4, 2), (10, 192, 4, 2), (19, 224, 6, 1), (25, 384, 6, 2), (7, 640, 6, 1))


def efficientnet(x: Any, a: Any) -> Any:
    """Version 1: attention in all blocks."""
    x = layers.Normalization(axis=channel_axis(3))(layers.Rescaling(1 / 255)(x))
    if a.weights == "imagenet":
        x = layers.Rescaling([1 / math.sqrt(deviation) for deviation in _DEVIATION])(x)
    x = layers.ZeroPadding2D(correct_pad(x, 3), name="stem_conv_pad")(x)
    return _efficient(x, a, B, True)


def efficientnet_v2(x: Any, a: Any) -> Any:
    """Version 2: the first three stages are fused and do without attention."""
    if a.include_preprocessing and a.table is B2 and a.channels == 3:
        variance, x = [deviation**2 for deviation in _DEVIATION], layers.Rescaling(1 / 255)(x)
        x = layers.Normalization(channel_axis(3), list(_MEAN), variance)(x)
    elif a.include_preprocessing:
        x = layers.Rescaling(1 / 128, -1)(x)
    return _efficient(x, a, a.table, False)


def _efficient(x: Any, a: Any, rows: Any, first: bool) -> Any:
    """Blocks of `rows`, `a.width` times as wide and `a.depth` times as many, later ones dropped more often."""
    style, width, block = _E1 if first else _E2, partial(divisible, least=first), 0
    counts = [math.ceil(a.depth * row[0]) for row in rows]
    total = sum(counts) if first else sum(row[0] for row in rows)
    entry = 32 if rows[0][1] == 16 else rows[0][1]
    x = style.unit(x, "stem", width(entry * a.width), 3, 2, "valid" if first else "same")
    for stage, (count, (_, filters, expansion, strides, *kernel)) in enumerate(zip(counts, rows, strict=True), 1):
        fused = stage < 4 and not first
        for j in range(count):
            prefix, channels = f"block{stage}{chr(ord('a') + j)}_", x.shape[channel_axis()]
            squeeze = None if fused else partial(_weighted, prefix=prefix, reduced=max(1, channels // 4))
            sizes = width(filters * a.width), None if expansion == 1 else channels * expansion
            window = (*kernel, 3)[0], 1 if j else strides
            x = replace(style, fused=fused).inverted(x, prefix, *sizes, window, squeeze, 0.2 * block / total)
            block += 1
    return style.unit(x, "top", width(1280 * a.width))


def _weighted(x: Any, prefix: str, reduced: int) -> Any:
    """Channels weighted by what all places say of them."""
    channels, how = x.shape[channel_axis()], dict[str, Any](padding="same", kernel_initializer=_CONV)
    y = layers.GlobalAveragePooling2D(name=f"{prefix}se_squeeze")(x)
    y = layers.Reshape((channels, 1, 1) if channel_axis() == 1 else (1, 1, channels), name=f"{prefix}se_reshape")(y)
    y = layers.Conv2D(reduced, 1, activation="swish", name=f"{prefix}se_reduce", **how)(y)
    y = layers.Conv2D(channels, 1, activation="sigmoid", name=f"{prefix}se_expand", **how)(y)
    return layers.Multiply(name=f"{prefix}se_excite")([x, y])


def efficientnet_top(x: Any, a: Any, **options: Any) -> Any:
    """Mean, dropout and classifier."""
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    x = layers.Dropout(a.top_dropout, name="top_dropout")(x)
    return predictions(x, a, kernel_initializer=_DENSE, **options)


def efficientnet_v2_top(x: Any, a: Any) -> Any:
    """The same with a dropout of 0.2, and the bias's zeros made by another initializer."""
    a.top_dropout = 0.2
    return efficientnet_top(x, a, bias_initializer=initializers.Constant(0.0))


# ---------------------------------------------------------------- ConvNeXt


def convnext(x: Any, a: Any) -> Any:
    """Stages of blocks, each a depthwise convolution of 7 x 7 and two dense layers; `a.middle` in the third stage."""
    name, normalised = a.name, partial(layers.LayerNormalization, epsilon=1e-6)
    if a.include_preprocessing and a.channels == 3:
        mean, variance = [255 * mean for mean in _MEAN], [(255 * deviation) ** 2 for deviation in _DEVIATION]
        x = layers.Normalization(mean=mean, variance=variance, name=f"{name}_prestem_normalization")(x)
    for stage, count in enumerate((3, 3, a.middle, 3)):
        filters = a.width * 2**stage
        where, size = (f"{name}_downsampling_%s_{stage - 1}", 2) if stage else (f"{name}_stem_%s", 4)
        parts = [normalised(name=where % "layernorm"), layers.Conv2D(filters, size, strides=size, name=where % "conv")]
        x = Sequential(parts if stage else parts[::-1], name=where % "block" if stage else f"{name}_stem")(x)
        for prefix in (f"{name}_stage_{stage}_block_{block}" for block in range(count)):
            y = layers.Conv2D(filters, 7, padding="same", groups=filters, name=f"{prefix}_depthwise_conv")(x)
            y = normalised(name=f"{prefix}_layernorm")(y)
            y = layers.Dense(4 * filters, name=f"{prefix}_pointwise_conv_1")(y)
            y = layers.Activation("gelu", name=f"{prefix}_gelu")(y)
            y = layers.Dense(filters, name=f"{prefix}_pointwise_conv_2")(y)
            y = LayerScale(1e-6, filters, name=f"{prefix}_layer_scale")(y)
            x = x + layers.Activation("linear", name=f"{prefix}_identity")(y)
    return x


def convnext_top(x: Any, a: Any) -> Any:
    """Mean, normalisation and classifier."""
    x = layers.GlobalAveragePooling2D(name=f"{a.name}_head_gap")(x)
    x = layers.LayerNormalization(epsilon=1e-6, name=f"{a.name}_head_layernorm")(x)
    return layers.Dense(a.classes, activation=a.classifier_activation, name=f"{a.name}_head_dense")(x)


def convnext_bottom(x: Any, a: Any) -> Any:
    """The features, pooled as was asked for, and normalised."""
    return layers.LayerNormalization(epsilon=1e-6)(pooled(x, a))
