"""Archives of machine code: sound ones for this machine are used, all others refused with one sentence."""

from __future__ import annotations

import json
import os
import py_compile
import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from minikeras import config
from minikeras.kernels.cpu.compiler import archive, compiled, host, loader, processor, store
from minikeras.kernels.cpu.compiler.archive import Archive
from minikeras.kernels.cpu.compiler.processor import Target

pytestmark = pytest.mark.skipif(not loader.OWN, reason="archives are for systems whose machine code we load ourselves")

SOME = frozenset({"sse3", "ssse3"})
CODE = {"module.one": b"one" * 50, "module.two": b"two" * 50}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "kernels.zip"
    archive.write(file, {Target("some", SOME): CODE, Target("none", frozenset()): {"module.one": b"plain"}})
    return file


def test_the_family_with_most_features_is_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Archive(path)
    assert found.target == ("some", SOME)
    assert [found.code(symbol) for symbol in ("module.one", "module.two", "module.three")] == [*CODE.values(), None]
    monkeypatch.setattr(processor, "features", lambda: frozenset({"sse3"}))
    found = Archive(path)
    assert found.target == ("none", frozenset())
    assert [found.code(symbol) for symbol in ("module.one", "module.two")] == [b"plain", None]


def test_the_same_code_makes_the_same_file(path: Path, tmp_path: Path) -> None:
    archive.write(
        tmp_path / "new" / "k.zip", {Target("some", SOME): CODE, Target("none", frozenset()): {"module.one": b"plain"}}
    )
    assert (tmp_path / "new" / "k.zip").read_bytes() == path.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["kernels.zip", "new"]


def refusal(path: Path, error: type[Exception] = RuntimeError) -> str:
    with pytest.raises(error) as caught:
        Archive(path)
    start, end = (
        f"The machine code in {path} cannot be used: ",
        "; make it anew with python -m minikeras warmup --output ",
    )
    text = str(caught.value)
    assert text.startswith(start) and text.endswith(f"{end}{path}, or delete it.")
    return text[len(start) :].partition(end)[0]


def changed(path: Path, **values: Any) -> Path:
    """The archive with another manifest."""
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    text = json.dumps(json.loads(members["manifest.json"]) | values).encode()
    members |= {"manifest.json": text, "digest": sha256(text).hexdigest().encode()}
    other = path.with_name("other.zip")
    with zipfile.ZipFile(other, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return other


def test_no_file_no_archive_and_damage_of_the_directory(path: Path) -> None:
    assert refusal(path.with_name("absent.zip")) == "there is no such file"
    assert refusal(path.parent) == "there is no such file"
    content = path.read_bytes()
    for number, damaged in enumerate((b"", b"text", content[:-1], content[: len(content) // 2], content[30:])):
        file = path.with_name(f"{number}.zip")
        file.write_bytes(damaged)
        assert refusal(file) == "it is damaged or no archive of kernels"
    with zipfile.ZipFile(path.with_name("photos.zip"), "w") as photos:
        photos.writestr("photo.jpg", b"")
    assert refusal(path.with_name("photos.zip")) == "it is damaged or no archive of kernels"


def test_any_changed_byte_is_found_or_of_no_consequence(path: Path) -> None:
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        file = path.with_name(f"{place}.zip")
        file.write_bytes(content[:place] + bytes([content[place] ^ 0x41]) + content[place + 1 :])
        try:
            found = Archive(file)
            codes = {symbol: found.code(symbol) for symbol in CODE}
        except RuntimeError as error:
            assert "it is damaged" in str(error)
        else:
            assert codes == CODE


def test_what_was_made_of_or_for_something_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = store.version()
    made = f"it was made of other kernels (minikeras {{}}) than are here ({version})"
    assert refusal(changed(path, version="0.0")) == made.format("0.0")
    assert refusal(changed(path, sources="0" * 64)) == made.format(version)
    assert refusal(changed(path, format=2)) == made.format(version)
    system = f"it is for linux sparc, and this is {processor.SYSTEM}"
    assert refusal(changed(path, system="linux sparc"), archive.ForOthers) == system
    monkeypatch.setattr(processor, "features", lambda: frozenset({"sse3"}))
    families = {"wide": {"features": ["avx512f", "sse3", "fma"], "kernels": {}}}
    lacking = "for wide this processor lacks avx512f, fma"
    assert refusal(changed(path, families=families), archive.ForOthers) == lacking
    monkeypatch.setattr(store, "sources", lambda: [])  # as in a frozen program: only the version can be compared
    assert Archive(changed(path, sources="0" * 64)).target.name == "none"


def test_which_archive_is_found(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def found(chosen: str) -> Any:
        monkeypatch.setattr(config, "_kernels", chosen)
        archive.found.cache_clear()
        return archive.found()

    try:
        monkeypatch.chdir(path.parent)  # an archive that only lies there is none
        monkeypatch.setattr(archive, "BESIDE", tmp_path / "package.zip")
        assert found("") is None
        assert found(str(path)).path == path
        path.rename(archive.BESIDE)
        assert found("").path == archive.BESIDE
        assert found("none") is None
        changed(archive.BESIDE, system="linux sparc").rename(archive.BESIDE)
        assert found("") is None
        archive.BESIDE.write_text("damaged")
        with pytest.warns(UserWarning, match=r"cannot be used: it is damaged or no archive of kernels; make it anew"):
            assert found("") is None
        with pytest.raises(RuntimeError, match="there is no such file"):
            found(str(path))
    finally:
        archive.found.cache_clear()


# ---- the processor


def test_the_processor_has_what_llvm_says() -> None:
    from llvmlite import binding

    theirs = binding.get_host_cpu_features()
    known = {word.partition("=")[0] for word in processor._FEATURES[processor.SYSTEM].split()}
    assert processor.features() == {name for name in known if theirs.get(name)}
    assert known >= processor.FAMILIES["x86-64-v4"].features
    assert {name for name, there in theirs.items() if there and name.startswith("avx")} <= known


def test_a_family_is_what_its_name_means_to_llvm() -> None:
    """Code for a family must not use more than is asked of the processor: the widest vectors of all."""
    vectors = {name: target.features & {"avx", "avx512f"} for name, target in processor.FAMILIES.items()}
    assert vectors == {"x86-64-v2": set(), "x86-64-v3": {"avx"}, "x86-64-v4": {"avx", "avx512f"}}
    from minikeras.kernels.cpu.warmup import kernels

    (tile,) = [kernel for kernel in kernels() if kernel.place == "register.tile"]
    codes = {}
    for name, target in processor.FAMILIES.items():
        host.use(target)
        try:
            codes[name] = tile.translate()
            lanes = host.LANES, host.HAS_VECTORS
        finally:
            host.use(None)
        assert lanes == ((16 if "v4" in name else 8), "v2" not in name)
    evex = b"\x62"  # how instructions of AVX-512 begin
    assert codes["x86-64-v4"].count(evex) > 3 * codes["x86-64-v3"].count(evex)
    assert [b"fmaf" in codes[name] for name in processor.FAMILIES] == [True, False, False]  # it calls what it lacks


# ---- stamps


@compiled
def _something(a) -> int:
    return a + 1


def test_stamps_know_the_target_and_the_module() -> None:
    module, kernels = _something.function.__module__, "minikeras.kernels.cpu.optimizer"
    stamps = {store.stamp_of(one, machine) for one in (module, kernels) for machine in ("one", "another")}
    assert len(stamps) == 4
    own = host.machine()
    host.use(processor.FAMILIES["x86-64-v2"])
    try:
        assert host.machine() != own
    finally:
        host.use(None)
    assert host.machine() == own


WITHOUT_SOURCES = """
from minikeras.kernels.cpu.compiler import processor, store
assert store.sources() == []
print(store.digest_of_kernels(), store.stamp_of("minikeras.kernels.cpu.optimizer", "one").hex())
"""


def test_stamps_need_no_sources(tmp_path: Path) -> None:
    """Of a zip file, and of bytecode alone: the code itself is stamped, the same in every process."""
    package, file = Path(config.__file__).parent, tmp_path / "minikeras.zip"
    with zipfile.ZipFile(file, "w") as bytecode:
        for source in (*package.glob("*.*"), *(package / "kernels").rglob("*.py")):
            name = source.relative_to(package.parent).as_posix()
            if source.suffix == ".py":
                bytecode.write(
                    py_compile.compile(str(source), str(tmp_path / "code.pyc"), name, doraise=True), f"{name}c"
                )
            else:
                bytecode.write(source, name)
    found = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONPATH": str(file), "PYTHONHASHSEED": seed, "MINIKERAS_DEVICE": "cpu"}
        run = subprocess.run(
            [sys.executable, "-c", WITHOUT_SOURCES], env=environment, capture_output=True, text=True, cwd=tmp_path
        )
        assert (run.returncode, run.stderr) == (0, "")
        found.add(run.stdout)
    assert len(found) == 1
