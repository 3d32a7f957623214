"""The reader of datasets' pickles: what it reads, and that nothing in a pickle ever runs."""

from __future__ import annotations

import os
import pickle
import pickletools
import subprocess
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikeras.datasets import pickles

PROTOCOLS = st.integers(2, 5)


@given(
    PROTOCOLS,
    st.dictionaries(
        st.sampled_from([b"data", "labels", b"names", "it"]),
        st.one_of(
            st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5),
            st.lists(st.binary(min_size=1, max_size=300), max_size=3),  # protocol 2 calls bytes() for none
            st.text(max_size=300),
            st.none(),
            st.booleans(),
        ),
    ),
)
def test_plain_data_comes_back(protocol, content):
    assert pickles.loads(pickle.dumps(content, protocol)) == content


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("code", ["u1", "i1", "<i2", ">i4", "<u8", "?"])
def test_arrays_of_numbers_come_back(protocol, code):
    for array in (np.arange(12).reshape(3, 4).astype(code), np.asfortranarray(np.ones((2, 3), code))):
        again = pickles.loads(pickle.dumps({b"data": array}, protocol))[b"data"]
        np.testing.assert_array_equal(again, array)
        assert again.dtype == array.dtype.newbyteorder("=") and again.flags.writeable


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_of_lists_come_back(protocol):
    array = np.empty(3, object)
    array[:] = [[1, 2**40], [], np.arange(2)]
    again = pickles.loads(pickle.dumps(array, protocol))
    assert again.dtype == object and again[:2].tolist() == [[1, 2**40], []] and again[2].tolist() == [0, 1]
    square = np.array([[1, 2], [3, 4]], object)
    assert pickles.loads(pickle.dumps(square, protocol)).tolist() == [[1, 2], [3, 4]]


def test_a_pickle_of_python_2_and_an_old_numpy():
    old = (
        b"\x80\x02}q\x01(U\x06labelsq\x02]q\x03(K\x06K\tM\x10'J\x00\x00\x01\x00eU\x04dataq\x04cnumpy.core.multiarray\n"
        b"_reconstruct\nq\x05cnumpy\nndarray\nq\x06K\x00\x85U\x01b\x87Rq\x07(K\x01K\x02K\x03\x86cnumpy\ndtype\nq\x08"
        b"U\x02u1K\x00K\x01\x87Rq\t(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x06abcdef"
        b"tbU\x0bbatch_labelq\nU\x15training batch 1 of 5q\x0bu."
    )
    content = pickles.loads(old)
    assert content[b"labels"] == [6, 9, 10000, 65536] and content[b"batch_label"] == b"training batch 1 of 5"
    np.testing.assert_array_equal(content[b"data"], np.frombuffer(b"abcdef", np.uint8).reshape(2, 3))


class Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("place", ["alone", "entry", "element"])
@pytest.mark.parametrize("function", [os.system, eval, exec, subprocess.Popen, getattr, np.fromfile, np.load])
def test_nothing_is_called(protocol, place, function, tmp_path):
    touched = tmp_path / "touched"
    attack = Calls(function, f"touch {touched}" if function is os.system else f"open({str(touched)!r}, 'w')")
    array = np.empty(1, object)
    array[0] = attack
    data = pickle.dumps({"alone": attack, "entry": {b"data": [1, attack]}, "element": array}[place], protocol)
    with pytest.raises(ValueError, match=r"which is refused|no pickle of protocol|no dataset needs"):
        pickles.loads(data)
    assert not touched.exists()


@pytest.mark.parametrize(
    "content",
    [1.5, {b"x": 1.5}, {b"x": (1, 2)}, {b"x": {1: 2}}, [[1]], frozenset({1}), OrderedDict(a=1), np.float64(3),
     np.ones(3), np.array(["a"]), np.array([None]), np.array([{}]), np.array([[1.5], []], object),
     np.array([b"1"], object), np.zeros(1, [("a", "u1")]), np.ma.zeros(2, int), {b"x": [1.5]}, 2**70],
)  # fmt: skip
def test_anything_else_is_refused(content):
    for protocol in (2, 4):
        with pytest.raises(ValueError, match="its pickle"):
            pickles.loads(pickle.dumps(content, protocol))


def crafted():
    """Pickles that no pickler writes."""
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
    kind = b"cnumpy\ndtype\nU\x02u1\x85R(K\x03U\x01|NNNtb"
    return {
        "empty": b"",
        "one byte": b"\x80",
        "text that is no text": b"\x80\x02X\x01\x00\x00\x00\xff.",
        "text": b"cos\nsystem\n(S'true'\ntR.",
        "unknown protocol": b"\x80\x06N.",
        "no end": b"\x80\x02]",
        "more after the end": b"\x80\x02N.N",
        "nothing on the stack": b"\x80\x02.",
        "huge place in memory": b"\x80\x02Nr\xff\xff\xff\x7f.",
        "unknown place in memory": b"\x80\x02h\x05.",
        "text longer than the file": b"\x80\x02X\xff\xff\xff\xffabc.",
        "bytes of 2**63": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.",
        "huge frame": b"\x80\x04\x95" + b"\xff" * 7 + b"\x7fN.",
        "persistent object": b"\x80\x02K\x01Q.",
        "extension": b"\x80\x02\x82\x01.",
        "new object": b"\x80\x02cnumpy\ndtype\n)\x81.",
        "name from the stack": b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        "name that is no text": b"\x80\x04K\x01K\x02\x93.",
        "ndarray called": b"\x80\x02cnumpy\nndarray\nM\xff\xff\x85R.",
        "a name alone": b"\x80\x02cnumpy\ndtype\n.",
        "a name's state": b"\x80\x02cnumpy\ndtype\n(N}U\x08stand_inK\x01stb.",
        "array without state": b"\x80\x02" + array + b".",
        "array of a wrong length": b"\x80\x02" + array + b"(K\x01K\x09\x85" + kind + b"\x89U\x02abtb.",
        "array of a negative length": b"\x80\x02" + array + b"(K\x01J\xff\xff\xff\xff\x85" + kind + b"\x89U\x02abtb.",
        "array with a short state": b"\x80\x02" + array + b"(K\x01tb.",
        "array without a type": b"\x80\x02" + array + b"(K\x01K\x02\x85N\x89U\x02abtb.",
        "array of objects of bytes": b"\x80\x02"
        + array
        + b"(K\x01K\x01\x85cnumpy\ndtype\nU\x01O\x85R\x89U\x08AAAAAAAAtb.",
        "a list in itself": b"\x80\x02]q\x00h\x00a.",
        "a list as a key": b"\x80\x02}]K\x01s.",
        "many calls": b"\x80\x02" + b"cnumpy\ndtype\n" * 5 + b")R.",
    }


@pytest.mark.parametrize("name", crafted())
def test_crafted_pickles_are_refused(name):
    with pytest.raises(ValueError, match=r"its pickle|it holds no pickle"):
        pickles.loads(crafted()[name])
    assert pickles.loads(pickle.dumps({"still": [1]})) == {"still": [1]}


@given(st.data(), PROTOCOLS)
def test_damage_is_said_or_harmless(data, protocol):
    array = np.empty(2, object)
    array[:] = [[1, 2], [3]]
    good = bytearray(pickle.dumps({"a": array, b"b": np.arange(3), "c": [1, "x"]}, protocol))
    for _ in range(data.draw(st.integers(1, 3))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        pickles.loads(bytes(good[: data.draw(st.integers(1, len(good)))]))
    except ValueError as error:
        assert "pickle" in str(error)


def test_each_instruction_is_known_to_be_plain():
    """No instruction that imports, calls or builds by itself is among the plain ones."""
    allowed = {op.name for op in pickletools.opcodes if pickles._PLAIN.match(op.code.encode("latin1") + bytes(9))}
    assert not allowed & {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "GLOBAL", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"}
    assert not allowed & {"PERSID", "BINPERSID", "FLOAT", "BINFLOAT", "NEXT_BUFFER", "LONG4", "INT", "STRING"}
    assert not allowed & {"DUP", "POP", "POP_MARK", "REDUCE", "BINPUT", "BINGET", "MEMOIZE", "EMPTY_LIST"}
    assert {"BUILD", "BININT1", "TUPLE2", "APPENDS", "STOP", "FRAME"} <= allowed
