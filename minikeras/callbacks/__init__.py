"""What users hook into training with."""

from typing import TYPE_CHECKING

from minikeras.callbacks.base import Callback
from minikeras.callbacks.callback_list import CallbackList
from minikeras.callbacks.history import History
from minikeras.callbacks.monitor import EarlyStopping, ModelCheckpoint, ReduceLROnPlateau
from minikeras.callbacks.progress import ProgbarLogger
from minikeras.callbacks.simple import (
    CSVLogger,
    LambdaCallback,
    LearningRateScheduler,
    RemoteMonitor,
    SwapEMAWeights,
    TerminateOnNaN,
)
from minikeras.lazy import public_names

__all__ = ["CSVLogger", "Callback", "CallbackList", "EarlyStopping", "History", "LambdaCallback"]
__all__ += ["LearningRateScheduler", "ModelCheckpoint", "ProgbarLogger", "ReduceLROnPlateau", "RemoteMonitor"]
__all__ += ["SwapEMAWeights", "TerminateOnNaN"]

if TYPE_CHECKING:
    from minikeras.callbacks.backup import BackupAndRestore as BackupAndRestore
    from minikeras.callbacks.tensorboard import TensorBoard as TensorBoard
else:
    _LATER = {"BackupAndRestore": "backup", "TensorBoard": "tensorboard"}
    __getattr__, __dir__ = public_names(__name__, {n: f"minikeras.callbacks.{at}:{n}" for n, at in _LATER.items()})
