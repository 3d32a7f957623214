"""Networks that are one chain of blocks: VGG, ResNet, DenseNet, Xception."""

from __future__ import annotations

from functools import partial
from typing import Any

from minikeras import layers
from minikeras.applications.blocks import Style
from minikeras.applications.family import predictions

_RESIDUAL = Style(norm={"epsilon": 1.001e-5}, conv={}, axis=3)
_DENSE = Style("{0}_conv {0}_bn {0}_relu", norm={"epsilon": 1.001e-5}, axis=3)
_EXTREME = Style("{0} {0}_bn {0}_act")


def vgg(x: Any, a: Any) -> Any:
    """Convolutions of 3 x 3, `a.counts` of them for each size."""
    for block, (filters, count) in enumerate(zip((64, 128, 256, 512, 512), a.counts, strict=True), 1):
        for i in range(1, count + 1):
            x = layers.Conv2D(filters, 3, activation="relu", padding="same", name=f"block{block}_conv{i}")(x)
        x = layers.MaxPooling2D(2, strides=2, name=f"block{block}_pool")(x)
    return x


def vgg_top(x: Any, a: Any) -> Any:
    """Two dense layers and the classifier."""
    x = layers.Flatten(name="flatten")(x)
    for name in ("fc1", "fc2"):
        x = layers.Dense(4096, activation="relu", name=name)(x)
    return predictions(x, a)


def _stem(x: Any, style: Style, names: tuple[str | None, str | None, str], plain: bool = False) -> Any:
    """A strided convolution of 7 x 7, normalised unless `plain`, and the maximum of 3 x 3."""
    x = layers.ZeroPadding2D(3, name=names[0])(x)
    if plain:
        x = layers.Conv2D(64, 7, strides=2, name="conv1_conv")(x)
    else:
        x = style.unit(x, "conv1", 64, 7, 2, "valid")
    x = layers.ZeroPadding2D(1, name=names[1])(x)
    return layers.MaxPooling2D(3, strides=2, name=names[2])(x)


def resnet(x: Any, a: Any, later: bool = False) -> Any:
    """Stages of `a.counts` residual blocks; in version 2 (`later`) a block begins with normalisation and activation."""
    style = _RESIDUAL
    x = _stem(x, style, ("conv1_pad", "pool1_pad", "pool1_pool"), plain=later)
    for stage, (filters, count) in enumerate(zip((64, 128, 256, 512), a.counts, strict=True), 2):
        for i in range(1, count + 1):
            halved = (i == count and stage < 5) if later else (i == 1 and stage > 2)
            block = _preactivated if later else _residual
            x = block(x, f"conv{stage}_block{i}", filters, 1 + halved, i == 1)
    return style.activated(style.normalised(x, "post_bn"), "post_relu") if later else x


resnet_v2 = partial(resnet, later=True)


def _residual(x: Any, name: str, filters: int, strides: int, first: bool) -> Any:
    unit = _RESIDUAL.unit
    entry = unit(x, f"{name}_0", 4 * filters, 1, strides, "valid", active=False) if first else x
    x = unit(x, f"{name}_1", filters, 1, strides, "valid")
    x = unit(x, f"{name}_2", filters, 3)
    x = unit(x, f"{name}_3", 4 * filters, 1, 1, "valid", active=False)
    return _RESIDUAL.activated(layers.Add(name=f"{name}_add")([entry, x]), f"{name}_out")


def _preactivated(x: Any, name: str, filters: int, strides: int, first: bool) -> Any:
    style, entry = _RESIDUAL, x
    x = style.activated(style.normalised(x, f"{name}_preact_bn"), f"{name}_preact_relu")
    if first:
        entry = layers.Conv2D(4 * filters, 1, strides=strides, name=f"{name}_0_conv")(x)
    elif strides > 1:
        entry = layers.MaxPooling2D(1, strides=strides)(entry)
    x = style.unit(x, f"{name}_1", filters, 1, 1, "valid", use_bias=False)
    x = layers.ZeroPadding2D(1, name=f"{name}_2_pad")(x)
    x = style.unit(x, f"{name}_2", filters, 3, strides, "valid", use_bias=False)
    x = layers.Conv2D(4 * filters, 1, name=f"{name}_3_conv")(x)
    return layers.Add(name=f"{name}_out")([entry, x])


def densenet(x: Any, a: Any) -> Any:
    """Dense blocks of `a.counts` pairs of convolutions, each of which sees all channels before it."""
    style = _DENSE
    x = _stem(x, style, (None, None, "pool1"))
    for stage, count in enumerate(a.counts, 2):
        if stage > 2:
            x = style.activated(style.normalised(x, f"pool{stage - 1}_bn"), f"pool{stage - 1}_relu")
            x = layers.Conv2D(x.shape[-1] // 2, 1, use_bias=False, name=f"pool{stage - 1}_conv")(x)
            x = layers.AveragePooling2D(2, strides=2, name=f"pool{stage - 1}_pool")(x)
        for name in (f"conv{stage}_block{i}" for i in range(1, count + 1)):
            y = style.activated(style.normalised(x, f"{name}_0_bn"), f"{name}_0_relu")
            y = style.unit(y, f"{name}_1", 128, 1, 1, "valid")
            y = layers.Conv2D(32, 3, padding="same", use_bias=False, name=f"{name}_2_conv")(y)
            x = style.concatenated([x, y], f"{name}_concat")
    return style.activated(style.normalised(x, "bn"), "relu")


def xception(x: Any, a: Any) -> Any:
    """Residual blocks of separable convolutions, with their filters."""
    style = _EXTREME
    x = style.unit(x, "block1_conv1", 32, 3, 2, "valid")
    x = style.unit(x, "block1_conv2", 64, 3, 1, "valid")
    middle = [(728, 728, 728)] * 8
    for block, filters in enumerate([(128, 128), (256, 256), (728, 728), *middle, (728, 1024), (1536, 2048)], 2):
        entry, changes, last = x, filters not in middle, block == 14
        if changes and not last:
            entry = style.unit(x, "-", filters[-1], 1, 2, active=False, names="- - -")
        for name, size in ((f"block{block}_sepconv{i}", size) for i, size in enumerate(filters, 1)):
            if not last and name != "block2_sepconv1":
                x = style.activated(x, f"{name}_act")
            x = style.unit(x, name, size, 3, active=last, kind=layers.SeparableConv2D)
        if changes and not last:
            x = layers.MaxPooling2D(3, strides=2, padding="same", name=f"block{block}_pool")(x)
        x = x if last else layers.Add()([x, entry])
    return x
