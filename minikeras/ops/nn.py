"""Neural-network operations: activations, dense, convolution, pooling, normalisation, recurrence, cross-entropies.

Beside Keras's names stand the coarse primitives that layers are made of (`dense_layer`, `convolution`,
`lstm_sequence`, ...): one tape node each, with bias and activation inside the kernel.
"""

# ruff: noqa: F401, F403
from typing import TYPE_CHECKING

from minikeras.lazy import public_names
from minikeras.ops import later as _later
from minikeras.ops.activation import *
from minikeras.ops.activation import piecewise_relu
from minikeras.ops.attention import *
from minikeras.ops.convolution import *
from minikeras.ops.convolution import (
    convolution,
    depthwise_convolution,
    explicit_padding,
    transposed_convolution,
    transposed_length,
)
from minikeras.ops.crossentropy import *
from minikeras.ops.crossentropy import check_labels, whole_labels
from minikeras.ops.ctc import *
from minikeras.ops.dense import dense_layer, embedding_lookup, masked_scale
from minikeras.ops.normalization import *
from minikeras.ops.normalization import batch_norm_training, layer_norm, rms_norm, scale_shift
from minikeras.ops.pooling import *
from minikeras.ops.recurrence import gru_sequence, lstm_sequence, simple_rnn_sequence

if TYPE_CHECKING:  # what __getattr__ finds, for type checkers and editors
    from minikeras.ops.patches import *
    from minikeras.ops.rare import polar
else:
    __getattr__, __dir__ = public_names(__name__, _later.homes(_later.NN), (__package__,))
