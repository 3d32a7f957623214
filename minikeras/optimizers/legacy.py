"""The optimizers under the names of `tf.keras.optimizers.legacy`; they are the same classes."""

from minikeras.optimizers.algorithms import SGD, Adadelta, Adagrad, Adam, Adamax, Ftrl, Nadam, RMSprop
from minikeras.optimizers.base import Optimizer

__all__ = ["SGD", "Adadelta", "Adagrad", "Adam", "Adamax", "Ftrl", "Nadam", "Optimizer", "RMSprop"]
