"""Recurrent layers: SimpleRNN, LSTM, GRU, their cells, the loop over any cell, and wrappers over time.

A cell holds the weights and knows one step.  `RNN` runs a cell over a sequence: a built-in cell whose activations the
kernels know runs as one operation over all time steps, any other cell step by step.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from minikeras import activations, ops, tree
from minikeras import kernels as k
from minikeras.autodiff.operands import raw
from minikeras.autodiff.symbolic import snake_case
from minikeras.autodiff.tensor import Tensor, Variable
from minikeras.declared import fields, in_order
from minikeras.layers.common import choice, known_size
from minikeras.layers.context import context
from minikeras.layers.fields import (
    Activation,
    Constraint,
    Initializer,
    Positive,
    Rate,
    Regularizer,
    declared,
    field,
    group,
)
from minikeras.layers.layer import Layer
from minikeras.layers.older_paths import find_all_layers
from minikeras.layers.spec import InputSpec
from minikeras.layers.wrapper import Wrapper
from minikeras.ops import nn
from minikeras.registry import custom_object_scope, is_builtin, object_sharing
from minikeras.seeds import SeedGenerator
from minikeras.utils.checks import flag

# ---------------------------------------------------------------- the arguments that cells and layers share


@group
class Plain:
    """Of a cell without gates.

    Args:
        units: size of the state and of an output.
        activation: name or function.
        use_bias: whether a bias is added.
        kernel_initializer, recurrent_initializer, bias_initializer: default `"glorot_uniform"`, `"orthogonal"` and
            `"zeros"`.
    """

    units: Positive[int]
    activation: Activation = "tanh"
    use_bias: bool = True
    kernel_initializer: Initializer = "glorot_uniform"
    recurrent_initializer: Initializer = "orthogonal"
    bias_initializer: Initializer = "zeros"


@group
class Gated:
    """Of a cell with gates.

    Args:
        units: size of the state and of an output.
        activation, recurrent_activation: name or function, of the values and of the gates.
        use_bias: whether a bias is added.
        kernel_initializer, recurrent_initializer, bias_initializer: default `"glorot_uniform"`, `"orthogonal"` and
            `"zeros"`.
    """

    units: Positive[int]
    activation: Activation = "tanh"
    recurrent_activation: Activation = "sigmoid"
    use_bias: bool = True
    kernel_initializer: Initializer = "glorot_uniform"
    recurrent_initializer: Initializer = "orthogonal"
    bias_initializer: Initializer = "zeros"


@group
class Forgetting(Gated):
    """Of an LSTM.

    Args:
        unit_forget_bias: whether the forget gate's bias begins at 1.
    """

    unit_forget_bias: bool = True


@group
class Penalised:
    """The penalties.

    Args:
        kernel_regularizer, recurrent_regularizer, bias_regularizer: of the weights, default none.
    """

    kernel_regularizer: Regularizer = None
    recurrent_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None


@group
class Watched(Penalised):
    """The penalties of a layer."""

    if not TYPE_CHECKING:  # see `Layer`
        activity_regularizer: Regularizer = None


@group
class Limited(Penalised):
    """What follows the penalties: constraints and dropout.

    Args:
        kernel_constraint, recurrent_constraint, bias_constraint: projections after each update, default none.
        dropout, recurrent_dropout: shares of the inputs and of the states that are dropped in training.
    """

    kernel_constraint: Constraint = None
    recurrent_constraint: Constraint = None
    bias_constraint: Constraint = None
    dropout: Rate = 0.0
    recurrent_dropout: Rate = 0.0


@group
class Seeded:
    """Of a layer of cells with gates.

    Args:
        seed: of the dropout.
    """

    seed: Any = None


@group
class Sequences:
    """Of a layer, as for `RNN`.

    Args:
        return_sequences, return_state: whether all outputs are returned, and the last states beside them.
        go_backwards: whether the steps are taken from the last one.
        stateful: whether the last states are the first ones of the next batch.
        unroll: accepted for familiarity.
    """

    return_sequences: bool = False
    return_state: bool = False
    go_backwards: bool = False
    stateful: bool = False
    unroll: bool = False


# ---------------------------------------------------------------- cells


class _Cell(Layer):
    """What the three cells share: their settings, weights, dropout and states.

    `_GATES` times `units` columns has each kernel; `_STATES` states are carried, the first of them is the output.
    """

    _UNTRACKED = Layer._UNTRACKED | {"_masks"}
    _GATES = 1
    _STATES = 1
    _ACTIVATIONS: tuple[str, ...] = ("activation",)
    _sequence: Any  # the operation that runs all time steps
    units: int
    use_bias: bool
    recurrent_dropout: float
    bias_initializer: Any
    seed: Any

    def __post_init__(self) -> None:
        self.state_size: Any = self.units if self._STATES == 1 else [self.units] * self._STATES
        self.output_size = self.units
        self.seed_generator = SeedGenerator(self.seed)
        self.bias: Any = None
        self._masks: dict[str, Any] = {}

    @classmethod
    def _other_arguments(cls, given: dict[str, Any]) -> dict[str, Any]:
        return super()._other_arguments({name: given[name] for name in given if name != "implementation"})

    def build(self, input_shape: Any) -> None:
        columns = self._GATES * self.units
        self.kernel = self.add_weight("kernel", (known_size(self, input_shape, -1), columns))
        self.recurrent_kernel = self.add_weight("recurrent_kernel", (self.units, columns))
        if self.use_bias:
            self.bias = self.add_weight("bias", self._bias_shape(columns), self._bias_initializer())

    def _bias_initializer(self) -> Any:
        return self.bias_initializer

    def _bias_shape(self, columns: int) -> tuple[int, ...]:
        return (columns,)

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        """One step: `inputs` (n, d) and the states (a tensor or a list of them) to (output, new states)."""
        several = isinstance(states, (list, tuple))
        new_states = self._step(inputs, list(states) if several else [states], training)
        return new_states[0], (new_states if several else new_states[0])

    def _step(self, inputs: Any, states: list[Any], training: bool) -> list[Any]:
        """The new states."""
        raise NotImplementedError(f"{type(self).__name__} does not define _step(); return the new states there.")

    def _products(self, name: str, values: Any, kernel: Any, bias: Any, training: bool) -> list[Any]:
        """`values @ kernel + bias` for each gate that the kernel has columns of, after the dropout of that name."""
        u = self.units
        gates = kernel.shape[1] // u
        mask = self._scaled_mask(name, values.shape) if training else None
        if mask is not None and mask.ndim == 3:
            columns = [slice(i * u, (i + 1) * u) for i in range(gates)]
            return [
                nn.dense_layer(self._masked(values, one), kernel[:, gate], None if bias is None else bias[gate])
                for one, gate in zip(mask, columns, strict=False)
            ]
        product = nn.dense_layer(values if mask is None else self._masked(values, mask), kernel, bias)
        return ops.split(product, gates, axis=-1) if gates > 1 else [product]

    def get_initial_state(self, batch_size: int | None = None) -> list[Any]:
        """Zeros (batch_size, units) for each state."""
        return [Tensor(k.xp.zeros((batch_size, self.units), self.compute_dtype)) for _ in range(self._STATES)]

    def runs_sequences(self, training: bool = True) -> bool:
        """Whether all time steps can run as one operation: not with an activation that the kernels do not know."""
        return type(self).call is _Cell.call and self._computes_as_known()

    def _computes_as_known(self) -> bool:
        return self.activity_regularizer is None and all(_known(getattr(self, name)) for name in self._ACTIVATIONS)

    def starts_at_zeros(self) -> bool:
        """Whether the initial states are zeros, which need not be made for `run_sequence`."""
        return type(self).get_initial_state is _Cell.get_initial_state

    def run_sequence(self, inputs: Any, states: Any, training: bool, **order: Any) -> tuple[Any, list[Any]]:
        """All time steps of `inputs` (n, t, d) as one operation: (what is shown of the outputs, last states).

        Args:
            states: the first ones; None for zeros.
            order: `mask`, and what else is said of the steps, see `kernels/reference/recurrent.py`.
        """
        settings = {**self._sequence_settings(), **order}
        if training:
            input_mask = self._scaled_mask("dropout", inputs.shape)
            if input_mask is not None and input_mask.ndim == 3:
                settings["input_mask"] = input_mask
            elif input_mask is not None:
                inputs = self._masked(inputs, input_mask[:, None])
            settings["recurrent_mask"] = self._scaled_mask("recurrent_dropout", (inputs.shape[0], self.units))
        weights = self.kernel, self.recurrent_kernel, self.bias
        first = [None] * self._STATES if states is None else states
        outputs, *states = type(self)._sequence(inputs, *first, *weights, **settings)
        return outputs, states

    def _sequence_settings(self) -> dict[str, Any]:
        return {name: activations.fused_name(getattr(self, name)) for name in self._ACTIVATIONS}

    def _masked(self, values: Any, mask: Any) -> Any:
        return nn.masked_scale(values, mask=mask, scale=1.0)

    def _scaled_mask(self, name: str, shape: tuple[int, ...]) -> Any:
        """What the dropout of that name multiplies (n, ..., d) by, drawn once for each sequence; None without dropout.

        (n, d) for all gates, or, in an LSTM or GRU with recurrent dropout, (gates, n, d): then every gate drops others.
        """
        rate = getattr(self, name)
        if not 0 < rate < 1:
            return None
        shape = self._mask_shape(shape)
        mask = self._masks.get(name)
        if mask is None or mask.shape != shape:
            key, counter = self.seed_generator.next(k.blocks_for("dropout_mask", math.prod(shape)))
            mask = k.dropout_factors(k.dropout_mask(key, counter, shape, rate), 1 / (1 - rate), self._compute_type)
            self._masks[name] = mask
        return mask

    def _mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        by_gate = self._GATES > 1 and self.recurrent_dropout > 0
        return (*((self._GATES,) if by_gate else ()), shape[0], shape[-1])

    def reset_dropout_mask(self) -> None:
        """Let the next step draw which inputs are dropped; `RNN` does so before each sequence."""
        self._masks.pop("dropout", None)

    def reset_recurrent_dropout_mask(self) -> None:
        """Let the next step draw which states are dropped; `RNN` does so before each sequence."""
        self._masks.pop("recurrent_dropout", None)


def _known(activation: Any) -> bool:
    return activation is activations.linear or activations.fused_name(activation) is not None


@declared
class SimpleRNNCell(Limited, Plain, _Cell):
    """One step of `SimpleRNN`: `h = activation(x @ kernel + bias + h @ recurrent_kernel)`.

    Arguments as for `SimpleRNN`, and `seed`, of the dropout.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> y, states = layers.SimpleRNNCell(4)(np.ones((2, 3)), [np.zeros((2, 4))])
    >>> y.shape
    (2, 4)
    """

    _sequence = staticmethod(nn.simple_rnn_sequence)

    seed: Any = None

    def _step(self, inputs: Any, states: list[Any], training: bool) -> list[Any]:
        (x,) = self._products("dropout", inputs, self.kernel, self.bias, training)
        (h,) = self._products("recurrent_dropout", states[0], self.recurrent_kernel, None, training)
        return [self.activation(x + h)]


@declared
class LSTMCell(Limited, Forgetting, _Cell):
    """One step of `LSTM`, on the states [h, c].  Arguments as for `LSTM`, and `seed`, of the dropout.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> y, states = layers.LSTMCell(4)(np.ones((2, 3)), [np.zeros((2, 4)), np.zeros((2, 4))])
    >>> len(states)
    2
    """

    _GATES = 4
    _STATES = 2
    _ACTIVATIONS = ("activation", "recurrent_activation")
    _sequence = staticmethod(nn.lstm_sequence)

    seed: Any = None

    def get_config(self) -> dict[str, Any]:
        first = ("name", "trainable", "dtype", "units", "activation", "recurrent_activation", "use_bias")
        return in_order(super().get_config(), *first, "unit_forget_bias")

    def _bias_initializer(self) -> Any:
        initializer = self.bias_initializer
        if not self.unit_forget_bias:
            return initializer

        def ones_for_forget_gate(shape: Any, dtype: Any = None) -> np.ndarray:
            bias = np.array(k.to_host(raw(initializer(shape, dtype=dtype))))
            bias[self.units : 2 * self.units] = 1
            return bias

        return ones_for_forget_gate

    def _step(self, inputs: Any, states: list[Any], training: bool) -> list[Any]:
        x = self._products("dropout", inputs, self.kernel, self.bias, training)
        h = self._products("recurrent_dropout", states[0], self.recurrent_kernel, None, training)
        i, f, g, o = map(ops.add, x, h)
        c = self.recurrent_activation(f) * states[1] + self.recurrent_activation(i) * self.activation(g)
        return [self.recurrent_activation(o) * self.activation(c), c]


@declared
class GRUCell(Limited, Gated, _Cell):
    """One step of `GRU`.  Arguments as for `GRU` (`reset_after` too), and `seed`, of the dropout.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> y, states = layers.GRUCell(4)(np.ones((2, 3)), [np.zeros((2, 4))])
    >>> y.shape
    (2, 4)
    """

    _GATES = 3
    _ACTIVATIONS = ("activation", "recurrent_activation")
    _sequence = staticmethod(nn.gru_sequence)

    reset_after: bool = True
    seed: Any = None

    def _bias_shape(self, columns: int) -> tuple[int, ...]:
        return (2, columns) if self.reset_after else (columns,)

    def _sequence_settings(self) -> dict[str, Any]:
        return {**super()._sequence_settings(), "reset_after": bool(self.reset_after)}

    def _step(self, inputs: Any, states: list[Any], training: bool) -> list[Any]:
        bias, recurrent_bias = self.bias, None
        if self.reset_after and self.bias is not None:
            bias, recurrent_bias = self.bias[0], self.bias[1]
        x_z, x_r, x_h = self._products("dropout", inputs, self.kernel, bias, training)
        state, name = states[0], "recurrent_dropout"
        if self.reset_after:
            h_z, h_r, h_h = self._products(name, state, self.recurrent_kernel, recurrent_bias, training)
            candidate = x_h + self.recurrent_activation(x_r + h_r) * h_h
        else:
            u = 2 * self.units
            h_z, h_r = self._products(name, state, self.recurrent_kernel[:, :u], None, training)
            mask = self._scaled_mask(name, state.shape) if training else None
            kept = state if mask is None else self._masked(state, mask[-1])
            reset = self.recurrent_activation(x_r + h_r) * kept
            candidate = x_h + ops.matmul(reset, self.recurrent_kernel[:, u:])
        z = self.recurrent_activation(x_z + h_z)
        return [z * states[0] + (1 - z) * self.activation(candidate)]


def _cells(layer: Layer, name: str, value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError(f"StackedRNNCells takes a list of at least one cell, got {value!r}.")
    for cell in value:
        _check_cell(cell)
    return list(value)


@declared
class StackedRNNCells(Layer):
    """Several cells as one: each works on the output of the one before.

    Args:
        cells: list of cells.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> cells = layers.StackedRNNCells([layers.GRUCell(4), layers.GRUCell(6)])
    >>> layers.RNN(cells)(np.ones((2, 5, 3))).shape
    (2, 6)
    """

    cells: Annotated[Any, _cells]

    @property
    def state_size(self) -> list[Any]:
        return [cell.state_size for cell in self.cells]

    @property
    def output_size(self) -> Any:
        return _output_size(self.cells[-1])

    def get_initial_state(self, batch_size: int | None = None) -> list[Any]:
        """The initial states of the cells: of each what it says itself, else zeros in the form of its `state_size`."""
        states = []
        for cell in self.cells:
            if hasattr(cell, "get_initial_state"):
                states.append(cell.get_initial_state(batch_size=batch_size))
            else:
                found = _initial_state(cell, batch_size, self.compute_dtype)
                states.append(found if isinstance(cell.state_size, (list, tuple)) else found[0])
        return states

    def build(self, input_shape: Any) -> None:
        for cell in self.cells:
            cell.build_from_config({"input_shape": tuple(input_shape)})
            size = _output_size(cell)
            input_shape = (input_shape[0], *((size,) if isinstance(size, int) else tuple(size)))

    def call(self, inputs: Any, states: Any) -> Any:
        new_states = []
        for cell, state in zip(self.cells, states, strict=True):
            several = isinstance(state, (list, tuple))
            inputs, new_state = cell(inputs, state if several else [state])
            if not several and isinstance(new_state, (list, tuple)):
                (new_state,) = new_state
            new_states.append(new_state)
        return inputs, new_states

    def runs_sequences(self, training: bool = True) -> bool:
        """Whether the cells can run one after the other over all time steps.

        That is the same: what a cell gives at a step depends on its own states and on what the cell before gives at
        steps until then.  At a step that is left out it gets something else, and so computes something that nobody
        sees: its states and the output stay what they were.
        """
        return type(self).call is StackedRNNCells.call and all(
            isinstance(cell, (_Cell, StackedRNNCells))
            and cell.activity_regularizer is None
            and cell.compute_dtype == self.compute_dtype
            and cell.runs_sequences(training)
            for cell in self.cells
        )

    def starts_at_zeros(self) -> bool:
        """Whether the initial states are zeros, which need not be made for `run_sequence`."""
        zeros = all(cell.starts_at_zeros() for cell in self.cells)
        return zeros and type(self).get_initial_state is StackedRNNCells.get_initial_state

    def run_sequence(
        self, inputs: Any, states: Any, training: bool, return_sequences: bool = True, **order: Any
    ) -> tuple[Any, list[Any]]:
        """All time steps, of one cell after the other, as `LSTMCell.run_sequence` does them."""
        given = [None] * len(self.cells) if states is None else states
        last: list[Any] = []
        for cell, state in zip(self.cells, given, strict=True):
            several = state is None or isinstance(state, (list, tuple))
            shown = return_sequences or len(last) < len(self.cells) - 1
            inputs, found = cell.run_sequence(
                inputs, state if several else [state], training, return_sequences=shown, **order
            )
            last.append(found if several else found[0])
        return inputs, last

    def reset_dropout_mask(self) -> None:
        _reset_masks(*self.cells)

    reset_recurrent_dropout_mask = reset_dropout_mask


class _ObjectCell(Layer):
    """An object that is no layer, but has a `state_size` and a `call(inputs, states)`, as a cell."""

    def __init__(self, cell: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.wrapped = cell
        self.state_size, self.output_size = cell.state_size, getattr(cell, "output_size", None)
        if hasattr(cell, "get_initial_state"):
            self.get_initial_state = cell.get_initial_state

    def build(self, input_shape: Any) -> None:
        if hasattr(self.wrapped, "build"):
            self.wrapped.build(input_shape)

    def call(self, inputs: Any, states: Any) -> Any:
        return self.wrapped.call(inputs, states)


def _check_cell(cell: Any) -> None:
    if not isinstance(cell, Layer) or not hasattr(cell, "state_size"):
        raise ValueError(f"A recurrent cell is a layer with a state_size, got {cell!r}; see LSTMCell for one.")


def _output_size(cell: Any) -> Any:
    size = getattr(cell, "output_size", None)
    if size is not None:
        return size
    return cell.state_size[0] if isinstance(cell.state_size, (list, tuple)) else cell.state_size


def _initial_state(cell: Any, batch_size: int | None, dtype: Any) -> list[Any]:
    if hasattr(cell, "get_initial_state"):
        states = cell.get_initial_state(batch_size=batch_size)
        return list(states) if isinstance(states, (list, tuple)) else [states]
    sizes = cell.state_size if isinstance(cell.state_size, (list, tuple)) else [cell.state_size]
    return [Tensor(k.xp.zeros((batch_size, size), dtype)) for size in sizes]


def _reset_masks(*cells: Any) -> None:
    for cell in cells:
        for name in ("reset_dropout_mask", "reset_recurrent_dropout_mask"):
            if hasattr(cell, name):
                getattr(cell, name)()


# ---------------------------------------------------------------- layers

_SEQUENCE = ("return_sequences", "return_state", "go_backwards", "stateful", "unroll", "zero_output_for_mask")


class RNN(Layer):
    """A cell run over the time axis of inputs (batch, time, ...).

    Args:
        cell: a layer with `call(inputs, states)` that returns (output, new states), and a `state_size` (an integer or a
            list of them, one for each state); a list of cells is stacked.
        return_sequences: the outputs of all time steps instead of the last.
        return_state: the last states too: `(outputs, *states)`.
        go_backwards: from the last time step to the first; the outputs come in this order.
        stateful: each batch starts from the states in which the one before ended.
        unroll: accepted for familiarity.
        zero_output_for_mask: the output of a masked step is 0 instead of a repetition.

    Called with `initial_state`, the sequence starts there instead of from zeros.  Where `mask` (batch, time) is False,
    a step is left out: the states are carried over and the output repeats the one before (zeros before the first).

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.RNN([layers.LSTMCell(4), layers.GRUCell(6)])(np.ones((2, 5, 3))).shape
    (2, 6)
    """

    supports_masking = True
    _UNTRACKED = Layer._UNTRACKED | {"states"}

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        **kwargs: Any,
    ):
        if kwargs.pop("time_major", False):
            raise ValueError(f"{type(self).__name__} takes inputs of (batch, time, features), got time_major=True.")
        super().__init__(**kwargs)
        cell = StackedRNNCells(cell, dtype=self.dtype_policy) if isinstance(cell, (list, tuple)) else cell
        if not isinstance(cell, Layer) and hasattr(cell, "state_size") and hasattr(cell, "call"):
            cell = _ObjectCell(cell, dtype=self.dtype_policy)
        _check_cell(cell)
        self.cell = cell
        owner = type(self).__name__
        self.return_sequences = flag("return_sequences", return_sequences, owner=owner)
        self.return_state = flag("return_state", return_state, owner=owner)
        self.go_backwards = flag("go_backwards", go_backwards, owner=owner)
        self.stateful = flag("stateful", stateful, owner=owner)
        self.unroll = flag("unroll", unroll, owner=owner)
        self.zero_output_for_mask = flag("zero_output_for_mask", zero_output_for_mask, owner=owner)
        self.states: Any = None

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("use_cudnn", None)
        penalty = () if self.activity_regularizer is None else ("activity_regularizer",)
        last: dict[str, Any] = {name: config.pop(name) for name in ("reset_after", "seed") if name in config}
        return {**in_order(config, "name", "trainable", "dtype", *penalty, *_SEQUENCE), **last}

    @property
    def state_size(self) -> Any:
        size = self.cell.state_size
        return size if isinstance(size, (list, tuple)) else [size]

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        self.cell.build_from_config({"input_shape": (sequences_shape[0], *sequences_shape[2:])})
        if self.input_spec is not None:
            self.input_spec = InputSpec(ndim=len(sequences_shape), axes={-1: sequences_shape[-1]})
        if self.stateful and sequences_shape[0] is not None:
            self._keep(self.get_initial_state(sequences_shape[0]))

    def get_initial_state(self, batch_size: int) -> list[Any]:
        """The states from which a batch starts: zeros, unless the cell says otherwise."""
        return _initial_state(self.cell, batch_size, self.compute_dtype)

    def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
        mask = self._checked_mask(mask, sequences)
        _reset_masks(self.cell)
        fast = isinstance(self.cell, (_Cell, StackedRNNCells)) and self.cell.runs_sequences(training)
        states = self._first_states(sequences.shape[0], initial_state, zeros=not fast)
        output, states = (self._run if fast else self._loop)(sequences, states, mask, training)
        if self.stateful and not context.on_zeros:
            self._keep(states)
        returned = (output, *states) if self.return_state else output
        return returned if output.data.dtype is self._compute_type else self._convert(returned)

    def _checked_mask(self, mask: Any, sequences: Any) -> Any:
        mask = raw(tree.flatten(mask)[0])
        if mask is None:
            return None
        if mask.ndim > 2:  # of a step's parts: it counts where one of them does
            mask = mask.any(axis=tuple(range(2, mask.ndim)))
        if mask.shape != sequences.shape[:2]:
            self._refuse(
                f"needs a mask of shape {sequences.shape[:2]}, one value for each time step, got shape {mask.shape}"
            )
        return mask.astype(bool, copy=False)

    def _first_states(self, batch_size: int, initial_state: Any, zeros: bool) -> Any:
        """The states to begin with; None for zeros, unless such `zeros` are to be made."""
        if initial_state is None:
            if self.stateful and self.states is not None:
                initial_state = self.states
            elif zeros or type(self).get_initial_state is not RNN.get_initial_state or not self.cell.starts_at_zeros():
                return self.get_initial_state(batch_size)
            else:
                return None
        states = list(initial_state) if isinstance(initial_state, (list, tuple)) else [initial_state]
        given = [tuple(state.shape) for state in tree.flatten(states)]
        wanted = self._state_shapes(batch_size)
        if given != wanted:
            hint = "; a stateful layer keeps its batch size" if self.stateful else ""
            self._refuse(f"needs states of shapes {wanted}, got {given}{hint}")
        return states

    def _state_shapes(self, batch_size: int) -> list[tuple[int, ...]]:
        return [(batch_size, size) for size in tree.flatten(self.state_size)]

    def _run(self, sequences: Any, states: Any, mask: Any, training: bool) -> tuple[Any, list[Any]]:
        """All time steps as one operation for each cell: (what the layer returns first, last states)."""
        output, states = self.cell.run_sequence(
            sequences,
            states,
            training,
            mask=mask,
            backwards=self.go_backwards,
            return_sequences=self.return_sequences,
            zero_output_for_mask=self.zero_output_for_mask,
        )
        return (ops.flip(output, 1) if self.go_backwards and self.return_sequences else output), states

    def _loop(self, sequences: Any, states: list[Any], mask: Any, training: bool) -> tuple[Any, list[Any]]:
        """The cell step by step: (what the layer returns first, last states)."""
        outputs: list[Any] = []
        shown: Any = None
        carried: Any = None  # the output of the last unmasked step
        steps, flat = nn.time_steps(sequences), type(states) is list and not any(map(tree.is_nested, states))
        for s in reversed(range(len(steps))) if self.go_backwards else range(len(steps)):
            shown, new_states = self.cell(steps[s], states)
            new = tree.flatten(new_states)
            if mask is not None:
                counts = mask[:, s]
                new = [_choose(counts, one, old) for one, old in zip(new, tree.flatten(states), strict=True)]
                carried = _choose(counts, shown, 0.0 if carried is None else carried)
                shown = _choose(counts, shown, 0.0) if self.zero_output_for_mask else carried
            states = new if flat and len(new) == len(states) else tree.pack_sequence_as(states, new)
            outputs.append(shown)
        if shown is None:
            self._refuse(f"needs a time step, got shape {sequences.shape}")
        return (ops.stack(outputs, axis=1) if self.return_sequences else shown), states

    def _keep(self, states: Any) -> None:
        """Store the states for the next batch."""
        if self.states is None:
            self.states = tree.map_structure(_state_variable, states)
        else:
            for variable, state in zip(tree.flatten(self.states), tree.flatten(states), strict=True):
                variable.assign(state)

    def reset_states(self, states: Any = None) -> None:
        """Start the next batch of a stateful layer from `states` (default zeros)."""
        if states is not None:
            states = states if isinstance(states, (list, tuple)) else [states]
            self._keep(list(states))
        elif self.states is not None:
            self._keep(self.get_initial_state(tree.flatten(self.states)[0].shape[0]))

    def reset_state(self) -> None:
        """Start the next batch of a stateful layer from zeros."""
        self.reset_states()

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        mask = tree.flatten(mask)[0] if self.return_sequences else None
        return [mask] + [None] * len(self.state_size) if self.return_state else mask

    def compute_output_shape(self, sequences_shape: Any, initial_state_shape: Any = None) -> Any:
        def shape(size: Any, *leading: Any) -> tuple:
            return (*leading, size) if isinstance(size, int) else (*leading, *size)

        batch, time = sequences_shape[:2]
        output = shape(_output_size(self.cell), batch, *((time,) if self.return_sequences else ()))
        states = tree.map_structure(lambda size: shape(size, batch), self.state_size)
        return (output, *states) if self.return_state else output


def _state_variable(state: Any) -> Variable:
    return Variable(state, dtype=state.dtype, trainable=False, name="rnn_state")


def _choose(counts: Any, new: Any, old: Any) -> Any:
    """`new` in the rows that count, else `old`."""
    return ops.where(counts.reshape(-1, *[1] * (new.ndim - 1)), new, old)


class CellLayer(RNN):
    """A built-in cell as a layer: the constructor's arguments are those of cell and sequence together."""

    _CELL: Any  # the class of the cell
    rank = 0  # how many spatial axes a time step has

    def __init__(self, **arguments: Any):
        known = {*fields(self._CELL), "implementation"} - fields(Layer).keys()
        cell = {name: arguments.pop(name) for name in known & arguments.keys()}
        general = {name: arguments[name] for name in ("dtype", "trainable") if name in arguments}
        super().__init__(self._CELL(**cell, **general, name=snake_case(self._CELL.__name__)), **arguments)
        self.input_spec = InputSpec(ndim=3 + self.rank)


for _name in {**fields(LSTMCell), **fields(GRUCell)}.keys() - fields(Layer).keys():
    setattr(CellLayer, _name, property(attrgetter(f"cell.{_name}"), doc="As given to the constructor; the cell's."))


@declared
class SimpleRNN(Sequences, Limited, Watched, Plain, CellLayer):
    """Fully connected recurrence: `h_t = activation(x_t @ kernel + bias + h_{t-1} @ recurrent_kernel)`.

    Args:
        units: size of the state and of an output.
        activation: name or function, default `"tanh"`.
        use_bias: whether a bias is added.
        kernel_initializer, recurrent_initializer, bias_initializer: default `"glorot_uniform"`, `"orthogonal"` and
            `"zeros"`.
        kernel_regularizer, recurrent_regularizer, bias_regularizer, activity_regularizer: penalties, default none.
        kernel_constraint, recurrent_constraint, bias_constraint: projections after each update, default none.
        dropout: share of the input features that training drops, the same ones at every time step.
        recurrent_dropout: share of the state that training drops on its way into the recurrent product, the same at
            every time step (Gal and Ghahramani 2016).  With it, each gate of an `LSTM` or `GRU` drops inputs and state
            by masks of its own; without it one mask of the inputs serves all gates.
        seed: of the dropout.
        return_sequences, return_state, go_backwards, stateful, unroll, zero_output_for_mask: as for `RNN`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.SimpleRNN(4)(np.ones((2, 5, 3))).shape
    (2, 4)
    """

    _CELL = SimpleRNNCell

    seed: Any = None
    zero_output_for_mask: bool = field(default=False, kw_only=True)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("seed", None)  # Keras does not write it
        return config


@declared
class LSTM(Sequences, Seeded, Limited, Watched, Forgetting, CellLayer):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000).

    With the columns i, f, g, o of `x_t @ kernel + bias + h_{t-1} @ recurrent_kernel`, after `activation` for g and
    `recurrent_activation` for the gates: `c_t = f * c_{t-1} + i * g` and `h_t = o * activation(c_t)`.  The states are
    [h, c].

    Args:
        recurrent_activation: of the gates, default `"sigmoid"`.
        unit_forget_bias: whether the bias of the forget gate starts at 1.
        use_cudnn: accepted for familiarity.

    The other arguments are those of `SimpleRNN`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> y, h, c = layers.LSTM(4, return_state=True)(np.ones((2, 5, 3)))
    >>> y.shape, c.shape
    ((2, 4), (2, 4))
    """

    _CELL = LSTMCell

    use_cudnn: Any = "auto"
    zero_output_for_mask: bool = field(default=False, kw_only=True)


@declared
class GRU(Sequences, Seeded, Limited, Watched, Gated, CellLayer):
    """Gated recurrent unit (Cho et al. 2014): `h_t = z * h_{t-1} + (1 - z) * candidate`.

    Args:
        recurrent_activation: of the gates, default `"sigmoid"`.
        reset_after: whether the reset gate applies to the recurrent product, which then has a bias of its own (bias of
            shape (2, 3 * units)), instead of to the state that enters it.
        use_cudnn: accepted for familiarity.

    The columns of the kernels are z, r, candidate.  The other arguments are those of `SimpleRNN`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.GRU(4, return_sequences=True)(np.ones((2, 5, 3))).shape
    (2, 5, 4)
    """

    _CELL = GRUCell

    reset_after: bool = True
    use_cudnn: Any = "auto"
    zero_output_for_mask: bool = field(default=False, kw_only=True)


# ---------------------------------------------------------------- wrappers


class Bidirectional(Layer):
    """A recurrent layer run over the sequence in both directions.

    Args:
        layer: a recurrent layer; two copies of it are made, one of them with `go_backwards` inverted.
        merge_mode: how the outputs of the two are combined: `"concat"`, `"sum"`, `"mul"`, `"ave"`, or None for a pair.
        weights: initial weights.
        backward_layer: the layer for the backward direction, instead of a copy.

    With `return_state` the states of the forward layer come first, then those of the backward layer; `initial_state` is
    given in this order too.  In a sequence of outputs those of masked steps are 0.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Bidirectional(layers.LSTM(4))(np.ones((2, 5, 3))).shape
    (2, 8)
    """

    supports_masking = True

    def __init__(
        self,
        layer: Any,
        merge_mode: str | None = "concat",
        weights: Any = None,
        backward_layer: Any = None,
        **kwargs: Any,
    ):
        for one in (layer,) if backward_layer is None else (layer, backward_layer):
            if not hasattr(one, "go_backwards"):
                raise ValueError(f"Bidirectional wraps a recurrent layer, got {one!r}; give it an LSTM, GRU or RNN.")
        super().__init__(weights=weights, **kwargs)
        self.merge_mode = merge_mode if merge_mode is None else choice(self, "merge_mode", merge_mode, tuple(_MERGES))
        self.forward_layer = _copy(layer, "forward", layer.go_backwards)
        if backward_layer is None:
            backward_layer = _copy(layer, "backward", not layer.go_backwards)
        self.backward_layer = backward_layer
        for name in ("return_sequences", "return_state", "go_backwards"):
            same = getattr(self.forward_layer, name) == getattr(self.backward_layer, name)
            if same is (name == "go_backwards"):
                raise ValueError(
                    f"Bidirectional needs two layers {'of different' if same else 'of the same'} {name}, got "
                    f"{getattr(layer, name)} and {getattr(self.backward_layer, name)}."
                )
        self.return_sequences, self.return_state = layer.return_sequences, layer.return_state
        for one in (self.forward_layer, self.backward_layer):
            one.zero_output_for_mask = layer.return_sequences  # a repeated output would be of another time step
        self.input_spec = layer.input_spec

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("weights", None)
        last = {name: config.pop(name) for name in ("layer", "backward_layer")}
        return {**config, **last}

    @property
    def layer(self) -> Any:
        return self.forward_layer

    @property
    def stateful(self) -> bool:  # type: ignore[override]
        return self.forward_layer.stateful

    @property
    def states(self) -> Any:
        """The states of both layers of a stateful pair, else None."""
        if self.forward_layer.states is None:
            return None
        return [*self.forward_layer.states, *self.backward_layer.states]

    def reset_states(self) -> None:
        """Start the next batch from zeros."""
        self.forward_layer.reset_states()
        self.backward_layer.reset_states()

    reset_state = reset_states

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        for layer in (self.forward_layer, self.backward_layer):
            layer.build_from_config({"input_shape": sequences_shape})
        self.input_spec = self.forward_layer.input_spec

    def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool | None = None) -> Any:
        halves: tuple[Any, Any] = (None, None)
        if initial_state is not None:
            middle = len(initial_state) // 2
            halves = (initial_state[:middle], initial_state[middle:])
        forward = self.forward_layer(sequences, initial_state=halves[0], mask=mask)
        backward = self.backward_layer(sequences, initial_state=halves[1], mask=mask)
        states: tuple[Any, ...] = ()
        if self.return_state:
            (forward, *first), (backward, *second) = forward, backward
            states = (*first, *second)
        if self.return_sequences:
            backward = ops.flip(backward, 1)  # back into the order of the inputs
        if forward.data.dtype is not self._compute_type:
            forward, backward = self._convert((forward, backward))
        if self.merge_mode is None:
            return (forward, backward, *states)
        output = _MERGES[self.merge_mode](forward, backward)
        return (output, *states) if states else output

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        mask = tree.flatten(mask)[0] if self.return_sequences else None
        return (mask, mask) if self.merge_mode is None else mask

    def compute_output_shape(self, sequences_shape: Any, initial_state_shape: Any = None) -> Any:
        shape = self.forward_layer.compute_output_shape(sequences_shape)
        output, *states = shape if self.return_state else (shape,)
        if self.merge_mode is None:
            return (output, output, *states, *states)
        if self.merge_mode == "concat":
            output = (*output[:-1], 2 * output[-1])
        return (output, *states, *states) if states else output


_MERGES: dict[str, Callable] = {
    "concat": lambda a, b: ops.concatenate([a, b], axis=-1),
    "sum": lambda a, b: a + b,
    "ave": lambda a, b: (a + b) * 0.5,
    "mul": lambda a, b: a * b,
}


def _copy(layer: Any, direction: str, go_backwards: bool) -> Any:
    """A new layer of the same description, for one direction."""
    name = f"{direction}_{layer.name.removeprefix(f'{direction}_')}"
    classes = {type(one) for one in layer._contents().layers}
    known = {cls.__name__: cls for cls in classes if not is_builtin(cls)}
    with custom_object_scope(known), object_sharing():  # nothing is shared with what is being restored around it
        return type(layer).from_config({**layer.get_config(), "name": name, "go_backwards": go_backwards})


@declared
class TimeDistributed(Wrapper):
    """A layer applied to every time step of inputs (batch, time, ...).

    Args:
        layer: the layer; it sees the time steps of all samples as one batch.

    A mask (batch, time, steps), such as an `Embedding` of sentences (batch, time, words) makes, is for the layer, and
    so is one that the layer makes itself.  Where what it returns no longer has these steps, a time step counts
    if any of them did.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.TimeDistributed(layers.Dense(4))(np.ones((2, 5, 3))).shape
    (2, 5, 4)
    """

    supports_masking = True

    def __post_init__(self) -> None:
        self.input_spec = InputSpec(min_ndim=3)
        self._passes_mask = "mask" in inspect.signature(self.layer.call).parameters

    def build(self, input_shape: Any = None) -> None:
        self.layer.build_from_config({"input_shape": (input_shape[0], *input_shape[2:])})

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        batch, time, *rest = inputs.shape
        if mask is not None and tuple(mask.shape[:2]) != (batch, time):
            self._refuse(
                f"needs a mask of shape {(batch, time)}, one value for each time step, got shape {tuple(mask.shape)}"
            )
        settings = {}
        if mask is not None and self._passes_mask:
            settings["mask"] = self._inner_mask(mask, inputs)
        outputs = self._convert(self.layer(ops.reshape(inputs, (batch * time, *rest)), **settings))
        return ops.reshape(outputs, (batch, time, *outputs.shape[1:]))

    def _inner_mask(self, mask: Any, inputs: Any) -> Any:
        """The mask as the layer sees it; a time step that is left out has, for a layer over steps, none that counts."""
        if mask.ndim == 2 and inputs.ndim > 3 and is_builtin(type(self.layer)):
            mask = ops.broadcast_to(ops.expand_dims(mask, -1), inputs.shape[:3])
        return ops.reshape(mask, (math.prod(inputs.shape[:2]), *mask.shape[2:]))

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        layer, mask = self.layer, None
        batch, time, *rest = inputs.shape
        if layer.supports_masking or type(layer).compute_mask is not Layer.compute_mask:
            inner = None if previous_mask is None else self._inner_mask(previous_mask, inputs)
            mask = tree.flatten(layer.compute_mask(ops.reshape(inputs, (batch * time, *rest)), inner))[0]
        if mask is not None:
            return ops.reshape(mask, (batch, time, *mask.shape[1:]))
        if previous_mask is None or previous_mask.ndim <= 2:
            return previous_mask
        shape = self.compute_output_shape(inputs.shape)
        if len(shape) > previous_mask.ndim and tuple(shape[: previous_mask.ndim]) == tuple(previous_mask.shape):
            return previous_mask
        return ops.any(previous_mask, axis=tuple(range(2, previous_mask.ndim)))

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, *rest = self.layer.compute_output_shape((input_shape[0], *input_shape[2:]))
        return (batch, input_shape[1], *rest)


find_all_layers(__name__)
