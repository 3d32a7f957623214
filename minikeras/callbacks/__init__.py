"""What users hook into training with."""

from minikeras.callbacks.base import Callback
from minikeras.callbacks.callback_list import CallbackList
from minikeras.callbacks.history import History
from minikeras.callbacks.monitor import EarlyStopping, ModelCheckpoint, ReduceLROnPlateau
from minikeras.callbacks.progress import ProgbarLogger
from minikeras.callbacks.simple import CSVLogger, LambdaCallback, LearningRateScheduler, TerminateOnNaN
from minikeras.lazy import offer_names

__all__ = [
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ProgbarLogger",
    "ReduceLROnPlateau",
    "TerminateOnNaN",
]


offer_names(__name__)
