"""Attention: with heads (Vaswani et al. 2017), with groups of heads, and the simpler ones of Luong and Bahdanau."""

from __future__ import annotations

import math
import string
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any

from minikeras import kernels as k
from minikeras import ops, regularizers
from minikeras.autodiff import KerasTensor, Tensor
from minikeras.declared import OneOf, Whole
from minikeras.layers.activation import Softmax
from minikeras.layers.common import axis_of, sizes_argument
from minikeras.layers.einsum import EinsumDense, project
from minikeras.layers.fields import Constraint, Initializer, Positive, Rate, Regularizer, declared, field, group
from minikeras.layers.layer import Layer
from minikeras.layers.regularization import Dropout
from minikeras.ops import nn
from minikeras.ops.attention import attention
from minikeras.seeds import SeedGenerator
from minikeras.utils.checks import whole

_LETTERS = string.ascii_letters
_SHARED = ("kernel_regularizer", "bias_regularizer", "kernel_constraint", "bias_constraint")  # by all projections


PositiveOrNone = Annotated[int | None, Whole(1, optional=True)]


@group
class Projected:
    """The last arguments of the layers with heads."""

    sliding_window: PositiveOrNone = None
    flash_attention: Any = None
    kernel_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None
    if not TYPE_CHECKING:  # see `Layer`
        activity_regularizer: Regularizer = None
    kernel_constraint: Constraint = None
    bias_constraint: Constraint = None
    use_gate: bool = False
    seed: Any = None


class HeadAttention(Projected, Layer):
    """What the layers with heads share: four projections, the masks, and the attention between them.

    The projections are layers of their own, `EinsumDense`, called query, key, value, gate and attention_output.
    """

    supports_masking = True
    _dropout_layer: Any
    _takes_masks = False  # whether the query's own mask counts, not the argument, and the inputs lose theirs

    dropout: float
    use_bias: bool

    def __post_init__(self) -> None:
        if self.flash_attention and self.dropout > 0:
            raise ValueError(
                f"{type(self).__name__} has no dropout with flash_attention, got {self.dropout!r}; leave one out."
            )
        # it is the projections' penalty
        self._activity_regularizer, self.activity_regularizer = self.activity_regularizer, None

    def _projection(
        self, name: str, input_shape: Any, output_shape: tuple[int, ...], axes: int = 1, activation: Any = None
    ) -> EinsumDense:
        """A built layer that sums over the last `axes` axes."""
        rank = len(input_shape)
        letters, made = _LETTERS[:rank], _LETTERS[rank : rank + len(output_shape)]
        kept = rank - axes
        layer = EinsumDense(
            f"{letters},{letters[kept:]}{made}->{letters[:kept]}{made}",
            (None,) * (kept - 1) + output_shape,
            activation=activation,
            bias_axes=made if self.use_bias else None,
            name=name,
            kernel_initializer=_another(self.kernel_initializer),
            bias_initializer=_another(self.bias_initializer),
            activity_regularizer=self._activity_regularizer,
            dtype=self.dtype_policy,
            **{name: getattr(self, name) for name in _SHARED},
        )
        layer.build(input_shape)
        return layer

    def _projections(self) -> tuple[EinsumDense, EinsumDense, EinsumDense, EinsumDense, EinsumDense | None]:
        """The layers for query, key, value, output and (or None) gate."""
        raise NotImplementedError(f"{type(self).__name__} does not define _projections(); return the layers there.")

    def call(
        self,
        query: Any,
        value: Any,
        key: Any = None,
        query_mask: Any = None,
        value_mask: Any = None,
        key_mask: Any = None,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        training: Any = None,
        use_causal_mask: bool = False,
    ) -> Any:
        if self.flash_attention and return_attention_scores:
            self._refuse("has no scores to return with flash_attention=True")
        key = value if key is None else key
        in_kernel = use_causal_mask and query.ndim == 3 and not self._attends_differently()
        if self._takes_masks:
            query_mask = query._keras_mask
            query._keras_mask = value._keras_mask = key._keras_mask = None
        masks = query_mask, value_mask, key_mask, attention_mask
        mask = self._mask(query.shape[1], value.shape[1], *masks, use_causal_mask and not in_kernel)
        query_dense, key_dense, value_dense, output_dense, gate_dense = self._projections()
        made: dict[EinsumDense, Any] = {}
        asked = [(query, query_dense), (key, key_dense), (value, value_dense)]
        if gate_dense is not None:
            asked.append((query, gate_dense))
        while asked:
            x = asked[0][0]
            layers = [layer for one, layer in asked if one is x]
            made.update(zip(layers, project(x, layers), strict=True))
            asked = [pair for pair in asked if pair[0] is not x]
        projected = made[query_dense], made[key_dense], made[value_dense]
        causal: Any = {"use_causal_mask": True} if in_kernel else {}
        y, scores = self._compute_attention(*projected, mask, training, return_attention_scores, **causal)
        if gate_dense is not None:
            y = ops.multiply(y, made[gate_dense])
        y = output_dense(y)
        return (y, scores) if return_attention_scores else y

    def _attends_differently(self) -> bool:
        """Whether a subclass has a way of its own to attend."""
        known = HeadAttention._compute_attention, MultiHeadAttention._compute_attention
        return type(self)._compute_attention not in known

    def _mask(
        self,
        steps: int,
        sources: int,
        query_mask: Any,
        value_mask: Any,
        key_mask: Any,
        attention_mask: Any,
        causal: bool,
    ) -> Any:
        """What may be attended to: all masks that there are as one (batch, steps, sources), or None."""
        parts = [] if attention_mask is None else [_bools(attention_mask)]
        if query_mask is not None:
            parts.append(_bools(query_mask)[..., None])
        parts += [_bools(one)[..., None, :] for one in (value_mask, key_mask) if one is not None]
        if causal:
            parts.append(k.xp.tri(steps, sources, dtype=bool)[None])
        if self.sliding_window is not None:
            distance = k.xp.arange(steps)[:, None] - k.xp.arange(sources)
            parts.append((k.xp.abs(distance) < self.sliding_window)[None])
        if not parts:
            return None
        mask = parts[0]
        for part in parts[1:]:
            mask = k.xp.logical_and(mask, part)
        return Tensor(mask)

    def _compute_attention(
        self,
        query: Any,
        key: Any,
        value: Any,
        attention_mask: Any = None,
        training: Any = None,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> tuple[Any, Any]:
        """(what the heads make of their projections, the scores or None); a subclass may attend differently."""
        mask = None if attention_mask is None else _bools(attention_mask)
        while mask is not None and mask.ndim < 4:
            mask = mask[None] if mask.ndim < 3 else mask[:, None]
        keep = None
        if training and self.dropout > 0:
            shape = (query.shape[0], query.shape[2], query.shape[1], key.shape[1])
            keep = self._dropout_layer._draw("dropout_mask", shape, float(self.dropout))
        result = attention(
            query,
            key,
            value,
            scale=1 / math.sqrt(query.shape[-1]),
            mask=mask,
            causal=use_causal_mask,
            keep=keep,
            keep_scale=1 / (1 - self.dropout) if self.dropout < 1 else 1.0,
            zero_empty=self.dropout > 0 or return_attention_scores,  # as Keras's two ways of computing have it
            return_weights=return_attention_scores,
        )
        return result if return_attention_scores else (result, None)

    def compute_output_spec(
        self,
        query: Any,
        value: Any,
        key: Any = None,
        query_mask: Any = None,
        value_mask: Any = None,
        key_mask: Any = None,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        training: Any = None,
        use_causal_mask: bool = False,
    ) -> Any:
        shapes = [None if one is None else one.shape for one in (query, value, key)]
        shape: Any = type(self).compute_output_shape(self, *shapes)
        output = KerasTensor(shape, self.compute_dtype)
        if not return_attention_scores:
            return output
        heads = self._projections()[0].kernel.shape[1]
        return output, KerasTensor((query.shape[0], heads, query.shape[1], value.shape[1]), self.compute_dtype)

    def _check_shapes(self, query_shape: Any, value_shape: Any, key_shape: Any) -> None:
        if tuple(value_shape[1:-1]) != tuple(key_shape[1:-1]):
            self._refuse(
                f"needs a value and a key that differ in their last axis at most, got the shapes {tuple(value_shape)} "
                f"and {tuple(key_shape)}"
            )

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("flash_attention", None)
        return {**config, "activity_regularizer": regularizers.serialize(self._activity_regularizer)}


def _attention_axes(layer: HeadAttention, name: str, value: Any) -> Any:
    if value is None:
        return None
    axes = value if isinstance(value, (list, tuple)) else (value,)
    return tuple(whole(name, axis, owner="MultiHeadAttention") for axis in axes)


@group
class SeveralHeads:
    """The first arguments of `MultiHeadAttention`."""

    num_heads: Positive[int]
    key_dim: Positive[int]
    value_dim: Annotated[Any, Whole(1, optional=True)] = None
    dropout: Rate = 0.0
    use_bias: bool = True
    output_shape: Any = field(default=None, stored=False)
    attention_axes: Annotated[Any, _attention_axes] = None


@declared
class MultiHeadAttention(HeadAttention, SeveralHeads):
    """Several heads, each with its own projections of query, key and value (Vaswani et al. 2017).

    Called with a query (batch, steps, features), a value (batch, sources, features) and, if it is not the value, a key
    like it; the output is shaped like the query.  Masks of the inputs are heeded, and the
    output has that of the query; the inputs themselves have none afterwards, as in Keras.

    Args:
        num_heads: number of heads.
        key_dim, value_dim: sizes of a head's query and key, and of its value; by default equal.
        dropout: the part of the weights that training drops.
        use_bias: whether the projections have biases.
        output_shape: size or shape of the output's features, default the query's.
        attention_axes: the axes of steps, default all between batch and features.
        sliding_window: how far steps may look, 1 for themselves alone; default any distance.
        flash_attention: accepted for familiarity; there is one way of computing.
        kernel_initializer, bias_initializer: of the projections, default `"glorot_uniform"` and `"zeros"`.
        kernel_regularizer, bias_regularizer, activity_regularizer: penalties of the projections, default none.
        kernel_constraint, bias_constraint: projections after each update, default none.
        use_gate: whether a further projection of the query, through a sigmoid, multiplies what the heads make.
        seed: whole number for the same dropout in every run, default drawn from the global stream.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> x = np.ones((2, 5, 8))
    >>> y, scores = layers.MultiHeadAttention(num_heads=2, key_dim=4)(x, x, return_attention_scores=True)
    >>> y.shape, scores.shape
    ((2, 5, 8), (2, 2, 5, 5))
    """

    _takes_masks = True  # as in Keras: what is added to the output afterwards has no mask

    def __post_init__(self, output_shape: Any) -> None:  # type: ignore[override]
        super().__post_init__()
        self.value_dim = self.value_dim or self.key_dim
        self._output_shape = None
        if output_shape is not None:
            self._output_shape = sizes_argument(self, "output_shape", output_shape) or None

    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:
        key_shape = value_shape if key_shape is None else key_shape
        self._check_shapes(query_shape, value_shape, key_shape)
        rank = len(query_shape)
        axes = range(1, rank - 1) if self.attention_axes is None else self.attention_axes
        attention_axes = tuple(axis_of(self, axis, rank, least=1, input_shape=query_shape) for axis in axes)
        if not attention_axes or len(set(attention_axes)) < len(attention_axes) or rank - 1 in attention_axes:
            self._refuse(
                "attends along axes between batch and features, each named once, got "
                f"attention_axes={self.attention_axes!r} for a query of shape {tuple(query_shape)}"
            )
        self.attention_axes = attention_axes
        heads = (self.num_heads, self.key_dim)
        self.query_dense = self._projection("query", query_shape, heads)
        self.key_dense = self._projection("key", key_shape, heads)
        values = (self.num_heads, self.value_dim)
        if self.use_gate:
            self._gate_dense = self._projection("gate", query_shape, values, activation="sigmoid")
        self.value_dense = self._projection("value", value_shape, values)
        self._softmax = Softmax(tuple(range(-len(self.attention_axes), 0)), dtype=self.dtype_policy)
        self._dropout_layer = Dropout(self.dropout, seed=self.seed, dtype=self.dtype_policy)
        output_shape = self._output_shape or (query_shape[-1],)
        self.output_dense = self._projection("attention_output", (*query_shape[:-1], *values), output_shape, axes=2)

    # what code written for Keras calls them
    _query_dense = property(attrgetter("query_dense"))
    _key_dense = property(attrgetter("key_dense"))
    _value_dense = property(attrgetter("value_dense"))
    _output_dense = property(attrgetter("output_dense"))

    def _projections(self) -> Any:
        gate = self._gate_dense if self.use_gate else None
        return self.query_dense, self.key_dense, self.value_dense, self.output_dense, gate

    def _compute_attention(
        self,
        query: Any,
        key: Any,
        value: Any,
        attention_mask: Any = None,
        training: Any = None,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> tuple[Any, Any]:
        if query.ndim == 4:
            return super()._compute_attention(
                query, key, value, attention_mask, training, return_attention_scores, use_causal_mask
            )
        steps, sources, scores_of = self._axes_of_scores(query.ndim)
        scores = ops.einsum(f"{sources},{steps}->{scores_of}", key, ops.multiply(query, 1 / math.sqrt(self.key_dim)))
        if attention_mask is not None:
            while attention_mask.ndim < scores.ndim:
                attention_mask = ops.expand_dims(attention_mask, -2 * len(self.attention_axes) - 1)
        scores = self._softmax(scores, mask=attention_mask)
        used = self._dropout_layer(scores, training=training) if self.dropout > 0 else scores
        return ops.einsum(f"{scores_of},{sources}->{steps}", used, value), scores

    def _axes_of_scores(self, rank: int) -> tuple[str, str, str]:
        """The axes of queries, of keys and of scores, in letters."""
        steps = _LETTERS[:rank]
        sources = "".join(_LETTERS[rank + i] if i in self.attention_axes else steps[i] for i in range(rank))
        shared = [steps[i] for i in range(rank - 1) if i not in self.attention_axes]
        own = [letters[i] for letters in (steps, sources) for i in self.attention_axes]
        return steps, sources, "".join(shared + own)

    def compute_output_shape(  # type: ignore[override]
        self, query_shape: Any, value_shape: Any, key_shape: Any = None
    ) -> Any:
        self._check_shapes(query_shape, value_shape, value_shape if key_shape is None else key_shape)
        return (*query_shape[:-1], *(self._output_shape or query_shape[-1:]))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "output_shape": self._output_shape}


@group
class GroupedHeads:
    """The first arguments of `GroupedQueryAttention`."""

    head_dim: Positive[int]
    num_query_heads: Positive[int]
    num_key_value_heads: Positive[int]
    dropout: Rate = 0.0
    use_bias: bool = True


@declared
class GroupedQueryAttention(HeadAttention, GroupedHeads):
    """Attention whose heads share keys and values in groups (Ainslie et al. 2023); one group is multi-query attention.

    Called as `MultiHeadAttention`.

    Args:
        head_dim: size of a head.
        num_query_heads: number of heads.
        num_key_value_heads: number of groups, a divisor of the former.
        dropout, use_bias, sliding_window, flash_attention, use_gate, seed: as for `MultiHeadAttention`.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer,
        kernel_constraint, bias_constraint: of the projections, as for `MultiHeadAttention`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> x = np.ones((2, 5, 8))
    >>> layers.GroupQueryAttention(head_dim=4, num_query_heads=4, num_key_value_heads=2)(x, x).shape
    (2, 5, 8)
    """

    public_name = "GroupQueryAttention"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_query_heads % self.num_key_value_heads:
            raise ValueError(
                "GroupedQueryAttention needs num_query_heads that num_key_value_heads divides, got "
                f"{self.num_query_heads} and {self.num_key_value_heads}."
            )

    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:
        heads, shared = (self.num_query_heads, self.head_dim), (self.num_key_value_heads, self.head_dim)
        self._query_dense = self._projection("query", query_shape, heads)
        self._key_dense = self._projection("key", value_shape if key_shape is None else key_shape, shared)
        if self.use_gate:
            self._gate_dense = self._projection("gate", query_shape, heads, activation="sigmoid")
        self._value_dense = self._projection("value", value_shape, shared)
        self._dropout_layer = Dropout(self.dropout, seed=self.seed, dtype=self.dtype_policy)
        self._output_dense = self._projection("attention_output", (None, None, *heads), query_shape[-1:], axes=2)

    def _projections(self) -> Any:
        gate = self._gate_dense if self.use_gate else None
        return self._query_dense, self._key_dense, self._value_dense, self._output_dense, gate

    def compute_output_shape(  # type: ignore[override]
        self, query_shape: Any, value_shape: Any, key_shape: Any = None
    ) -> Any:
        self._check_shapes(query_shape, value_shape, value_shape if key_shape is None else key_shape)
        if query_shape[-1] != value_shape[-1]:
            self._refuse(
                f"needs a query and a value with equally many features, got the shapes {tuple(query_shape)} and "
                f"{tuple(value_shape)}"
            )
        return tuple(query_shape)


def _another(initializer: Any) -> Any:
    """An initializer of the same configuration, which without a seed draws other values."""
    if not hasattr(initializer, "get_config"):
        return initializer
    return type(initializer).from_config(initializer.get_config())


def _bools(mask: Any) -> Any:
    """A mask as a raw array."""
    return (mask.data if isinstance(mask, Tensor) else mask).astype(bool, copy=False)


# ---------------------------------------------------------------- without heads


_ScoreMode = Annotated[str, OneOf("dot", "concat")]


@declared
class Attention(Layer):
    """Dot-product attention (Luong et al. 2015): `softmax(query key^T) value`, of a list of these.

    The inputs are a query (batch, steps, features), a value (batch, sources, size) and, if it is not the value, a key
    (batch, sources, features).  Masked sources get no weight; what masked steps get is 0.

    Args:
        use_scale: whether a trained number multiplies the scores.
        score_mode: `"dot"`, or `"concat"` for a trained number times `sum(tanh(query + key))`.
        dropout: the part of the weights that training drops.
        seed: whole number for the same dropout in every run, default drawn from the global stream.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Attention()([np.ones((2, 3, 8)), np.ones((2, 5, 8))]).shape
    (2, 3, 8)
    """

    supports_masking = True

    use_scale: bool = False
    score_mode: _ScoreMode = "dot"
    dropout: Rate = 0.0
    seed: Any = None

    def __post_init__(self) -> None:
        self.scale: Any = None
        self.concat_score_weight: Any = None
        if self.dropout > 0:
            self.seed_generator = SeedGenerator(self.seed)

    def build(self, input_shape: Any) -> None:
        self._check_inputs(input_shape)
        if self.use_scale:
            self.scale = self.add_weight((), "ones", name="scale")
        if self.score_mode == "concat":
            self.concat_score_weight = self.add_weight((), "ones", name="concat_score_weight")

    def _calculate_scores(self, query: Any, key: Any) -> Any:
        """(batch, steps, sources) from the two; a subclass may have its own."""
        if self.score_mode == "dot":
            scores = ops.matmul(query, ops.swapaxes(key, -2, -1))
            return scores if self.scale is None else ops.multiply(scores, self.scale)
        sums = ops.add(ops.expand_dims(query, -2), ops.expand_dims(key, -3))
        sums = sums if self.scale is None else ops.multiply(sums, self.scale)
        return ops.multiply(ops.sum(ops.tanh(sums), axis=-1), self.concat_score_weight)

    def call(
        self,
        inputs: Any,
        mask: Any = None,
        training: Any = False,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        self._check_inputs(inputs, mask)
        query, value, key = (*inputs, inputs[1])[:3]
        query_mask, value_mask = mask[:2] if mask else (None, None)
        scores = self._calculate_scores(query, key)
        allowed = None if value_mask is None else _bools(value_mask)[:, None]
        if use_causal_mask:
            before = k.xp.tri(scores.shape[-2], scores.shape[-1], dtype=bool)[None]
            allowed = before if allowed is None else k.xp.logical_and(allowed, before)
        if allowed is not None:
            scores = ops.where(allowed, scores, scores - (65504.0 if scores.dtype == "float16" else 1e9))
        weights = nn.softmax(scores)
        if training and self.dropout > 0:
            blocks = k.blocks_for("dropout_mask", math.prod(weights.shape))
            keep = k.dropout_mask(*self.seed_generator.next(blocks), weights.shape, float(self.dropout))
            weights = nn.masked_scale(weights, mask=keep, scale=1 / (1 - self.dropout) if self.dropout < 1 else 1.0)
        outputs = ops.matmul(weights, value)
        if query_mask is not None:
            outputs = ops.where(_bools(query_mask)[..., None], outputs, 0)
        return (outputs, weights) if return_attention_scores else outputs

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return None if mask is None else mask[0]

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[0][:-1], input_shape[1][-1])

    def compute_output_spec(
        self,
        inputs: Any,
        mask: Any = None,
        return_attention_scores: bool = False,
        training: Any = None,
        use_causal_mask: bool = False,
    ) -> Any:
        self._check_inputs(inputs, mask)
        output = KerasTensor(self.compute_output_shape([one.shape for one in inputs]), self.compute_dtype)
        if not return_attention_scores:
            return output
        return output, KerasTensor((*inputs[0].shape[:-1], inputs[-1].shape[-2]), self.compute_dtype)

    def _check_inputs(self, inputs: Any, mask: Any = None) -> None:
        for what, given in (("inputs", inputs), ("masks", mask)):
            if given is not None and not (isinstance(given, list) and len(given) in (2, 3)):
                self._refuse(f"takes {what} as a list [query, value] or [query, value, key], got {given!r:.80}")


@declared
class AdditiveAttention(Attention):
    """Additive attention (Bahdanau et al. 2015): the scores are `sum(scale * tanh(query + key))`.

    Args:
        use_scale: whether `scale`, one number for each feature, is trained; else it is 1.
        dropout: the part of the weights that training drops.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.AdditiveAttention()([np.ones((2, 3, 8)), np.ones((2, 5, 8))]).shape
    (2, 3, 8)
    """

    use_scale: bool = True
    dropout: Rate = 0.0
    score_mode: _ScoreMode = field(default="dot", kw_only=True)
    seed: Any = field(default=None, kw_only=True)

    def build(self, input_shape: Any) -> None:
        self._check_inputs(input_shape)
        if self.use_scale:
            self.scale = self.add_weight((input_shape[0][-1],), "glorot_uniform", name="scale")

    def _calculate_scores(self, query: Any, key: Any) -> Any:
        sums = ops.tanh(ops.add(ops.expand_dims(query, -2), ops.expand_dims(key, -3)))
        return ops.sum(sums if self.scale is None else ops.multiply(sums, self.scale), axis=-1)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("score_mode", None)
        return config
