"""What the families are made of: a layer with its normalisation and activation, and branches written as text."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from minikeras import config, layers


def channel_axis(last: int = -1) -> int:
    """The axis of the channels; `last` is what a family calls it where it is the last one."""
    return 1 if config.image_data_format() == "channels_first" else last


def correct_pad(x: Any, kernel: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The padding of a strided convolution that centres its windows as PyTorch and the papers do."""
    start = 2 if channel_axis() == 1 else 1
    sizes = [0 if size is None else size % 2 for size in x.shape[start : start + 2]]
    first, second = ((kernel // 2 - 1 + odd, kernel // 2) for odd in sizes)
    return first, second


def divisible(filters: float, least: bool = True) -> int:
    """The nearest multiple of 8, from 8 on; not below nine tenths of what was asked for where that is `least`."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded + 8 if least and rounded < 0.9 * filters else rounded


@dataclass(frozen=True)
class Style:
    """How a family writes a convolution with its normalisation and activation.

    Args:
        names: of the three layers, where {0} stands for the unit's name; `-` for an automatic name.
        activation: name of a function, or a function from a layer's name to the layer.
        norm, conv: arguments of all normalisations and of all convolutions.
        axis: how the family writes the channels' axis.
        pad: name of the padding before strided depthwise convolutions, none where it is empty.
        depthwise: names of a depthwise unit in a block, where {0} is the block's prefix.
        entry_first: whether a block's input comes first in its sum.
        fused: whether one convolution stands for the first two in a block.
    """

    names: str = "{0}_conv {0}_bn {0}_relu"
    activation: str | Callable[[str | None], Any] = "relu"
    norm: dict[str, Any] = field(default_factory=dict)
    conv: dict[str, Any] = field(default_factory=lambda: {"use_bias": False})
    axis: int = -1
    pad: str = ""
    depthwise: str = ""
    entry_first: bool = True
    fused: bool = False

    def normalised(self, x: Any, name: str | None) -> Any:
        return layers.BatchNormalization(axis=channel_axis(self.axis), name=name, **self.norm)(x)

    def activated(self, x: Any, name: str | None = None) -> Any:
        made = self.activation
        return (layers.Activation(made, name=name) if isinstance(made, str) else made(name))(x)

    def concatenated(self, parts: list[Any], name: str | None = None) -> Any:
        return layers.Concatenate(axis=channel_axis(self.axis), name=name)(parts)

    def unit(
        self, x: Any, name: str, filters: Any, kernel: Any = 1, strides: int = 1, padding: str = "same", **how: Any
    ) -> Any:
        """A convolution (depthwise where `filters` is None), its normalisation and its activation.

        Further arguments: `active=False` for no activation, `names` in place of the style's, `kind` of the convolution
        in place of `Conv2D`, and others of the convolution.
        """
        active, names, kind = how.pop("active", True), how.pop("names", self.names), how.pop("kind", layers.Conv2D)
        conv, norm, act = [None if n == "-" else n.format(name) for n in names.split()]
        how = {**self.conv, "strides": strides, "padding": padding, "name": conv, **how}
        if filters is None and "kernel_initializer" in how:
            how["depthwise_initializer"] = how.pop("kernel_initializer")
        x = (kind(filters, kernel, **how) if filters else layers.DepthwiseConv2D(kernel, **how))(x)
        x = self.normalised(x, norm)
        return self.activated(x, act) if active else x

    def path(self, x: Any, text: str) -> Any:
        """Layers one after the other, from words.

        `64` is a unit of 64 filters, `64:3` one with a 3 x 3 kernel, `64:1x7` with one of that height and width,
        `64:3/2` with strides of 2 and without padding, `64:3v` without padding; `384:1x3+3x1=name` two units beside
        each other, concatenated under that name (`-` for an automatic one).  `max` takes the maximum of 3 x 3 with
        strides of 2, `avg` the mean of 3 x 3.
        """
        for word in text.split():
            if word == "max":
                x = layers.MaxPooling2D(3, strides=2)(x)
            elif word == "avg":
                x = layers.AveragePooling2D(3, strides=1, padding="same")(x)
            else:
                filters, kernels, ending, name = _WORD.fullmatch(word).groups()  # type: ignore[union-attr]
                sizes = [[int(size) for size in kernel.split("x")] for kernel in (kernels or "1").split("+")]
                how = (2 if ending == "/2" else 1, "valid" if ending else "same")
                parts = [self.unit(x, "-", int(filters), s * (3 - len(s)), *how, names="- - -") for s in sizes]
                x = self.concatenated(parts, None if name == "-" else name) if name else parts[0]
        return x

    def branches(self, x: Any, text: str, name: str) -> Any:
        """Paths from the same input, between bars, and their concatenation."""
        return self.concatenated([self.path(x, branch) for branch in text.split("|")], name)

    def inverted(
        self, x: Any, prefix: str, filters: int, expanded: Any, window: Any, squeeze: Any = None, drop: float = 0.0
    ) -> Any:
        """An inverted residual block: more channels, a depthwise convolution, attention to channels, fewer channels.

        Args:
            x: the input.
            prefix: of the layers' names.
            filters, expanded: channels of the output, and between; None where the input is not expanded.
            window: kernel and strides of the depthwise convolution.
            squeeze: the attention to channels, a function or None.
            drop: probability that the block counts for nothing, in training.

        Source: Sandler et al. 2018, MobileNetV2; fused blocks: Tan and Le 2021, EfficientNetV2.
        """
        entry, (kernel, strides), whole = x, window, self.fused and not expanded
        if expanded:
            x = self.unit(x, f"{prefix}expand", expanded, *(window if self.fused else ()))
        padding = "same"
        if strides == 2 and self.pad:
            x, padding = layers.ZeroPadding2D(correct_pad(x, kernel), name=prefix + self.pad)(x), "valid"
        if not self.fused and self.depthwise:
            x = self.unit(x, prefix, None, kernel, strides, padding, names=self.depthwise)
        elif not self.fused:
            x = self.unit(x, f"{prefix}depthwise", None, kernel, strides, padding)
        x = squeeze(x) if squeeze else x
        x = self.unit(x, f"{prefix}project", filters, *(window if whole else ()), active=whole)
        if strides == 1 and entry.shape[channel_axis()] == filters:
            if drop:
                x = layers.Dropout(drop, noise_shape=(None, 1, 1, 1), name=f"{prefix}drop")(x)
            x = layers.Add(name=f"{prefix}add")([entry, x] if self.entry_first else [x, entry])
        return x


_WORD = re.compile(r"(\d+)(?::([\dx+]+))?(/2|v)?(?:=(\S+))?")
