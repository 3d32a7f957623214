"""Replacing files and folders: all or nothing, with modes kept, and what killed saves leave is cleared."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

import minikeras
from minikeras import layers
from minikeras.saving import paths
from minikeras.saving.paths import replacing, replacing_folder

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which processes are gone")


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def names(folder):
    return sorted(one.name for one in folder.iterdir())


@pytest.mark.parametrize("old", [0o600, 0o640, 0o444, 0o755])
@pytest.mark.parametrize("ending", ["m.keras", "m.weights.h5"])
def test_a_file_keeps_its_mode(tmp_path, old, ending):
    model = minikeras.Sequential([minikeras.Input((3,)), layers.Dense(2)])
    save = model.save if ending == "m.keras" else model.save_weights
    path = tmp_path / ending
    previous = os.umask(0o027)
    try:
        save(path)
        assert mode(path) == 0o640
        path.chmod(old)
        save(path)
    finally:
        os.umask(previous)
    assert mode(path) == old and names(tmp_path) == [ending]


def test_nobody_else_reads_what_replaces_a_private_file(tmp_path):
    path = tmp_path / "f"
    path.write_text("old")
    path.chmod(0o604)
    with replacing(path, True) as partial:
        assert mode(partial) == 0o600
    assert mode(path) == 0o604


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root gives files away")
def test_a_file_keeps_its_owner(tmp_path):
    path = tmp_path / "f"
    path.write_text("old")
    os.chown(path, 1234, 5678)
    path.chmod(0o640)
    with replacing(path, True) as partial:
        partial.write_text("new")
    found = path.stat()
    assert (found.st_uid, found.st_gid, mode(path), path.read_text()) == (1234, 5678, 0o640, "new")


WRITER = """
import sys, time
from minikeras.saving.paths import replacing, replacing_folder
from pathlib import Path
path = Path(sys.argv[1])
if path.suffix:
    block = replacing(path, True)
else:
    block = replacing_folder(path, True, ["a"])
with block as partial:
    (partial if path.suffix else partial / "a").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


def writing(path):
    """A process that is in the middle of writing there."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    return process


def write(path):
    with replacing(path, True) if path.suffix else replacing_folder(path, True, ["a"]) as partial:
        (partial if path.suffix else partial / "a").write_text("whole")


@linux
@pytest.mark.parametrize("name", ["f.keras", "folder"])
def test_what_killed_saves_left_is_cleared_and_nothing_else(tmp_path, name):
    path, other = tmp_path / name, tmp_path / f"{name}.other.x"
    dead, living, of_another_name = writing(path), writing(path), writing(other)
    try:
        assert len(names(tmp_path)) == 3
        for process in (dead, of_another_name):
            process.kill()
            process.wait()
            process.stdout.close()
        write(path)
        left = names(tmp_path)
        assert len(left) == 3 and name in left  # that of the living, and that of another name
        assert any(f"-{living.pid:x}-" in one for one in left)
        assert not any(f"-{dead.pid:x}-" in one for one in left)
    finally:
        living.send_signal(signal.SIGKILL)
        living.wait()
        living.stdout.close()
    write(path)
    write(other)
    assert names(tmp_path) == [name, other.name]


@linux
def test_who_is_taken_to_be_dead(tmp_path):
    """Not another machine, nor another container; the same one before it started again."""
    host, view, begin = paths._machine()
    start = paths._started(os.getpid())
    assert abs(time.time() - begin) < 10 * 365 * 86400 and time.time() > begin
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    before = begin - 100
    for mark, written, dead in (
        (f"{host}-{view}-{os.getpid():x}-{start:x}", None, False),
        (f"{host}-{view}-{os.getpid():x}-{start + 1:x}", None, True),  # its number went to another process
        (f"{host}-{view}-{gone.pid:x}-{start:x}", None, True),
        (f"00000000-{view}-{gone.pid:x}-{start:x}", before, False),
        (f"{host}-00000000-{gone.pid:x}-{start:x}", None, False),
        (f"{host}-00000000-{os.getpid():x}-{start:x}", before, True),
        ("00000000-00000000-1-1", before, False),
        (f"{host}-{view}-ffffffff-1", None, False),  # no number of a process
    ):
        left = tmp_path / f".f.{mark}.012345"
        left.write_text("half")
        if written is not None:
            os.utime(left, (written, written))
        with replacing(tmp_path / "f", True):
            pass
        assert left.exists() != dead, mark
        left.unlink(missing_ok=True)
    for kept in (".f.0123456789ab", ".f.keras", ".g." + mark + ".012345", ".f.x"):
        (tmp_path / kept).write_text("not ours")
        with replacing(tmp_path / "f", True):
            pass
        assert (tmp_path / kept).exists()


@linux
def test_a_link_under_such_a_name_leads_nowhere(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("mine")
    host, view, _ = paths._machine()
    (tmp_path / f".f.{host}-{view}-{os.getpid():x}-1.012345").symlink_to(tmp_path / "kept")
    with replacing(tmp_path / "f", True):
        pass
    assert names(tmp_path) == ["f", "kept"] and names(tmp_path / "kept") == ["file"]


def test_long_names(tmp_path):
    for name in ("n" * 250, "ä" * 120):
        with replacing(tmp_path / name, True) as partial:
            partial.write_text("x")
        assert (tmp_path / name).read_text() == "x"


def test_a_folder_is_replaced_or_stays(tmp_path):
    path = tmp_path / "model"
    write(path)
    path.chmod(0o700)
    with pytest.raises(ZeroDivisionError), replacing_folder(path, True, ["a"]) as partial:
        (partial / "a").write_text("half")
        raise ZeroDivisionError
    assert (path / "a").read_text() == "whole" and names(tmp_path) == ["model"]
    with pytest.raises(FileExistsError, match="exists"), replacing_folder(path, False, ["a"]):
        pass
    with replacing_folder(path, True, ["a"]) as partial:
        (partial / "a").write_text("new")
        (partial / "deep").mkdir()
    assert names(path) == ["a", "deep"] and names(tmp_path) == ["model"]


@pytest.mark.parametrize("system", ["this", "without an exchange"])
def test_both_ways_to_replace_a_folder(tmp_path, system, monkeypatch):
    if system != "this":
        monkeypatch.setattr(paths, "_exchange", lambda one, other: False)
    for _ in range(2):
        write(tmp_path / "model")
    assert names(tmp_path) == ["model"] and (tmp_path / "model" / "a").read_text() == "whole"


def test_a_folder_of_somebody_elses_is_not_replaced(tmp_path):
    path = tmp_path / "photos"
    path.mkdir()
    (path / "holiday.jpg").write_text("mine")
    with (
        pytest.raises(FileExistsError, match=r"holds 'holiday\.jpg'; choose another"),
        replacing_folder(path, True, ["a"]),
    ):
        pass
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(FileExistsError, match="is a file"), replacing_folder(file, True, ["a"]):
        pass
    assert names(path) == ["holiday.jpg"] and file.read_text() == "mine"


@linux
@pytest.mark.parametrize("name", ["m.keras", "m.weights.h5"])
def test_a_full_disk(tmp_path, name):
    """A process whose files may not grow says so, and leaves the old file whole."""
    code = """
import resource, signal, sys
import minikeras
from minikeras import layers
model = minikeras.Sequential([minikeras.Input((300,)), layers.Dense(1000)])
save = model.save if sys.argv[1].endswith(".keras") else model.save_weights
save(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
try:
    save(sys.argv[1])
except OSError as error:
    print(error.errno, error)
"""
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], capture_output=True, text=True, timeout=60)
    assert f"{errno.EFBIG} [Errno {errno.EFBIG}]" in ran.stdout, ran.stderr
    assert "could not be written: File too large; what was there is as it was" in ran.stdout and not ran.returncode
    assert names(tmp_path) == [name] and (tmp_path / name).stat().st_size > 1_000_000
    model = minikeras.Sequential([minikeras.Input((300,)), layers.Dense(1000)])
    model.load_weights(tmp_path / name)


def test_a_folder_that_cannot_be_listed(tmp_path):
    if os.getuid() == 0:
        pytest.skip("root lists any folder")
    tmp_path.chmod(0o300)
    try:
        with replacing(tmp_path / "f", True) as partial:
            Path(partial).write_text("x")
    finally:
        tmp_path.chmod(0o700)
    assert names(tmp_path) == ["f"]


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.weights.h5", "m.weights.json", "m.npz"])
def test_what_no_file_replaces(tmp_path, name):
    """A folder, a pipe, and by a link a device, which who may do everything could replace."""
    model = minikeras.Sequential([minikeras.Input((3,)), layers.Dense(2)])
    save = model.save if name in ("m.keras", "m.h5") else model.save_weights
    path = tmp_path / name
    path.mkdir()
    with pytest.raises(FileExistsError, match=f"{name}' is a folder, which no file replaces"):
        save(path)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(FileExistsError, match=f"{name}' is no ordinary file"):
        save(path)
    assert path.is_fifo() and [one.name for one in tmp_path.iterdir()] == [name]
    path.unlink()
    path.symlink_to("/dev/null")
    with pytest.raises(FileExistsError, match="'/dev/null' is no ordinary file"):
        save(path)


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="a folder in which nobody makes files")
@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.npz"])
def test_a_folder_in_which_nothing_may_be_written(name):
    model = minikeras.Sequential([minikeras.Input((3,)), layers.Dense(2)])
    with pytest.raises(OSError, match=f"'/proc/{name}' could not be written: .*; what was there is as it was"):
        (model.save_weights if name == "m.npz" else model.save)(f"/proc/{name}")
