"""BackupAndRestore: a training that was broken off goes on where it was saved."""

from __future__ import annotations

import json
import os
from typing import Any

from minikeras.callbacks.base import Callback, FilePath, Frequency, lazy_logs
from minikeras.callbacks.simple import check_writable
from minikeras.declared import declared
from minikeras.tracebacks import warn

_ENDINGS = ("", ".new", ".bkp")  # of the metadata


@declared
class BackupAndRestore(Callback):
    """Saves weights and optimizer during training; a `fit` that finds them goes on from there.

    A training that is broken off, whenever that is, leaves a whole backup; the next `fit` with the same arguments
    begins with the epoch after the last that was saved.  With `save_freq` batches that is the epoch that was broken
    off, from its beginning.

    Args:
        backup_dir: a folder for this alone.
        save_freq: `"epoch"`, or a number of batches.
        double_checkpoint: whether the backup before the last is kept too, and taken where the last cannot be read.
        delete_checkpoint: whether the files are removed at the end of training; the folder if nothing else is in it.

    Raises:
        ValueError: for arguments that make no sense; when training begins, for a model that is not built, and for a
            backup that cannot be read or is another model's.
        OSError: when training begins, where nothing can be written.

    >>> from minikeras import callbacks
    >>> callbacks.BackupAndRestore("backup", save_freq=500)
    <BackupAndRestore backup_dir='backup' save_freq=500>
    """

    backup_dir: FilePath
    save_freq: Frequency = "epoch"
    double_checkpoint: bool = False
    delete_checkpoint: bool = True
    per_replica = None

    def __post_init__(self) -> None:
        files = (os.path.join(self.backup_dir, f"{name}.weights.h5") for name in ("latest", "previous", "new"))
        self._weights, self._previous, self._new = files
        self._metadata = os.path.join(self.backup_dir, "training_metadata.json")
        self._epoch = self._batch = self._waiting = 0

    def check_before_training(self) -> None:
        if not self.model.built:
            problem = f"BackupAndRestore needs a model that is built, which {self.model.name!r} is not"
            raise ValueError(f"{problem}; give it an Input or call it on a batch first.")
        check_writable(self._weights, "BackupAndRestore")

    def on_train_begin(self, logs: Any = None) -> None:
        self._waiting = 0
        backups = [path for path in (self._weights, self._previous) if os.path.exists(path)]
        for path in backups:
            try:
                self._restore(path)
                return
            except (OSError, ValueError) as error:
                if path is backups[-1]:
                    raise
                warn(f"The backup {path!r} cannot be read ({error}); the one before it is taken.")

    def _restore(self, path: str) -> None:
        """Take the weights, the optimizer's state and the number of the epoch."""
        optimizer = self.model.optimizer
        if optimizer is not None and not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        self.model.load_weights(path)
        updates = self._updates()
        for ending in _ENDINGS:
            if os.path.exists(self._metadata + ending):
                with open(self._metadata + ending) as file:
                    found = json.load(file)
                if found.get("iterations", updates) == updates:  # it was written with these weights; Keras writes none
                    self.model._initial_epoch = found["epoch"]
                    return
        warn(f"Which epoch {path!r} was saved after is not known; training begins with its weights.")

    def _updates(self) -> int:
        return 0 if self.model.optimizer is None else int(self.model.optimizer.iterations)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch, self._batch = epoch, 0

    @lazy_logs
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._batch, self._waiting = batch + 1, self._waiting + 1
        if self.save_freq != "epoch" and self._waiting >= self.save_freq:
            self._waiting = 0
            self._save()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._epoch, self._batch = epoch + 1, 0
        if self.save_freq == "epoch":
            self._save()

    def _save(self) -> None:
        """Write new files and let them take the place of the old ones, weights first: at any moment there is a pair."""
        os.makedirs(self.backup_dir, exist_ok=True)
        self.model.save_weights(self._new, overwrite=True)
        with open(f"{self._metadata}.new", "w") as file:
            json.dump({"epoch": self._epoch, "batch": self._batch, "iterations": self._updates()}, file)
        if self.double_checkpoint:
            for path, kept in ((self._weights, self._previous), (self._metadata, f"{self._metadata}.bkp")):
                if os.path.exists(path):
                    os.replace(path, kept)
        os.replace(self._new, self._weights)
        os.replace(f"{self._metadata}.new", self._metadata)

    def on_train_end(self, logs: Any = None) -> None:
        if self.delete_checkpoint and os.path.isdir(self.backup_dir):
            for path in (self._weights, self._previous, self._new, *[self._metadata + ending for ending in _ENDINGS]):
                if os.path.exists(path):
                    os.remove(path)
            if not os.listdir(self.backup_dir):
                os.rmdir(self.backup_dir)
