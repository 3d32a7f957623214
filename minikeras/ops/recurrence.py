"""Whole recurrences, one tape node each."""

from __future__ import annotations

from typing import Any

from minikeras import kernels as k
from minikeras.autodiff.op import differentiable
from minikeras.autodiff.tape import is_recording
from minikeras.ops.common import as_type


@differentiable
def simple_rnn_sequence(x: Any, h0: Any, kernel: Any, recurrent_kernel: Any, bias: Any = None, **settings: Any) -> Any:
    """A whole SimpleRNN sequence: (outputs (n, t, u), last h); the settings are those of the kernel `simple_rnn`."""
    outputs, h, residual = k.simple_rnn(
        as_type(x, kernel.dtype), h0, kernel, recurrent_kernel, bias, with_residual=is_recording(), **settings
    )
    return (outputs, h), lambda g, needs: k.simple_rnn_grad(*g, residual, needs[0], needs.out[2:5])


@differentiable
def lstm_sequence(
    x: Any, h0: Any, c0: Any, kernel: Any, recurrent_kernel: Any, bias: Any = None, **settings: Any
) -> Any:
    """A whole LSTM sequence: (outputs (n, t, u), last h, last c); the settings are those of the kernel `lstm`."""
    outputs, h, c, residual = k.lstm(
        as_type(x, kernel.dtype), h0, c0, kernel, recurrent_kernel, bias, with_residual=is_recording(), **settings
    )
    return (outputs, h, c), lambda g, needs: k.lstm_grad(*g, residual, needs[0], needs.out[3:6])


@differentiable
def gru_sequence(x: Any, h0: Any, kernel: Any, recurrent_kernel: Any, bias: Any = None, **settings: Any) -> Any:
    """A whole GRU sequence: (outputs (n, t, u), last h); the settings are those of the kernel `gru`."""
    outputs, h, residual = k.gru(
        as_type(x, kernel.dtype), h0, kernel, recurrent_kernel, bias, with_residual=is_recording(), **settings
    )
    return (outputs, h), lambda g, needs: k.gru_grad(*g, residual, needs[0], needs.out[2:5])


@differentiable
def conv_lstm_sequence(
    x: Any, h0: Any, c0: Any, kernel: Any, recurrent_kernel: Any, bias: Any = None, **settings: Any
) -> Any:
    """A whole convolutional LSTM sequence, channels last; the settings are those of the kernel `conv_lstm`."""
    outputs, h, c, residual = k.conv_lstm(
        as_type(x, kernel.dtype), h0, c0, kernel, recurrent_kernel, bias, with_residual=is_recording(), **settings
    )
    return (outputs, h, c), lambda g, needs: k.conv_lstm_grad(*g, residual, needs[0], needs.out[3:6])


@differentiable
def time_steps(x: Any) -> Any:
    """The time steps of (n, t, ...): t views (n, ...), whose gradients are collected in one array."""

    def vjp(g: Any, needs: Any) -> Any:
        g_x = k.empty(x.shape, x.dtype)
        for s, one in enumerate(g):
            g_x[:, s] = 0 if one is None else one
        return (g_x,)

    return tuple([x[:, s] for s in range(x.shape[1])]), vjp
