"""Reverse-mode differentiation: tensors, variables, the tape, and the public gradient check."""

from typing import TYPE_CHECKING

from minikeras.autodiff.gradients import GradientTape, grad, value_and_grad
from minikeras.autodiff.op import Op, composite, differentiable, operation, producer
from minikeras.autodiff.shapes import Spec
from minikeras.autodiff.symbolic import KerasTensor
from minikeras.autodiff.tape import Needs, backward, recording
from minikeras.autodiff.tensor import Tensor, Variable
from minikeras.lazy import public_names

if TYPE_CHECKING:
    from minikeras.autodiff.check import check_gradients
else:
    __getattr__, __dir__ = public_names(__name__, {"check_gradients": "minikeras.autodiff.check:check_gradients"})

__all__ = [
    "GradientTape",
    "KerasTensor",
    "Needs",
    "Op",
    "Spec",
    "Tensor",
    "Variable",
    "backward",
    "check_gradients",
    "composite",
    "differentiable",
    "grad",
    "operation",
    "producer",
    "recording",
    "value_and_grad",
]
