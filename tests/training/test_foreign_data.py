"""Tables, tensors and loaders of other libraries as training data."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import minikeras as keras
from minikeras import layers
from minikeras.training.data import to_arrays

pa = pytest.importorskip("pyarrow")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 3))
Y = np.arange(20) % 2


def losses(x, y=None, **arguments):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])
    arguments = {"batch_size": 8, **arguments} if y is not None else arguments
    history = model.fit(x, y, epochs=2, shuffle=False, verbose=0, **arguments)
    return history.history["loss"]


class Tensor:
    """A tensor of another framework: it may have a gradient, and lie elsewhere."""

    def __init__(self, array, gradient=False, device=1, bfloat16=False):
        self._array, self._gradient, self._device, self._bfloat16 = np.asarray(array), gradient, device, bfloat16

    def detach(self):
        return Tensor(self._array, device=self._device, bfloat16=self._bfloat16)

    def cpu(self):
        return Tensor(self._array)

    def float(self):
        return Tensor(self._array.astype("f4"))

    def __dlpack_device__(self):
        return self._device, 0

    def __array__(self, dtype=None, copy=None):
        assert not self._gradient and self._device == 1
        if self._bfloat16:
            raise TypeError("unsupported ScalarType BFloat16")
        return self._array


class DLPack:
    """Memory that is known by DLPack alone."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **arguments):
        return self._array.__dlpack__(**arguments)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


class Loader:
    """Batches as a data loader gives them: lists of tensors, anew in each epoch."""

    def __len__(self):
        return 3

    def __iter__(self):
        return ([Tensor(X[i : i + 8]), Tensor(Y[i : i + 8])] for i in range(0, 20, 8))


class StreamOfTensors(Loader):
    """A stream that does not know its length until it has ended."""

    def __len__(self):
        raise TypeError("unknown length")


def test_every_form_trains_as_arrays_do():
    expected = losses(X, Y)
    frame = pd.DataFrame(X, columns=["a", "b", "a"])  # of equal names
    frame.index = RNG.permutation(20)
    table = pa.table({name: X[:, place] for place, name in enumerate("abc")})
    weights = np.ones(20)
    for x, y, arguments in [
        (frame, pd.Series(Y, index=RNG.permutation(20)), {"sample_weight": pd.Series(weights)}),
        (frame.astype("Float64"), pd.Series(Y).astype("Int64"), {}),
        (frame.astype("double[pyarrow]"), pd.DataFrame({"y": Y}), {}),
        (table, pa.array(Y), {"sample_weight": pa.array(weights)}),
        (table.to_batches()[0], pa.chunked_array([Y[:7], Y[7:]]), {}),
        (Tensor(X, gradient=True), Tensor(Y), {}),
        (Tensor(X, bfloat16=True), Y, {}),
        (DLPack(X), DLPack(Y), {}),
        (Loader(), None, {}),
        (Loader(), None, {"steps_per_epoch": 3}),
        (StreamOfTensors(), None, {"validation_data": Loader()}),
        ((batch for _ in range(2) for batch in Loader()), None, {"steps_per_epoch": 3}),
        (
            ((Tensor(X[i : i + 8]), pd.Series(Y[i : i + 8])) for _ in "ab" for i in (0, 8, 16)),
            None,
            {"steps_per_epoch": 3},
        ),
    ]:
        np.testing.assert_allclose(losses(x, y, **arguments), expected, rtol=1e-6, err_msg=str(type(x)))


def test_tables_become_arrays():
    mixed = pd.DataFrame({"a": [1, 2], "b": [True, False], "c": [0.5, np.nan]})
    got = to_arrays(mixed, "x")
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, np.array([[1, 1, 0.5], [2, 0, np.nan]], "f4"))
    assert to_arrays(mixed[["a"]], "x").dtype.kind == "i"
    missing = pd.DataFrame({"a": pd.array([1, None], "Int64"), "b": pd.array([True, None], "boolean")})
    np.testing.assert_array_equal(to_arrays(missing, "x"), np.array([[1, 1], [np.nan, np.nan]], "f4"))
    np.testing.assert_array_equal(to_arrays(pa.table({"a": [1, None]}), "x"), np.array([[1], [np.nan]], "f4"))
    np.testing.assert_array_equal(to_arrays(pa.array([1, None]), "x"), np.array([1, np.nan], "f4"))
    np.testing.assert_array_equal(to_arrays(pa.array([True, False]), "x"), [True, False])
    assert to_arrays({"a": mixed["a"], "b": mixed["c"]}, "x")["a"].shape == (2, 1)
    assert to_arrays(mixed["a"], "y").shape == (2, 1) and to_arrays(mixed["a"], "sample_weight").shape == (2,)


def test_sparse_matrices():
    class Sparse:
        def toarray(self):
            return X

    np.testing.assert_allclose(losses(Sparse(), Y), losses(X, Y))


@pytest.mark.parametrize(
    "value, sentence",
    [
        (pd.DataFrame({"a": [1], "name": ["x"]}), "x must hold numbers, got column 'name' an array of type str"),
        (pd.DataFrame({"day": pd.to_datetime(["2020-01-01"])}), "got column 'day' an array of type datetime64"),
        (pd.DataFrame({"kind": pd.Categorical(["x"])}), "got column 'kind' an array of type"),
        (pd.Series(["x", 1]), "x must hold numbers, got an array of type str; encode it first"),
        (pa.table({"a": [1.0], "name": ["x"]}), "got column 'name' an array of type"),
        (pa.array(["x"]), "x must hold numbers, got an array of type"),
        (pd.DataFrame(), "x has no columns, got an empty DataFrame"),
    ],
    ids=str,
)
def test_what_holds_no_numbers_is_a_sentence(value, sentence):
    with pytest.raises(ValueError, match=sentence):
        to_arrays(value, "x")


def test_memory_of_another_device(request):
    if request.config.option.device != "cpu":
        return
    np.testing.assert_array_equal(to_arrays(Tensor(Y, device=2), "y"), Y)

    class Elsewhere:
        def __dlpack__(self, **arguments):
            raise BufferError

        def __dlpack_device__(self):
            return 2, 0

    with pytest.raises(ValueError, match=r"x lies on another device, got \w+ Elsewhere while"):
        to_arrays(Elsewhere(), "x")
