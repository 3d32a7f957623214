"""BackupAndRestore: a training that was broken off goes on where it was saved."""

from __future__ import annotations

import os
from typing import Any

from minikeras.callbacks.base import Callback, FilePath, Frequency
from minikeras.callbacks.simple import check_writable
from minikeras.declared import declared


@declared
class BackupAndRestore(Callback):
    """Saves a training in a folder while it goes on; the same `fit` called again, in a new process too, goes on there.

    It ends as if it had never been broken off, bit for bit: weights, optimizer, random numbers, the order of the data,
    callbacks and history are kept, at any step; see `fit`, whose argument `resume` is the same but keeps the files at
    the end.  Of a source that cannot be read again from the middle, such as a generator, the epoch that was broken off
    begins anew.

    Args:
        backup_dir: a folder for this alone.
        save_freq: `"epoch"`, at the end of each epoch, and within long ones so often that it costs about 1 % of the
            time; after the first ten, epochs that are very short are saved so seldom that it costs about 2 %.  Or a
            number of batches.
        double_checkpoint: accepted; two checkpoints are always kept, and the one before is taken where the last is
            damaged.
        delete_checkpoint: whether the files are removed at the end of training; the folder if nothing else is in it.

    Raises:
        ValueError: for arguments that make no sense; when training begins, for a model that is not built, and for a
            checkpoint that cannot be read or is of another training.
        OSError: when training begins, where nothing can be written.

    >>> from minikeras import callbacks
    >>> callbacks.BackupAndRestore("backup", save_freq=500)
    <BackupAndRestore backup_dir='backup' save_freq=500>
    """

    backup_dir: FilePath
    save_freq: Frequency = "epoch"
    double_checkpoint: bool = False
    delete_checkpoint: bool = True

    def check_before_training(self) -> None:
        if not self.model.built:
            problem = f"BackupAndRestore needs a model that is built, which {self.model.name!r} is not"
            raise ValueError(f"{problem}; give it an Input or call it on a batch first.")
        check_writable(os.path.join(self.backup_dir, "checkpoint"), "BackupAndRestore")

    def get_state(self) -> dict[str, Any]:
        return {}
