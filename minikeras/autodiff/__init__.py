"""Reverse-mode differentiation: tensors, variables, the tape, and the public gradient check."""

from minikeras.autodiff.check import check_gradients
from minikeras.autodiff.symbolic import KerasTensor
from minikeras.autodiff.tape import (
    GradientTape,
    Needs,
    backward,
    composite,
    differentiable,
    grad,
    operation,
    recording,
    value_and_grad,
)
from minikeras.autodiff.tensor import Tensor, Variable

__all__ = [
    "GradientTape",
    "KerasTensor",
    "Needs",
    "Tensor",
    "Variable",
    "backward",
    "check_gradients",
    "composite",
    "differentiable",
    "grad",
    "operation",
    "recording",
    "value_and_grad",
]
