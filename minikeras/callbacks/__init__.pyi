"""What `minikeras.callbacks` offers: see `lazy.py`."""

from minikeras.callbacks.backup import BackupAndRestore as BackupAndRestore
from minikeras.callbacks.base import Callback as Callback
from minikeras.callbacks.callback_list import CallbackList as CallbackList
from minikeras.callbacks.history import History as History
from minikeras.callbacks.monitor import EarlyStopping as EarlyStopping
from minikeras.callbacks.monitor import ModelCheckpoint as ModelCheckpoint
from minikeras.callbacks.monitor import ReduceLROnPlateau as ReduceLROnPlateau
from minikeras.callbacks.progress import ProgbarLogger as ProgbarLogger
from minikeras.callbacks.simple import CSVLogger as CSVLogger
from minikeras.callbacks.simple import LambdaCallback as LambdaCallback
from minikeras.callbacks.simple import LearningRateScheduler as LearningRateScheduler
from minikeras.callbacks.simple import RemoteMonitor as RemoteMonitor
from minikeras.callbacks.simple import SwapEMAWeights as SwapEMAWeights
from minikeras.callbacks.simple import TerminateOnNaN as TerminateOnNaN
from minikeras.callbacks.tensorboard import TensorBoard as TensorBoard
