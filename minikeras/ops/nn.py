"""Neural-network operations: activations, dense, convolution, pooling, normalisation, recurrence, cross-entropies.

Beside Keras's names stand the coarse primitives that layers are made of (`dense_layer`, `convolution`,
`lstm_sequence`, ...): one tape node each, with bias and activation inside the kernel.
"""

from minikeras.lazy import public_names

__getattr__, __dir__ = public_names(__name__)
