"""Networks whose blocks have branches: Inception v3, Inception-ResNet v2, NASNet."""

from __future__ import annotations

from typing import Any

from minikeras import layers
from minikeras.applications.blocks import Style, channel_axis, correct_pad
from minikeras.layers.residual import CustomScaleLayer

_INCEPTION = Style("{0} {0}_bn {0}_ac", norm={"scale": False}, axis=3)
_STEM = "32:3/2 32:3v 64:3 max 80:1v 192:3v max"  # `Style.path` explains the words
_NAS = Style(norm={"momentum": 0.9997, "epsilon": 1e-3}, conv={"use_bias": False, "kernel_initializer": "he_normal"})
_SEPARABLE = Style(norm=_NAS.norm)


def _seven(n: int) -> str:
    return f"192 | {n} {n}:1x7 192:7x1 | {n} {n}:7x1 {n}:1x7 {n}:7x1 192:1x7 | avg 192"


_MIXED = (
    *(f"64 | 48 64:5 | 64 96:3 96:3 | avg {n}" for n in (32, 64, 64)),
    "384:3/2 | 64 96:3 96:3/2 | max",
    *(_seven(n) for n in (128, 160, 160, 192)),
    "192 320:3/2 | 192 192:1x7 192:7x1 192:3/2 | max",
    *(f"320 | 384 384:1x3+3x1=mixed9_{i} | 448 384:3 384:1x3+3x1=- | avg 192" for i in range(2)),
)
# name, branches, then for how many residual blocks: their name, scale and branches
_RESIDUAL = (
    ("mixed_5b", "96 | 48 64:5 | 64 96:3 96:3 | avg 64", 10, "block35", 0.17, "32 | 32 32:3 | 32 48:3 64:3"),
    ("mixed_6a", "384:3/2 | 256 256:3 384:3/2 | max", 20, "block17", 0.1, "192 | 128 160:1x7 192:7x1"),
    ("mixed_7a", "256 384:3/2 | 256 288:3/2 | 256 288:3 320:3/2 | max", 10, "block8", 0.2, "192 | 192 224:1x3 256:3x1"),
)


def inception_v3(x: Any, a: Any) -> Any:
    """Blocks of branches with kernels of several sizes."""
    x = _INCEPTION.path(x, _STEM)
    for i, text in enumerate(_MIXED):
        x = _INCEPTION.branches(x, text, f"mixed{i}")
    return x


def inception_resnet_v2(x: Any, a: Any) -> Any:
    """Blocks of branches that are added to their input, after a few that are not."""
    style = _INCEPTION
    x = style.path(x, _STEM)
    for mixed, text, count, block, scale, inner in _RESIDUAL:
        x = style.branches(x, text, mixed)
        for i in range(1, count + 1):
            name, last = f"{block}_{i}", block == "block8" and i == count
            y = style.branches(x, inner, f"{name}_mixed")
            y = layers.Conv2D(x.shape[channel_axis()], 1, padding="same", name=f"{name}_conv")(y)
            x = CustomScaleLayer(1.0 if last else scale)([x, y])
            x = x if last else style.activated(x, f"{name}_ac")
    return style.unit(x, "conv_7b", 1536)


# A cell's sums: two operands, each the name of a tensor, what is done with it (a separable convolution, a mean or a
# maximum, with its kernel, `/` for strides of 2) and the layers' name, then the name of the sum, which is x1, x2, ...
_NORMAL = """
h sep5 left1  p sep3 right1  add_1
p sep5 left2  p sep3 right2  add_2
h avg left3   p - -          add_3
p avg left4   p avg right4   add_4
h sep3 left5  h - -          add_5
"""
_REDUCTION = """
h sep5/ left1   p sep7/ right1  add_1
h3 max/ left2   p sep7/ right2  add_2
h3 avg/ left3   p sep5/ right3  add3
x2 - -          x1 avg left4    -
x1 sep3 left4   h3 max/ right5  add4
"""


def nasnet(x: Any, a: Any) -> Any:
    """Cells found by a search, `a.blocks` of them between reductions."""
    filters, blocks = a.filters // 24, a.blocks
    before, x = None, _NAS.unit(x, "", a.stem_filters, 3, 2, "valid", active=False, names="stem_conv1 stem_bn1 -")
    plan = [("stem_1", 0.25, True), ("stem_2", 0.5, True)]
    for stage in range(3):
        if stage:
            plan.append((f"reduce_{stage * blocks}", 2**stage, True))
        plan += [(f"{stage * blocks + i + (stage > 0)}", 2**stage, False) for i in range(blocks)]
    for name, factor, reduces in plan:
        entry, x = x, _cell(x, before, int(filters * factor), name, reduces)
        # the larger network takes what was before a reduction as the other input of the next cell
        before = before if a.skips and name.startswith("reduce") else entry
    return layers.Activation("relu")(x)


def _cell(x: Any, before: Any, filters: int, name: str, reduces: bool) -> Any:
    kind = "reduction" if reduces else "normal"
    p = _adjusted(before, x, filters, name)
    names = f"{kind}_conv_1_{name} {kind}_bn_1_{name} -"
    known = {"p": p, "h": _NAS.unit(_NAS.activated(x), "", filters, active=False, names=names)}
    if reduces:
        known["h3"] = layers.ZeroPadding2D(correct_pad(x, 3), name=f"reduction_pad_1_{name}")(known["h"])
    for i, row in enumerate((_REDUCTION if reduces else _NORMAL).split("\n")[1:-1], 1):
        *operands, total = row.split()
        parts = [
            _operand(known[operands[j]], operands[j + 1], filters, f"{kind}_{operands[j + 2]}_{name}") for j in (0, 3)
        ]
        known[f"x{i}"] = layers.Add(name=None if total == "-" else f"{kind}_{total}_{name}")(parts)
    ends = ("x2", "x3", "x4", "x5") if reduces else ("p", "x1", "x2", "x3", "x4", "x5")
    return _NAS.concatenated([known[end] for end in ends], f"{kind}_concat_{name}")


def _operand(x: Any, what: str, filters: int, name: str) -> Any:
    strides = 2 if what.endswith("/") else 1
    if what.startswith(("avg", "max")):
        make = layers.AveragePooling2D if what.startswith("avg") else layers.MaxPooling2D
        return make(3, strides=strides, padding="valid" if strides == 2 else "same", name=name)(x)
    kernel = int(what[3]) if what != "-" else 0
    for i in (1, 2) if kernel else ():
        x, how = _NAS.activated(x), (1, "same")
        if i == 1 and strides == 2:
            x = layers.ZeroPadding2D(correct_pad(x, kernel), name=f"separable_conv_1_pad_{name}")(x)
            how = (2, "valid")
        names = f"separable_conv_{i}_{name} separable_conv_{i}_bn_{name} -"
        x = _SEPARABLE.unit(x, "", filters, kernel, *how, active=False, names=names, kind=layers.SeparableConv2D)
    return x


def _adjusted(p: Any, x: Any, filters: int, name: str) -> Any:
    """The output of the cell before the last, with the sizes of that of the last."""
    if p is None:
        return x
    if p.shape[-2] != x.shape[-2]:
        p = _NAS.activated(p, f"adjust_relu_1_{name}")
        shifted = layers.Cropping2D(((1, 0), (1, 0)))(layers.ZeroPadding2D(((0, 1), (0, 1)))(p))
        halves = []
        for i, half in enumerate((p, shifted), 1):
            half = layers.AveragePooling2D(1, strides=2, name=f"adjust_avg_pool_{i}_{name}")(half)
            conv = layers.Conv2D(filters // 2, 1, padding="same", name=f"adjust_conv_{i}_{name}", **_NAS.conv)
            halves.append(conv(half))
        return _NAS.normalised(_NAS.concatenated(halves), f"adjust_bn_{name}")
    if p.shape[-1] != filters:
        names = f"adjust_conv_projection_{name} adjust_bn_{name} -"
        return _NAS.unit(_NAS.activated(p), "", filters, active=False, names=names)
    return p
