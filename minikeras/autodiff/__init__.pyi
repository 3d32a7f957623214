"""What `minikeras.autodiff` offers: see `lazy.py`."""

from minikeras.autodiff.check import check_gradients as check_gradients
from minikeras.autodiff.gradients import GradientTape as GradientTape
from minikeras.autodiff.gradients import grad as grad
from minikeras.autodiff.gradients import value_and_grad as value_and_grad
from minikeras.autodiff.op import Op as Op
from minikeras.autodiff.op import composite as composite
from minikeras.autodiff.op import differentiable as differentiable
from minikeras.autodiff.op import operation as operation
from minikeras.autodiff.op import producer as producer
from minikeras.autodiff.shapes import Spec as Spec
from minikeras.autodiff.symbolic import KerasTensor as KerasTensor
from minikeras.autodiff.tape import Needs as Needs
from minikeras.autodiff.tape import backward as backward
from minikeras.autodiff.tape import recording as recording
from minikeras.autodiff.tensor import Tensor as Tensor
from minikeras.autodiff.tensor import Variable as Variable
