"""A worker process: it holds a copy of a dataset and sends the batches that it is asked for.

The process is started anew rather than forked, so it inherits no threads and no locks, and it does not run the main
program again (see `main_program`), which needs no `if __name__ == "__main__":` therefore.  Both sides talk through its
standard input and output; what the dataset prints goes to standard error.  It ends when its input ends, so it cannot
outlive whoever started it.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any

from minikeras.tracebacks import shorten
from minikeras.training import main_program

_COUNT = struct.Struct("<Q")
_serving = False


class WorkerTraceback(Exception):
    """The traceback of an exception in a worker process; the cause of the exception that the caller gets."""


class Worker:
    """The calling side: `worker(index)` is `dataset[index]`, computed in another process.

    Args:
        dataset: gives the pickled dataset; where it changes, the process gets the new one before its next batch.
        name: what the batches come from, for messages.
        finish: called here with each batch.
    """

    def __init__(self, dataset: Callable[[], Pickled], name: str, finish: Callable[[Any], Any]):
        self._dataset, self._name, self._finish = dataset, name, finish
        self._sent: Pickled | None = None
        self._process: subprocess.Popen | None = None
        self._killed = False

    def __call__(self, index: int) -> Any:
        """The batch of that index.

        Raises:
            RuntimeError: where the process is no more.
            Exception: what the dataset raised there.
        """
        if self._killed:
            self.close()
        if self._process is None:
            self._process = _start()
        try:
            dataset = self._dataset()
            if dataset is not self._sent:
                _write(self._process.stdin, [_preparation(dataset), dataset])
                self._sent = dataset
            _write(self._process.stdin, [pickle.dumps(index)])
            answer = _read(self._process.stdout)
        except (OSError, EOFError):  # nobody reads or writes there
            raise RuntimeError(self._obituary(index)) from None
        failed, value = pickle.loads(answer[0], buffers=answer[1:])
        if not failed:
            return self._finish(value)
        error, text = value
        raise _restored(error, text) from WorkerTraceback(f"\n{text}")

    def _obituary(self, index: int) -> str:
        assert self._process is not None
        code = self._process.wait()
        cause = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return (
            f"A worker process of {self._name} {cause} while it prepared batch {index}; see whether memory ran out, "
            "or pass use_multiprocessing=False to prepare batches in threads."
        )

    def kill(self) -> None:
        """End the process at once; the next batch starts another."""
        process = self._process
        if process is not None:
            self._killed = True
            process.kill()

    def close(self) -> None:
        """End the process and wait until it has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                pipe.close()
            self._process = None
        self._sent, self._killed = None, False


class Pickled(bytes):
    """A pickle, with what `main_program.rebuild` needs first to read it, or None."""

    program: tuple[Any, ...] | None = None

    def same(self, other: Pickled) -> bool:
        """Whether a process that has the other has no need of this one."""
        values, others = (one.program and one.program[-1] for one in (self, other))
        return self == other and values == others


def pickled(dataset: Any) -> Pickled | Exception:
    """The dataset as worker processes get it, or the exception that says why they cannot have it."""
    try:
        data, names = main_program.dumped(dataset)
        found = Pickled(data)
        found.program = main_program.describe(names) if names else None
    except Exception as error:  # whatever an object's own methods raise
        return error
    return found


def _preparation(dataset: Pickled) -> bytes:
    """What the process has to set up before it can unpickle the dataset, by the keys of `multiprocessing.spawn`."""
    found = {"name": "minikeras-batches", "sys_argv": sys.argv, "dir": os.getcwd()}
    return pickle.dumps((found, dataset.program))


def _start() -> subprocess.Popen:
    if _serving:
        raise RuntimeError("A worker process may not start others; pass use_multiprocessing=False within a dataset.")
    code = f"import sys; sys.path[:] = {sys.path!r}; from minikeras.training.worker import serve; serve()"
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)


def serve() -> None:
    """The process's side: reads a dataset and indices, writes batches, until its input ends."""
    global _serving
    _serving = True
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started us ends us
    requests, answers = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    dataset: Any = None
    while True:
        try:
            request = _read(requests)
        except EOFError:
            return
        try:
            if len(request) == 2:
                dataset = None  # not two at a time
                dataset = _unpickled(*request)
                continue
            if isinstance(dataset, _Unreadable):
                raise dataset.error
            answer = (False, dataset[pickle.loads(request[0])])
            parts = _dumped(answer)
        except BaseException as error:
            parts = _dumped((True, _described(error)))
        try:
            _write(answers, parts)
        except OSError:  # nobody wants it any more
            return


class _Unreadable:
    """Stands for a dataset that could not be unpickled, and says so at the first batch."""

    def __init__(self, error: BaseException):
        self.error = error


def _unpickled(preparation: Any, dataset: Any) -> Any:
    from multiprocessing import spawn

    try:
        settings, program = pickle.loads(preparation)
        spawn.prepare(settings)
        if program is not None:
            main_program.rebuild(*program)
        return pickle.loads(dataset)
    except BaseException as error:
        return _Unreadable(error)


def _described(error: BaseException) -> tuple[bytes, str]:
    """An exception to send: pickled, or empty where that does not work, and its traceback as text."""
    shorten(error)
    text = "".join(traceback.format_exception(error))
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:
        data = b""
    return data, text


def _restored(data: bytes, text: str) -> BaseException:
    try:
        error = pickle.loads(data) if data else None
    except Exception:
        error = None
    if not isinstance(error, BaseException):
        error = RuntimeError(f"A worker process failed: {text.strip().splitlines()[-1]}")
    return error


def _dumped(answer: Any) -> list[Any]:
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(answer, protocol=5, buffer_callback=buffers.append)
    return [head, *(buffer.raw() for buffer in buffers)]


def _write(pipe: Any, parts: list[Any]) -> None:
    sizes = [memoryview(part).nbytes for part in parts]
    _write_all(pipe, struct.pack(f"<{len(sizes) + 1}Q", len(sizes), *sizes))
    for part in parts:
        _write_all(pipe, part)


def _write_all(pipe: Any, part: Any) -> None:
    view = memoryview(part).cast("B")
    while view:
        view = view[pipe.write(view) :]


def _read(pipe: Any) -> list[bytearray]:
    """The parts of a message.

    Raises:
        EOFError: where the other side has ended.
    """
    (count,) = _COUNT.unpack(_read_exactly(pipe, _COUNT.size))
    sizes = _COUNT.iter_unpack(_read_exactly(pipe, count * _COUNT.size))
    return [_read_exactly(pipe, size) for (size,) in sizes]


def _read_exactly(pipe: Any, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        got = pipe.readinto(view)
        if not got:
            raise EOFError
        view = view[got:]
    return data
