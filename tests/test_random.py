"""Random tensors: distributions, types, seeds, and use in layers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikeras import Input, Model, config, layers, ops, random, utils
from minikeras.autodiff import GradientTape, Variable

DRAWS = {
    "normal": lambda shape, **kwargs: random.normal(shape, **kwargs),
    "uniform": lambda shape, **kwargs: random.uniform(shape, **kwargs),
    "truncated_normal": lambda shape, **kwargs: random.truncated_normal(shape, **kwargs),
    "gamma": lambda shape, **kwargs: random.gamma(shape, 2.0, **kwargs),
    "beta": lambda shape, **kwargs: random.beta(shape, 2.0, 0.5, **kwargs),
    "binomial": lambda shape, **kwargs: random.binomial(shape, 900, 0.3, **kwargs),
    "randint": lambda shape, **kwargs: random.randint(shape, 0, 1000, **kwargs),
}


@pytest.mark.parametrize("name", DRAWS)
def test_seeds(name):
    draw = DRAWS[name]
    assert np.array_equal(draw((3, 5), seed=7), draw((3, 5), seed=7))
    assert not np.array_equal(draw((3, 5), seed=7), draw((3, 5), seed=8))
    moving = random.SeedGenerator(7)
    first, second = draw((3, 5), seed=moving).numpy(), draw((3, 5), seed=moving).numpy()
    assert np.array_equal(first, draw((3, 5), seed=7)) and not np.array_equal(first, second)
    utils.set_random_seed(3)
    first, second = draw((3, 5)).numpy(), draw((3, 5)).numpy()
    utils.set_random_seed(3)
    assert np.array_equal(first, draw((3, 5))) and np.array_equal(second, draw((3, 5)))
    assert not np.array_equal(first, second)
    with pytest.raises(ValueError, match="A seed is a whole number"):
        draw((3,), seed="one")


@pytest.mark.parametrize("name", ["normal", "uniform", "truncated_normal", "gamma", "beta", "binomial"])
def test_shapes_and_types(name, monkeypatch):
    draw = DRAWS[name]
    assert draw(()).shape == () and draw((0, 3)).shape == (0, 3) and draw([2, 1]).shape == (2, 1)
    assert str(draw((2,)).dtype) == "float32"
    for dtype in ("float16", "float64"):
        assert str(draw((2,), dtype=dtype).dtype) == dtype
    monkeypatch.setattr(config, "_floatx", "float64")
    assert str(draw((2,)).dtype) == "float64"
    with pytest.raises(ValueError, match="need a dtype"):
        draw((2,), dtype="int32")


@pytest.mark.parametrize(
    ("draw", "mean", "stddev"),
    [
        (lambda: random.normal((50_000,), 3.0, 2.0, seed=1), 3.0, 2.0),
        (lambda: random.uniform((50_000,), -1.0, 5.0, seed=1), 2.0, 6 / math.sqrt(12)),
        (lambda: random.truncated_normal((50_000,), -1.0, 2.0, seed=1), -1.0, 2 * 0.87962566),
        (lambda: random.gamma((50_000,), 0.3, seed=1), 0.3, math.sqrt(0.3)),
        (lambda: random.gamma((50_000,), 7.5, seed=1), 7.5, math.sqrt(7.5)),
        (lambda: random.beta((50_000,), 0.5, 1.5, seed=1), 0.25, 0.25),
        (lambda: random.beta((50_000,), 6.0, 3.0, seed=1), 2 / 3, math.sqrt(18 / 810)),
        (lambda: random.binomial((50_000,), 9, 0.3, seed=1), 2.7, math.sqrt(1.89)),
        (lambda: random.binomial((50_000,), 1000, 0.9, seed=1), 900, math.sqrt(90)),
        (lambda: random.randint((50_000,), -4, 7, seed=1), 1.0, math.sqrt(10.0)),
    ],
)
def test_moments(draw, mean, stddev):
    values = draw().numpy().astype("f8")
    error = stddev / math.sqrt(len(values))
    assert abs(values.mean() - mean) < 4 * error
    assert abs(values.std() - stddev) < 4 * error


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_truncated_normal_is_the_normal_distribution_inside(dtype):
    x = np.sort(random.truncated_normal((20_000,), dtype=dtype, seed=5).numpy().astype("f8"))
    assert x[0] >= -2 and x[-1] <= 2
    within = math.erf(math.sqrt(2))
    cdf = np.array([(math.erf(v / math.sqrt(2)) + within) / (2 * within) for v in x])
    distance = np.abs(cdf - (np.arange(len(x)) + 0.5) / len(x)).max()  # Kolmogorov and Smirnov
    assert distance < 1.63 / math.sqrt(len(x))


@given(st.integers(-(2**31), 2**31 - 2), st.integers(1, 2**32), st.integers(0, 100))
def test_randint_stays_within_its_bounds(minval, width, seed):
    values = random.randint((200,), minval, minval + width, dtype="int64", seed=seed).numpy()
    assert values.dtype == np.int64 and values.min() >= minval and values.max() < minval + width


def test_randint_refuses():
    with pytest.raises(ValueError, match="integer type"):
        random.randint((2,), 0, 5, dtype="float32")
    with pytest.raises(ValueError, match="above minval"):
        random.randint((2,), 5, 5)


def test_categorical():
    probabilities = np.array([[0.1, 0.2, 0.7], [0.5, 0.5, 0.0]])
    with np.errstate(divide="ignore"):
        draws = random.categorical(np.log(probabilities), 20_000, seed=2)
    assert draws.shape == (2, 20_000) and str(draws.dtype) == "int32"
    shares = np.stack([np.bincount(row, minlength=3) for row in draws.numpy()]) / 20_000
    np.testing.assert_allclose(shares, probabilities, atol=0.015)
    with pytest.raises(ValueError, match=r"\(batch, classes\)"):
        random.categorical([0.0, 1.0], 3)


def test_shuffle():
    x = np.arange(60).reshape(20, 3)
    mixed = random.shuffle(x, seed=1).numpy()
    assert not np.array_equal(mixed, x) and np.array_equal(mixed[mixed[:, 0].argsort()], x)
    columns = random.shuffle(x, axis=1, seed=4).numpy()
    assert np.array_equal(np.sort(columns, axis=1), x)


def test_dropout():
    x = Variable(np.ones((50, 40), "f4"))
    with GradientTape() as tape:
        y = random.dropout(x, 0.25, seed=3)
        total = ops.sum(y)
    assert set(np.unique(y.numpy())) == {np.float32(0), np.float32(4 / 3)}
    assert abs(float((y.numpy() == 0).mean()) - 0.25) < 0.05
    np.testing.assert_array_equal(tape.gradient(total, [x])[0].numpy(), y.numpy())
    shared = random.dropout(np.ones((6, 9), "f4"), 0.5, noise_shape=(None, 1), seed=1).numpy()
    assert (shared == shared[:, :1]).all() and len(np.unique(shared)) == 2
    with GradientTape() as tape:
        nothing = random.dropout(x, 1.0)
    assert not nothing.numpy().any() and not tape.gradient(nothing, x).numpy().any()
    with pytest.raises(ValueError, match="rate"):
        random.dropout(x, 1.1)


class Sampling(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = random.SeedGenerator(1)

    def call(self, inputs):
        mean, log_variance = inputs
        noise = random.normal(ops.shape(mean), seed=self.seed_generator)
        return mean + ops.exp(0.5 * log_variance) * noise


def test_in_the_layer_of_a_functional_model():
    mean, log_variance = Input((4,)), Input((4,))
    model = Model([mean, log_variance], Sampling()([mean, log_variance]))
    assert model.output_shape == (None, 4)
    zeros = np.zeros((3, 4), "f4")
    first, second = model.predict([zeros, zeros], verbose=0), model.predict([zeros, zeros], verbose=0)
    assert first.shape == (3, 4) and not np.array_equal(first, second)


def test_on_symbolic_tensors():
    x = Input((4, 6))
    assert random.dropout(x, 0.5).shape == (None, 4, 6)
    assert random.shuffle(x, axis=1).shape == (None, 4, 6)
    assert random.categorical(Input((5,)), 3).shape == (None, 3)


def test_parameters_by_entry():
    alpha = np.array([0.01, 1.0, 100.0])
    x = random.gamma((4000, 3), alpha, seed=1).numpy()
    assert x.min() >= 0 and np.isfinite(x).all()
    np.testing.assert_allclose(x.mean(axis=0), alpha, rtol=0.5)
    x = random.beta((4000, 3), ops.convert_to_tensor(alpha), [[0.02], [0.02], [0.02], [0.02]] * 1000, seed=1).numpy()
    assert ((x >= 0) & (x <= 1)).all()
    np.testing.assert_allclose(x.mean(axis=0), alpha / (alpha + 0.02), rtol=0.1)
    counts = np.array([0, 1, 50, 100_000])
    x = random.binomial((2000, 4), counts, [0.5, 1.0, 0.0, 0.25], seed=1).numpy()
    np.testing.assert_array_equal(x[:, :3], np.broadcast_to([0, 1, 0], (2000, 3)))
    assert abs(x[:, 3].mean() - 25_000) < 15 and abs(x[:, 3].std() - math.sqrt(18_750)) < 7


def test_a_binomial_distribution_value_by_value():
    x = random.binomial((100_000,), 40, 0.2, seed=2).numpy()
    found = np.bincount(x.astype(int), minlength=41) / len(x)
    wanted = [math.comb(40, i) * 0.2**i * 0.8 ** (40 - i) for i in range(41)]
    np.testing.assert_allclose(found, wanted, atol=5e-3)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: random.gamma((2,), 0.0), "needs alpha above 0, got 0.0"),
        (lambda: random.beta((2,), 1.0, -1.0), "needs beta above 0, got -1.0"),
        (lambda: random.gamma((2,), [1.0, 2.0, 3.0]), r"broadcasts to the shape \(2,\), got one of shape \(3,\)"),
        (lambda: random.binomial((2,), -1, 0.5), "counts of at least 0 and probabilities from 0 to 1, got -1 and 0.5"),
        (lambda: random.binomial((2,), 3, 1.5), "got 3 and 1.5"),
        (lambda: random.beta((2,), 1.0, 1.0, dtype="int32"), "need a dtype"),
    ],
)
def test_parameters_that_are_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: random.normal("x"), "The shape of random values must be a tuple or list of sizes, got 'x'"),
        (lambda: random.normal(3), "The shape of random values must be a tuple or list of sizes, got 3"),
        (lambda: random.normal((2.5,)), "each size of random values must be a whole number of at least 0, got 2.5"),
        (lambda: random.normal((-1,)), "each size of random values must be a whole number of at least 0, got -1"),
        (lambda: random.normal((2,), stddev=-1), "random.normal's stddev must be a number at least 0, got -1"),
        (lambda: random.normal((2,), mean=math.nan), "random.normal's mean must be a number, got nan"),
        (lambda: random.normal((2,), dtype="x"), "Random values need a dtype of numbers, got 'x'"),
        (lambda: random.truncated_normal((2,), stddev="x"), "random.truncated_normal's stddev must be a number at"),
        (lambda: random.uniform((2,), maxval=math.inf), "random.uniform's maxval must be a number, got inf"),
        (lambda: random.randint((2,), 0, 2.5), "random.randint's maxval must be a whole number, got 2.5"),
        (
            lambda: random.categorical(np.zeros((2, 3)), -1),
            "random.categorical's num_samples must be a whole number of",
        ),
        (lambda: random.dropout(np.ones(3), "x"), "random.dropout's rate must be a number from 0 to 1"),
        (
            lambda: random.shuffle(np.ones(3), axis=1),
            "random.shuffle's axis must be a whole number from -1 to 0, got 1",
        ),
        (lambda: random.gamma((2,), math.inf), "random.gamma needs finite numbers for alpha, got inf"),
        (lambda: random.gamma((2,), "x"), "random.gamma needs numbers for alpha, got 'x'"),
        (lambda: random.binomial((2,), math.inf, 0.5), "random.binomial needs finite numbers for counts, got inf"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(call, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        call()
