"""Tables of kernels: what is registered from outside is used inside others, but never inside the reference."""

from __future__ import annotations

import inspect
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from table_cases import check_use, registered

from minikeras import kernels as k
from minikeras.kernels.cpu.compiler import store
from minikeras.kernels.table import absent, contiguous_float32, contiguous_floats, of_float32, one_of, same_shape


@pytest.fixture
def calls() -> Iterator[list[str]]:
    with registered("cpu") as found:
        yield found


def test_what_is_registered_is_used_inside_other_kernels(calls: list[str]) -> None:
    check_use(calls, np.asarray)


def test_and_is_gone_when_it_is_withdrawn() -> None:
    before = k.gemm, k.activate
    with registered("cpu"):
        assert hasattr(k, "gated") and hasattr(k.reference_table(), "gated")
    assert not hasattr(k, "gated") and "gated" not in k.names()
    x = np.eye(3)
    assert k.gemm.__func__.__module__ == before[0].__func__.__module__ != __name__
    np.testing.assert_array_equal(k.gemm(x, x), x)


def test_the_reference_has_no_override(calls: list[str]) -> None:
    x = np.ones((2, 3))
    k.reference_table().dense(x, x.T, None, "tanh")
    assert calls == []
    k.dense(x, x.T, None, "tanh")
    assert calls == ["gemm", "activate"]


def test_a_table_that_is_there_already_gets_what_is_registered() -> None:
    on_the_cpu, reference = k.table_of("cpu"), k.reference_table()
    with registered("cpu") as calls:
        assert on_the_cpu.gated is not reference.gated
        on_the_cpu.gemm(np.eye(2), np.eye(2))
        assert calls == ["gemm"]
    assert not hasattr(on_the_cpu, "gated") and not hasattr(reference, "gated")


def test_a_recording_table_hears_what_a_kernel_is_made_of() -> None:
    table, heard = k.table_of("cpu"), []
    gemm = table.gemm
    table.gemm = lambda *arguments, **options: heard.append("gemm") or gemm(*arguments, **options)
    x = np.ones((2, 3, 4))
    table.lstm(x, np.zeros((2, 1)), np.zeros((2, 1)), np.ones((4, 4)), np.ones((1, 4)), None)
    assert heard == ["gemm"] * 4  # the inputs' product, and one for each step


def test_where_a_condition_does_not_hold_what_was_there_before_is_used() -> None:
    long = np.ones((600, 600), "float32")  # the CPU's own override takes it where there is a tile
    wanted = k.gemm(long, long)
    asked: list[tuple[int, ...]] = []

    def is_square(a: Any, b: Any) -> bool:
        asked.append(a.shape)
        return a.shape == b.shape == (2, 2)

    @k.override("gemm", "cpu", when=(of_float32("a"), is_square))
    def zeros(k: Any, a: Any, b: Any, ta: bool = False, tb: bool = False, out: Any = None) -> Any:
        """Nothing but zeros."""
        return np.zeros((2, 2))

    try:
        assert not k.gemm(np.ones((2, 2), "float32"), np.ones((2, 2), "float32")).any()
        np.testing.assert_array_equal(k.gemm(np.ones((2, 2)), np.ones((2, 2))), 2)
        assert asked == [(2, 2)]  # what is not float32 is not even looked at
        np.testing.assert_array_equal(k.gemm(long, long), wanted)
        reference = k.reference_table().gemm
        for _ in range(2):  # before and after the choice is made
            assert inspect.signature(k.gemm) == inspect.signature(reference)
            assert k.gemm.__name__ == "gemm" and k.gemm.__func__.__module__ == __name__
            assert k.gemm.__doc__ == f"{reference.__doc__}\n\n    Nothing but zeros."
            k.gemm(np.ones((2, 2)), np.ones((2, 2)))
        assert zeros.__name__ == "zeros" and zeros.__doc__ == "Nothing but zeros."
    finally:
        k.withdraw("gemm", "cpu")


def test_one_frame_lies_between_a_name_and_an_override() -> None:
    frames: list[Any] = []

    @k.override("gemm", "cpu", when=absent("out"))
    def gemm(k: Any, a: Any, b: Any, ta: bool = False, tb: bool = False, out: Any = None) -> Any:
        frames.append(sys._getframe(2))

    try:
        k.gemm(None, None)  # makes the choice
        k.gemm(None, None)
        assert frames[1] is sys._getframe()
    finally:
        k.withdraw("gemm", "cpu")


@pytest.mark.parametrize("name", sorted(k.names()))
def test_an_override_has_the_signature_of_its_kernel(name: str) -> None:
    on_the_cpu, reference = getattr(k.table_of("cpu"), name), getattr(k.reference_table(), name)
    assert inspect.signature(on_the_cpu) == inspect.signature(reference)
    assert next(iter(inspect.signature(reference).parameters)) != "k"
    assert (on_the_cpu.__doc__ or "").startswith(reference.__doc__)


F4 = np.ones((2, 3), "float32")


@pytest.mark.parametrize(
    ("condition", "x", "out", "holds"),
    [
        (contiguous_float32("x", "out"), F4, None, True),
        (contiguous_float32("x", "out"), F4, F4.T, False),
        (contiguous_float32("x", "out"), F4, F4.astype("f8"), False),
        (contiguous_float32("x", "out"), F4[:0], None, False),
        (contiguous_float32("x", "out"), np.float32(1), None, False),
        (contiguous_float32("x", "out"), F4.astype("f8"), None, False),
        (contiguous_floats("x", "out"), F4.astype("f8"), F4.astype("f8"), True),
        (contiguous_floats("x", "out"), F4.astype("f8"), F4, False),
        (contiguous_floats("x", "out"), F4.astype("f2"), None, False),
        (same_shape("x", "out"), F4, F4[:1], False),
        (same_shape("x", "out"), F4, F4, True),
        (same_shape("x", "out"), F4, None, True),
        (absent("out"), F4, None, True),
        (absent("x", "out"), F4, None, False),
        (of_float32("x"), F4.T, None, True),
        (one_of("out", "relu", None), F4, "relu", True),
        (one_of("out", "relu", None), F4, None, True),
        (one_of("out", "relu", None), F4, "tanh", False),
    ],
)
def test_conditions(condition: Any, x: Any, out: Any, holds: bool) -> None:
    @k.kernel
    def chosen(k: Any, x: Any, out: Any = None) -> bool:
        return False

    try:
        k.override(chosen, "cpu", when=condition)(lambda k, x, out=None: True)
        assert k.chosen(x, out) is k.chosen(x, out=out) is holds
    finally:
        k.withdraw("chosen")


def _takes_anything(k: Any, *arrays: Any) -> None: ...


def test_what_cannot_be_registered_is_refused() -> None:
    with pytest.raises(TypeError, match="'_takes_anything' takes any arguments; name them"):
        k.kernel(_takes_anything)
    with pytest.raises(ValueError, match=r"a kernel 'gemm' already, in minikeras.kernels.reference.dense; choose"):

        @k.kernel
        def gemm(k: Any) -> None: ...

    with pytest.raises(ValueError, match="no kernel 'gem' to override"):
        k.override("gem", "cpu")
    with pytest.raises(ValueError, match="for 'cpu' or 'gpu', got 'tpu'"):
        k.override("gemm", "tpu")
    with pytest.raises(TypeError, match=r"'gemm' takes k, a, b, ta, tb, out, its override k, a, b; use the same"):
        k.override("gemm", "cpu")(lambda k, a, b: None)
    with pytest.raises(TypeError, match=r"has no argument 'c', which a condition of its override asks for"):
        k.override("gemm", "cpu", when=lambda a, c: True)
    for name, device in (("gem", None), ("sum_of_squares", "cpu"), ("gemm", "tpu")):
        with pytest.raises(ValueError, match=f"No kernel '{name}' is registered for"):
            k.withdraw(name, device)


# ---- machine code ----------------------------------------------------------------------------------------------------


SOURCES = ["reference/random.py", "reference/image.py", "cpu/optimizer.py", "arena.py"]
SOURCES += ["cpu/compiler/translate.py", "cpu/compiler/elementary.py", "cpu/tile/register.py"]


@pytest.mark.parametrize("changed", SOURCES)
def test_machine_code_is_stamped_with_every_source_of_its_constants(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = tmp_path / "kernels"
    shutil.copytree(Path(k.__file__).parent, room, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(store, "KERNELS", room)

    def forget() -> None:
        for one in (store.sources, store.digest_of_kernels, store.stamp_of):
            one.cache_clear()

    def stamp() -> bytes:
        forget()
        return store.stamp_of(store.__name__, "this machine")

    try:
        before, source = stamp(), room / changed
        text = source.read_text()
        constant = {"reference/random.py": ("SHORT_ROUNDS = 10", "SHORT_ROUNDS = 9")}.get(changed, ("\n", "\n\n"))
        assert constant[0] in text
        source.write_text(text.replace(*constant, 1))
        assert stamp() != before
        source.write_text(text)
        assert stamp() == before
    finally:
        monkeypatch.undo()
        forget()


def test_compiled_functions_have_no_constants_of_other_rooms() -> None:
    room, without = Path(k.__file__).parent, {"archive.py"}  # which has no compiled functions, and exports none
    for folder in ("cpu", "reference"):
        for source in (room / folder).rglob("*.py"):
            assert source in store.sources()
            for line in source.read_text().splitlines():
                if line.lstrip().startswith(("from minikeras", "import minikeras")):
                    own = line.split()[1].startswith(("minikeras.kernels", "minikeras.lazy"))
                    assert own or source.name in without, (source, line)
