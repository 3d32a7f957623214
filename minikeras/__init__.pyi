"""What `minikeras` offers: see `lazy.py`."""

from minikeras import _legacy as _legacy
from minikeras import activations as activations
from minikeras import applications as applications
from minikeras import autodiff as autodiff
from minikeras import backend as backend
from minikeras import callbacks as callbacks
from minikeras import config as config
from minikeras import constraints as constraints
from minikeras import data as data
from minikeras import datasets as datasets
from minikeras import dtype_policies as dtype_policies
from minikeras import initializers as initializers
from minikeras import kernels as kernels
from minikeras import layers as layers
from minikeras import losses as losses
from minikeras import metrics as metrics
from minikeras import mixed_precision as mixed_precision
from minikeras import models as models
from minikeras import ops as ops
from minikeras import optimizers as optimizers
from minikeras import preprocessing as preprocessing
from minikeras import random as random
from minikeras import regularizers as regularizers
from minikeras import saving as saving
from minikeras import tree as tree
from minikeras import utils as utils
from minikeras import wrappers as wrappers
from minikeras.autodiff.symbolic import KerasTensor as KerasTensor
from minikeras.config import DTypePolicy as DTypePolicy
from minikeras.config import FloatDTypePolicy as FloatDTypePolicy
from minikeras.config import device_scope as _device_scope
from minikeras.initializers import Initializer as Initializer
from minikeras.layers.context import name_scope as name_scope
from minikeras.layers.core import Input as Input
from minikeras.layers.layer import Layer as Layer
from minikeras.layers.operation import Operation as Operation
from minikeras.layers.spec import InputSpec as InputSpec
from minikeras.losses import Loss as Loss
from minikeras.metrics import Metric as Metric
from minikeras.models.function import Function as Function
from minikeras.models.model import Model as Model
from minikeras.models.sequential import Sequential as Sequential
from minikeras.ops.operators import GradientTape as GradientTape
from minikeras.ops.operators import Variable as Variable
from minikeras.ops.operators import grad as grad
from minikeras.ops.operators import value_and_grad as value_and_grad
from minikeras.optimizers.base import Optimizer as Optimizer
from minikeras.regularizers import Regularizer as Regularizer

device = _device_scope

__version__: str

def version() -> str: ...
