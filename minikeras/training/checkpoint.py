"""Checkpoints on disk: two files in turn, each whole or not there, written by a thread.

A file is a zip archive without compression: `state.json`, and the arrays that it refers to as bytes.  Nothing in it is
run; what it may cost to read is bounded by its size.  The archive's checksums tell damage, and a file takes the place
of an older one only when it is on the disk.
"""

from __future__ import annotations

import json
import os
import threading
import zipfile
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any

import numpy as np

from minikeras.tracebacks import warn
from minikeras.training.states import rebuilt
from minikeras.utils.bounded import Zip

NAMES = ("checkpoint_0.zip", "checkpoint_1.zip")
_FORMAT = "minikeras training 1"
_TEXT = "state.json"
_PAUSE = 30  # a writer that is not in a hurry rests for so many times the processor's time that a file took


class Folder:
    """The two files.

    Args:
        path: the folder; it is made when the first file is written.
    """

    def __init__(self, path: str):
        self.path = path
        self._files = [os.path.join(path, name) for name in NAMES]
        self._number = 0  # of the last file that was written
        self._next = 0  # which of the two is written next

    def newest(self) -> dict[str, Any] | None:
        """What the newest whole file holds, None where there is no file; damaged ones are passed over with a warning.

        Raises:
            ValueError: where there are files and all of them are damaged.
        """
        found, problems = [], []
        for place, file in enumerate(self._files):
            if os.path.exists(file):
                try:
                    content = _read(file)
                    found.append((content["number"], place, content))
                except Exception as error:  # of the many kinds that damage leads to
                    problems.append(f"{file!r} is damaged ({error})")
        if not found:
            if problems:
                raise ValueError(f"{' and '.join(problems)}; remove the folder to begin the training anew.")
            return None
        self._number, place, content = max(found, key=lambda one: one[:2])
        self._next = 1 - place
        for problem in problems:
            warn(f"{problem}; the checkpoint beside it is taken.")
        return content

    def write(self, content: dict[str, Any], arrays: list[np.ndarray]) -> None:
        """Write the next file and let it take the place of the older one.

        Raises:
            OSError: where that fails; both files are what they were.
        """
        os.makedirs(self.path, exist_ok=True)
        file = self._files[self._next]
        partial = f"{file}.partial"
        text = json.dumps({**content, "format": _FORMAT, "number": self._number + 1})
        try:
            with open(partial, "wb") as target:
                with zipfile.ZipFile(target, "w") as archive:
                    archive.writestr(_TEXT, text)
                    for i, array in enumerate(arrays):
                        archive.writestr(str(i), memoryview(array))  # type: ignore[arg-type]
                target.flush()
                os.fsync(target.fileno())
            os.replace(partial, file)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
        self._number, self._next = self._number + 1, 1 - self._next

    def remove(self) -> None:
        """Remove the files, and the folder where nothing else is in it."""
        for file in self._files:
            for one in (file, f"{file}.partial"):
                Path(one).unlink(missing_ok=True)
        if os.path.isdir(self.path) and not os.listdir(self.path):
            os.rmdir(self.path)


def _read(file: str) -> dict[str, Any]:
    """The content of a file.

    Raises:
        Exception: of many kinds, for one that is damaged.
    """
    with Zip(file, directory=os.path.getsize(file)) as archive:
        content = json.loads(archive.contents(_TEXT))
        if content["format"] != _FORMAT:
            raise ValueError(f"its format is {content['format']!r:.60}, not {_FORMAT!r}")
        arrays = [archive.contents(str(i)) for i in range(len(archive.namelist()) - 1)]
    return {**content, "number": int(content["number"]), "state": rebuilt(content["state"], arrays)}


class Writer:
    """A thread that writes checkpoints while training goes on: always the latest that it was given.

    Args:
        folder: where.
        paced: whether it rests between files, so that many of them do not slow training down.

    Attributes:
        seconds, used: how long the last file took, and how much of the processor's time.
    """

    def __init__(self, folder: Folder, paced: bool):
        self._folder, self._paced = folder, paced
        self._waiting: tuple[dict[str, Any], list[np.ndarray]] | None = None
        self._changed = threading.Condition()
        self._closing = self._warned = False
        self._problem: BaseException | None = None
        self._thread: threading.Thread | None = None
        self.seconds = self.used = 0.0

    def write(self, content: dict[str, Any], arrays: list[np.ndarray]) -> None:
        """Have this written; what was not yet begun is forgotten."""
        with self._changed:
            self._waiting = content, arrays
            self._changed.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True, name="minikeras-checkpoints")
            self._thread.start()
        self._tell()

    def close(self, discard: bool = False) -> None:
        """End the thread, after what it was given is written unless it is to be discarded."""
        with self._changed:
            self._closing = True
            if discard:
                self._waiting = None
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._tell()

    def _tell(self) -> None:
        """Warn, once, of a file that could not be written."""
        if self._problem is not None and not self._warned:
            self._warned = True
            problem = f"A checkpoint could not be written to {self._folder.path!r} ({self._problem})"
            warn(f"{problem}; training goes on, and later ones are tried. Make room, or the folder writable.")

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None or self._closing)
                if self._waiting is None:
                    return
                job, self._waiting = self._waiting, None
            began, before = perf_counter(), thread_time()
            try:
                self._folder.write(*job)
            except BaseException as error:  # whatever it is: training goes on
                self._problem = error
            del job
            self.seconds, self.used = perf_counter() - began, thread_time() - before
            if self._paced:
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, _PAUSE * self.used)
