"""Long short-term memory whose products are convolutions: sequences of sequences, pictures or volumes."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from minikeras import kernels as k
from minikeras import ops
from minikeras.autodiff.tensor import Tensor
from minikeras.declared import fields
from minikeras.layers.common import known_size
from minikeras.layers.convolutional import Padding, Windowed
from minikeras.layers.fields import DataFormat, Sizes, declared, field, group
from minikeras.layers.layer import Layer
from minikeras.layers.recurrent import CellLayer, Limited, LSTMCell, Seeded, Sequences, Watched
from minikeras.layers.spec import InputSpec
from minikeras.ops import nn
from minikeras.ops.convolution import explicit_padding


@declared
class ConvLSTMCell(LSTMCell, Windowed):
    """One step of a convolutional LSTM, on the states [h, c].

    Arguments as for `ConvLSTM`, which has checked them: `units` is its `filters`, `rank` the number of spatial axes.
    """

    rank: int = 1
    kernel_size: Any = (1,)
    strides: Any = (1,)
    padding: str = "valid"
    data_format: str = "channels_last"
    dilation_rate: Any = (1,)

    def __post_init__(self) -> None:
        super().__post_init__()
        Windowed.__post_init__(self)
        self._not_both()

    def build(self, input_shape: Any) -> None:
        channels = known_size(self, input_shape, self._channel_axis)
        state_shape = self.compute_output_shape(input_shape)
        self._state_shape = [known_size(self, state_shape, axis) for axis in range(1, len(state_shape))]
        columns = 4 * self.units
        self.kernel = self.add_weight("kernel", (*self.kernel_size, channels, columns))
        self.recurrent_kernel = self.add_weight("recurrent_kernel", (*self.kernel_size, self.units, columns))
        if self.use_bias:
            self.bias = self.add_weight("bias", (columns,), self._bias_initializer())

    def runs_sequences(self, training: bool = True) -> bool:
        drops = training and (self.dropout > 0 or self.recurrent_dropout > 0)
        return type(self).call is LSTMCell.call and not drops and self._computes_as_known()

    def starts_at_zeros(self) -> bool:
        return type(self).get_initial_state is ConvLSTMCell.get_initial_state

    def run_sequence(self, inputs: Any, states: Any, training: bool, **order: Any) -> tuple[Any, list[Any]]:
        if self.data_format == "channels_first":
            inputs = ops.moveaxis(inputs, 2, -1)
            states = states and [ops.moveaxis(state, 1, -1) for state in states]
        padding = explicit_padding(self.padding, inputs.shape[2:-1], self.kernel_size, self.strides, self.dilation_rate)
        window = {"strides": self.strides, "padding": padding, "dilation": self.dilation_rate}
        weights = self.kernel, self.recurrent_kernel, self.bias
        outputs, *states = nn.conv_lstm_sequence(
            inputs, *(states or (None, None)), *weights, **window, **self._sequence_settings(), **order
        )
        if self.data_format == "channels_first":
            outputs = ops.moveaxis(outputs, -1, 2 if order["return_sequences"] else 1)
            states = [ops.moveaxis(state, -1, 1) for state in states]
        return outputs, states

    def get_initial_state(self, batch_size: int | None = None) -> list[Any]:
        """Zeros of the shape of an output, for each of the two states."""
        return [Tensor(k.xp.zeros((batch_size, *self._state_shape), self.compute_dtype)) for _ in range(2)]

    def _mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (4, *shape)

    def _products(self, name: str, values: Any, kernel: Any, bias: Any, training: bool) -> list[Any]:
        """The convolution for each gate, after the dropout of that name, which each has a mask of its own for."""
        settings: dict[str, Any] = {"data_format": self.data_format, "padding": "same"}
        if name == "dropout":
            settings |= {"padding": self.padding, "strides": self.strides, "dilation": self.dilation_rate}
        mask = self._scaled_mask(name, values.shape) if training else None
        if mask is None:
            return ops.split(nn.convolution(values, kernel, bias, **settings), 4, axis=self._channel_axis)
        biases = [None] * 4 if bias is None else ops.split(bias, 4)
        return [
            nn.convolution(self._masked(values, one), part, part_bias, **settings)
            for one, part, part_bias in zip(mask, ops.split(kernel, 4, axis=-1), biases, strict=True)
        ]

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self._output_shape(input_shape, self.units)


class _ConvLSTM(CellLayer):
    """What a sequence of convolutional steps is besides its configuration."""

    _CELL = ConvLSTMCell
    _paddings = Windowed._paddings
    filters = property(attrgetter("cell.units"))

    def __init__(self, filters: int, **arguments: Any):
        super().__init__(units=filters, rank=self.rank, **arguments)

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        super().build(sequences_shape)
        self.input_spec = InputSpec(shape=(None, None, *sequences_shape[2:]))

    def _state_shapes(self, batch_size: int) -> list[tuple[int, ...]]:
        return [(batch_size, *self.cell._state_shape)] * 2

    def compute_output_shape(self, sequences_shape: Any, initial_state_shape: Any = None) -> Any:
        batch, time, *sizes = sequences_shape
        state = self.cell.compute_output_shape((batch, *sizes))
        output = (batch, time, *state[1:]) if self.return_sequences else state
        return (output, state, state) if self.return_state else output


for _name in fields(ConvLSTMCell).keys() - fields(Layer).keys() - {"rank", "units"}:
    setattr(_ConvLSTM, _name, property(attrgetter(f"cell.{_name}"), doc="As given to the constructor; the cell's."))


@group
class Convolved:
    """The arguments of a convolutional LSTM that come first."""

    filters: int
    kernel_size: Sizes
    strides: Sizes = 1
    padding: Padding = "valid"
    data_format: DataFormat = None
    dilation_rate: Sizes = 1
    activation: Any = "tanh"
    recurrent_activation: Any = "sigmoid"
    use_bias: bool = True
    kernel_initializer: Any = "glorot_uniform"
    recurrent_initializer: Any = "orthogonal"
    bias_initializer: Any = "zeros"
    unit_forget_bias: bool = True


@declared
class ConvLSTM(Sequences, Seeded, Limited, Watched, Convolved, _ConvLSTM):
    """An LSTM whose products are convolutions (Shi et al. 2015), without peepholes.

    Args:
        filters: number of output channels.
        kernel_size: size of the window, one integer or one for each spatial axis; so are `strides` and `dilation_rate`,
            which concern the inputs alone: the state is convolved in steps of 1 and padded to keep its size.
        padding: of the inputs, `"valid"` or `"same"`.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.
        activation, recurrent_activation: of the candidates and of the gates, default `"tanh"` and `"sigmoid"`.
        use_bias: whether a bias is added.
        kernel_initializer, recurrent_initializer, bias_initializer: default `"glorot_uniform"`, `"orthogonal"` and
            `"zeros"`.
        unit_forget_bias: whether the bias of the forget gate starts at 1.
        kernel_regularizer, recurrent_regularizer, bias_regularizer, activity_regularizer: penalties, default none.
        kernel_constraint, recurrent_constraint, bias_constraint: projections after each update, default none.
        dropout, recurrent_dropout: share of the inputs, and of the state, that training drops, the same ones at every
            time step and others for each gate.
        seed: of the dropout.
        return_sequences, return_state, go_backwards, stateful, unroll, zero_output_for_mask: as for `RNN`.

    The spatial sizes of the inputs must be known.
    """

    unroll: bool = field(default=False, kw_only=True)
    zero_output_for_mask: bool = field(default=False, kw_only=True)


class ConvLSTM1D(ConvLSTM):
    """Sequences of sequences: (batch, time, steps, channels); arguments as for `ConvLSTM`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.ConvLSTM1D(4, 3)(np.ones((2, 5, 8, 1), "float32")).shape
    (2, 6, 4)
    """

    rank = 1


class ConvLSTM2D(ConvLSTM):
    """Sequences of pictures: (batch, time, rows, columns, channels); arguments as for `ConvLSTM`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.ConvLSTM2D(4, 3, padding="same", return_sequences=True)(np.ones((2, 5, 8, 8, 1), "float32")).shape
    (2, 5, 8, 8, 4)
    """

    rank = 2


class ConvLSTM3D(ConvLSTM):
    """Sequences of volumes: (batch, time, depth, rows, columns, channels); arguments as for `ConvLSTM`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.ConvLSTM3D(2, 3)(np.ones((1, 2, 4, 4, 4, 1), "float32")).shape
    (1, 2, 2, 2, 2)
    """

    rank = 3
