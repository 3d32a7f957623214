"""Windows of pictures taken out and put back, depth against width and height, distances, and normalised vectors."""

from __future__ import annotations

import itertools
import math
from typing import Any

from minikeras import config
from minikeras import kernels as k
from minikeras.autodiff import shapes
from minikeras.autodiff.op import composite, differentiable
from minikeras.ops import elementwise as ew
from minikeras.ops import reduction
from minikeras.ops.core import convert_to_tensor
from minikeras.ops.shaping import expand_dims, reshape, transpose
from minikeras.utils.checks import whole

KERAS_MODULE = "keras.src.ops.nn"


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


class _Windows:
    """Where the windows of a picture lie: for each tap, the rows and columns that it sees."""

    def __init__(self, size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any):
        self.pads, self.size = _pair(padding), _pair(size)
        self.kernel = _pair(kernel_size)
        spread, steps = _pair(dilation), _pair(stride)
        self.counts: list[Any] = []
        self.taps: list[list[slice]] = []
        for n, taps, apart, step, pad in zip(self.size, self.kernel, spread, steps, self.pads, strict=True):
            count = None if n is None else (n + 2 * pad - apart * (taps - 1) - 1) // step + 1
            if count is not None and count < 1:
                raise ValueError(
                    f"Windows of {taps} values do not fit into {n} with padding {pad}; choose smaller ones."
                )
            self.counts.append(count)
            last = step * ((count or 1) - 1) + 1
            self.taps.append([slice(apart * i, apart * i + last, step) for i in range(taps)])

    def take(self, x: Any) -> Any:
        """(n, channels, *size) as (n, channels * taps, windows)."""
        x = k.xp.pad(x, [(0, 0), (0, 0), *[(pad, pad) for pad in self.pads]])
        parts = [x[:, :, rows, columns] for rows, columns in itertools.product(*self.taps)]
        return k.stack(parts, 2).reshape(len(x), x.shape[1] * len(parts), math.prod(self.counts))

    def add(self, y: Any) -> Any:
        """(n, channels * taps, windows) added up to (n, channels, *size): the transpose of `take`."""
        taps = self.kernel[0] * self.kernel[1]
        y = y.reshape(len(y), y.shape[1] // taps, taps, *self.counts)
        padded = [n + 2 * pad for n, pad in zip(self.size, self.pads, strict=True)]
        x = k.xp.zeros((*y.shape[:2], *padded), y.dtype)
        for i, (rows, columns) in enumerate(itertools.product(*self.taps)):
            x[:, :, rows, columns] += y[:, :, i]
        (top, left), (height, width) = self.pads, self.size
        return x[:, :, top : top + height, left : left + width]


def _unfold_shape(x: Any, *, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Any:
    windows = _Windows(x.shape[2:], kernel_size, dilation, padding, stride)
    channels = None if x.shape[1] is None else x.shape[1] * windows.kernel[0] * windows.kernel[1]
    return shapes.Spec((x.shape[0], channels, shapes.size_of(windows.counts)), x.dtype)


def _unfold_gradient(x: Any, *settings: Any, **named: Any) -> Any:
    return lambda g, needs: (fold(g, x.shape[2:], *settings, **named),)


@differentiable(inputs=1, shape=_unfold_shape, gradient=_unfold_gradient)
def unfold(x: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """The windows of pictures (n, channels, height, width), as columns (n, channels * window, number of windows).

    Args:
        kernel_size, dilation, padding, stride: one number or a pair for height and width: values in a window, how far
            apart they are, zeros around the picture, and how far apart windows are.
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.unfold(ops.ones((1, 2, 4, 4)), 2).shape
    (1, 8, 9)
    """
    windows = _Windows(x.shape[2:], kernel_size, dilation, padding, stride)
    return windows.take(x), lambda g, needs: (windows.add(g),)


def _fold_shape(x: Any, *, output_size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Any:
    windows = _Windows(output_size, kernel_size, dilation, padding, stride)
    taps, count = windows.kernel[0] * windows.kernel[1], windows.counts[0] * windows.counts[1]
    if len(x.shape) != 3 or (x.shape[1] or 0) % taps or x.shape[2] not in (None, count):
        raise ValueError(f"fold takes (n, channels * {taps}, {count}) for these windows, got the shape {x.shape}.")
    return shapes.Spec((x.shape[0], None if x.shape[1] is None else x.shape[1] // taps, *windows.size), x.dtype)


def _fold_gradient(x: Any, output_size: Any, *settings: Any, **named: Any) -> Any:
    return lambda g, needs: (unfold(g, *settings, **named),)


@differentiable(inputs=1, shape=_fold_shape, gradient=_fold_gradient)
def fold(x: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """Windows as `unfold` returns them, put back where they were; where several overlap they add up.

    Args:
        output_size: height and width of the pictures.
        kernel_size, dilation, padding, stride: as for `unfold`.
        x: tensor, array or number.

    Raises:
        ValueError: where these are not the windows of such pictures.

    >>> from minikeras import ops
    >>> ops.fold(ops.ones((1, 4, 2)), (2, 3), 2).numpy().tolist()
    [[[[1.0, 2.0, 1.0], [1.0, 2.0, 1.0]]]]
    """
    settings = {"kernel_size": kernel_size, "dilation": dilation, "padding": padding, "stride": stride}
    _fold_shape(x, output_size=output_size, **settings)
    windows = _Windows(output_size, **settings)
    return windows.add(x), lambda g, needs: (windows.take(g),)


def _blocks_shape(x: Any, block_size: int, data_format: str, deep: bool) -> Any:
    """The shape once blocks are taken out of the channels (`deep`), or out of height and width."""
    if x.ndim != 4 or data_format not in ("channels_last", "channels_first"):
        raise ValueError(
            "Blocks are rearranged in pictures (four axes) with data_format 'channels_last' or 'channels_first', got "
            f"the shape {tuple(x.shape)} and {data_format!r}."
        )
    block_size = whole("block_size", block_size, 1, owner="A rearrangement of blocks")
    channels = 3 if data_format == "channels_last" else 1
    sizes: list[int | None] = [x.shape[0]]
    for axis in (1, 2, 3):
        size, factor = x.shape[axis], block_size**2 if axis == channels else block_size
        if size is not None and (axis == channels) == deep:
            size, rest = divmod(size, factor)
            if rest:
                raise ValueError(
                    f"The shape {tuple(x.shape)} is not made up of blocks of {block_size}; pad or crop it."
                )
        elif size is not None:
            size *= factor
        sizes.append(size)
    return shapes.Spec(tuple(sizes), getattr(x, "dtype", None))


@composite(inputs=1, shape=lambda x, *, block_size, data_format: _blocks_shape(x, block_size, data_format, deep=True))
def depth_to_space(x: Any, block_size: int, data_format: str = "channels_last") -> Any:
    """The `block_size**2` channels of a pixel as a block of so many rows and columns, four axes in all.

    Args:
        x: tensor, array or number.
        data_format: `"channels_last"` or `"channels_first"`, default the global one.

    Raises:
        ValueError: where the channels do not make up whole blocks.

    >>> from minikeras import ops
    >>> ops.depth_to_space([[[[1, 2, 3, 4]]]], 2)[0, :, :, 0].numpy().tolist()
    [[1, 2], [3, 4]]
    """
    x, b = convert_to_tensor(x), block_size
    n, *sizes = _blocks_shape(x, b, data_format, deep=True).shape
    if data_format == "channels_last":
        x = transpose(reshape(x, (*x.shape[:3], b, b, sizes[2])), (0, 1, 3, 2, 4, 5))
    else:
        x = transpose(reshape(x, (n, sizes[0], b, b, *x.shape[2:])), (0, 1, 4, 2, 5, 3))
    return reshape(x, (n, *sizes))


@composite(inputs=1, shape=lambda x, *, block_size, data_format: _blocks_shape(x, block_size, data_format, deep=False))
def space_to_depth(x: Any, block_size: int, data_format: str = "channels_last") -> Any:
    """Blocks of `block_size` rows and columns as one pixel with `block_size**2` as many channels, four axes in all.

    Args:
        x: tensor, array or number.
        data_format: `"channels_last"` or `"channels_first"`, default the global one.

    Raises:
        ValueError: where height and width are not made up of whole blocks.

    >>> from minikeras import ops
    >>> ops.space_to_depth([[[[1], [2]], [[3], [4]]]], 2).numpy().tolist()
    [[[[1, 2, 3, 4]]]]
    """
    x, b = convert_to_tensor(x), block_size
    n, *sizes = _blocks_shape(x, b, data_format, deep=False).shape
    if data_format == "channels_last":
        x = transpose(reshape(x, (n, sizes[0], b, sizes[1], b, x.shape[3])), (0, 1, 3, 2, 4, 5))
    else:
        x = transpose(reshape(x, (n, x.shape[1], sizes[1], b, sizes[2], b)), (0, 1, 3, 5, 2, 4))
    return reshape(x, (n, *sizes))


# ---------------------------------------------------------------- distances and lengths


def _cdist_shape(x: Any, y: Any) -> Any:
    if x.ndim < 2 or y.ndim < 2 or (None not in (x.shape[-1], y.shape[-1]) and x.shape[-1] != y.shape[-1]):
        raise ValueError(f"cdist takes points (..., m, d) and (..., n, d), got the shapes {x.shape} and {y.shape}.")
    return (*shapes.broadcast_shapes(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-2])


@composite(shape=_cdist_shape, keras="keras.src.ops.math.CDist")
def cdist(x: Any, y: Any) -> Any:
    """The distances (..., m, n) of points (..., m, d) from points (..., n, d); the gradient at a distance of 0 is 0.

    Args:
        x: tensor, array or number.
        y: tensor, array or number; both broadcast together.

    >>> from minikeras import ops
    >>> ops.cdist([[0.0, 0.0]], [[3.0, 4.0]]).numpy().tolist()
    [[5.0]]
    """
    x, y = convert_to_tensor(x), convert_to_tensor(y)
    _cdist_shape(x, y)
    return reduction.norm(ew.subtract(expand_dims(x, -2), expand_dims(y, -3)), axis=-1)


def _psnr_shape(x1: Any, x2: Any, *, max_val: Any) -> Any:
    if not shapes.agree(x1.shape, x2.shape):
        raise ValueError(f"psnr compares signals of one shape, got {tuple(x1.shape)} and {tuple(x2.shape)}.")
    return ()


@composite(inputs=2, shape=_psnr_shape, keras="keras.src.ops.nn.PSNR")
def psnr(x1: Any, x2: Any, max_val: Any) -> Any:
    """The peak signal-to-noise ratio in decibels, `10 log10(max_val**2 / mean((x1 - x2)**2))`.

    Args:
        max_val: the largest value that the signals may have.

    Raises:
        ValueError: for signals of different shapes.

    >>> from minikeras import ops
    >>> ops.psnr([0.0, 0.0], [1.0, 1.0], 10.0).numpy().tolist()
    20.0
    """
    x1, x2 = convert_to_tensor(x1), convert_to_tensor(x2)
    _psnr_shape(x1, x2, max_val=max_val)
    error = reduction.mean(ew.square(ew.subtract(x1, x2)))
    return ew.subtract(20 * math.log10(float(max_val)), ew.multiply(ew.log10(error), 10))


@composite(inputs=1, shape=lambda x, **settings: x.shape or (1,))
def normalize(x: Any, axis: Any = -1, order: int = 2, epsilon: float | None = None) -> Any:
    """`x` over its norm along an axis or several.

    Args:
        order: of the norm, a whole number from 1 on.
        epsilon: the norm counts as this at least, default `config.epsilon()`.

    Raises:
        ValueError: for another order.

    >>> from minikeras import ops
    >>> ops.normalize([3.0, 4.0]).numpy().round(4).tolist()
    [0.6000000238418579, 0.800000011920929]
    """
    if not isinstance(order, int) or order < 1:
        raise ValueError(f"normalize takes a whole number >= 1 as order, got {order!r}.")
    x = convert_to_tensor(x)
    x = x if x.ndim else reshape(x, (1,))
    epsilon = config.epsilon() if epsilon is None else epsilon
    length = reduction.norm(x, None if order == 2 else order, axis, keepdims=True)
    return ew.divide(x, ew.maximum(length, epsilon))
