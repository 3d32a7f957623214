"""Datasets that worker processes can import."""

from __future__ import annotations

import os
import signal
import time

import numpy as np

import minikeras as keras


class Numbers(keras.utils.PyDataset):
    """Batches whose values tell their index and the dataset's epoch."""

    def __init__(self, length=6, fault=None, **settings):
        super().__init__(**settings)
        self.length, self.fault, self.epoch, self.process = length, fault, 0, os.getpid()

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if self.fault == "error" and index == 3:
            raise LookupError("picture 3 is gone")
        if self.fault == "unpicklable" and index == 3:
            raise LocalError(lambda: None)
        if self.fault == "killed" and index == 3:
            assert os.getpid() != self.process
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "slow":
            time.sleep(60)
        x = np.full((2, 3), index + 100 * self.epoch, "f4")
        return x, np.full(2, os.getpid() == self.process, "f4")

    def on_epoch_end(self):
        self.epoch += 1


class LocalError(Exception):
    """An exception that cannot be sent."""
