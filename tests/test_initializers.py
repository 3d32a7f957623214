"""Initializers: values, fans, statelessness, Keras's configurations; seeds and streams."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from minikeras import config, initializers, seeds
from minikeras.utils.suggest import unknown

RANDOM = [cls for cls in dict.fromkeys(initializers.ALL.values()) if issubclass(cls, initializers.RandomInitializer)]
SHAPE = (3, 3, 40, 60)  # fans 360 and 540

# the configurations of Keras 3.15, keys in its order
SCALING = {"seed": 5, "input_axes": None, "output_axes": None}
CONFIGS = {
    "Zeros": {},
    "Ones": {},
    "Identity": {},
    "Constant": {"value": 0.0},
    "RandomNormal": {"seed": 5, "mean": 0.0, "stddev": 0.05},
    "TruncatedNormal": {"seed": 5, "mean": 0.0, "stddev": 0.05},
    "RandomUniform": {"seed": 5, "minval": -0.05, "maxval": 0.05},
    "VarianceScaling": {
        "seed": 5,
        "scale": 1.0,
        "mode": "fan_in",
        "distribution": "truncated_normal",
        "input_axes": None,
        "output_axes": None,
    },
    "Orthogonal": {"seed": 5, "gain": 1.0},
    **{name: SCALING for name in ("GlorotUniform", "GlorotNormal", "HeUniform", "HeNormal")},
    **{name: SCALING for name in ("LecunUniform", "LecunNormal")},
}


def test_constant_initializers():
    assert np.array_equal(initializers.Zeros()((2, 3)), np.zeros((2, 3)))
    assert np.array_equal(initializers.Ones()((2,), "float64"), np.ones(2))
    assert np.array_equal(initializers.Constant(0.5)((2, 2)), np.full((2, 2), 0.5))
    assert np.array_equal(initializers.Constant(np.arange(3))((2, 3)), [[0, 1, 2]] * 2)
    assert np.array_equal(initializers.Identity(2.0)((2, 3)), [[2, 0, 0], [0, 2, 0]])
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        initializers.Identity()((3,))


@pytest.mark.parametrize("cls", dict.fromkeys(initializers.ALL.values()))
@pytest.mark.parametrize("dtype", [None, "float16", "float32", "float64"])
def test_types_and_shapes(cls, dtype):
    values = cls()((4, 6), dtype)
    assert isinstance(values, np.ndarray)
    assert values.shape == (4, 6)
    assert values.dtype == (dtype or config.floatx())


@pytest.mark.parametrize("cls", RANDOM)
def test_seeds(cls):
    one = cls(seed=3)
    assert np.array_equal(one((5, 7)), one((5, 7)))
    assert np.array_equal(one((5, 7)), cls(seed=3)((5, 7)))
    assert not np.array_equal(one((5, 7)), cls(seed=4)((5, 7)))
    assert not np.array_equal(cls()((5, 7)), cls()((5, 7)))
    unseeded = cls()
    assert np.array_equal(unseeded((5, 7)), unseeded((5, 7)))
    seeds.set_seed(1)
    first = cls()((5, 7))
    seeds.set_seed(1)
    assert np.array_equal(first, cls()((5, 7)))
    moving = cls(seed=seeds.SeedGenerator(3))
    assert not np.array_equal(moving((5, 7)), moving((5, 7)))


@pytest.mark.parametrize(
    ("name", "variance", "limit"),
    [
        ("glorot_uniform", 2 / 900, np.sqrt(6 / 900)),
        ("glorot_normal", 2 / 900, 2 * np.sqrt(2 / 900) / 0.87962566),
        ("he_uniform", 2 / 360, np.sqrt(6 / 360)),
        ("he_normal", 2 / 360, 2 * np.sqrt(2 / 360) / 0.87962566),
        ("lecun_uniform", 1 / 360, np.sqrt(3 / 360)),
        ("lecun_normal", 1 / 360, 2 * np.sqrt(1 / 360) / 0.87962566),
        ("random_uniform", 0.1**2 / 12, 0.05),
        ("random_normal", 0.05**2, np.inf),
        ("truncated_normal", (0.05 * 0.87962566) ** 2, 0.1),
    ],
)
def test_distributions(name, variance, limit):
    values = initializers.ALL[name](seed=2)(SHAPE, "float64")
    assert abs(values.mean()) < 5 * np.sqrt(variance / values.size)
    assert values.var() == pytest.approx(variance, rel=0.02)
    assert np.abs(values).max() <= limit * (1 + 1e-6)
    assert np.abs(values).max() > min(limit, 0.2) * 0.98


def test_variance_scaling_options():
    scaling = initializers.VarianceScaling(3.0, "fan_out", "untruncated_normal", seed=1)
    assert scaling(SHAPE).var() == pytest.approx(3 / 540, rel=0.02)
    axes = initializers.VarianceScaling(input_axes=[0, 2], output_axes=[3], seed=1)
    assert axes(SHAPE).var() == pytest.approx(1 / 120, rel=0.02)
    assert initializers.VarianceScaling(distribution="normal").get_config()["distribution"] == "truncated_normal"
    with pytest.raises(ValueError, match="did you mean 'fan_in'"):
        initializers.VarianceScaling(mode="fan_inn")
    with pytest.raises(ValueError, match="distribution"):
        initializers.VarianceScaling(distribution="cauchy")
    with pytest.raises(ValueError, match="got 0"):
        initializers.VarianceScaling(0)


@pytest.mark.parametrize(
    ("shape", "fans"), [((), (1, 1)), ((5,), (5, 5)), ((4, 6), (4, 6)), ((3, 2, 4, 6), (24, 36)), ((7, 4, 6), (28, 42))]
)
def test_fans(shape, fans):
    assert initializers.compute_fans(shape) == fans


@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (3, 2, 4), (1, 4), (8, 32)])
def test_orthogonal(shape):
    values = initializers.Orthogonal(gain=-2.0, seed=1)(shape, "float64").reshape(-1, shape[-1])
    product = values.T @ values if values.shape[0] >= values.shape[1] else values @ values.T
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-12)
    with pytest.raises(ValueError, match="two axes"):
        initializers.Orthogonal()((3,))


def test_orthogonal_is_uniform():
    """Without the sign fix the first entry would be never positive."""
    first = [initializers.Orthogonal(seed=seed)((3, 3))[0, 0] for seed in range(400)]
    assert abs(np.mean(first)) < 5 * np.sqrt(1 / 3 / 400)


@pytest.mark.parametrize("name", CONFIGS)
def test_configuration(name):
    cls = initializers.ALL[name]
    initializer = cls(seed=5) if cls in RANDOM else cls()
    assert list(initializer.get_config().items()) == list(CONFIGS[name].items())
    saved = initializers.serialize(initializer)
    assert saved == {
        "module": "keras.initializers",
        "class_name": name,
        "config": CONFIGS[name],
        "registered_name": None,
    }
    for again in (initializers.deserialize(saved), initializer.clone(), initializers.get(saved)):
        assert type(again) is cls
        assert np.array_equal(again((4, 4)), initializer((4, 4)))


def test_configuration_of_special_arguments():
    unseeded = initializers.HeNormal()
    assert unseeded.get_config()["seed"] is None
    assert not np.array_equal(unseeded.clone()((4, 4)), unseeded((4, 4)))
    moving = initializers.HeNormal(seed=seeds.SeedGenerator(3))
    assert moving.get_config()["seed"] == {
        "module": "keras.random",
        "class_name": "SeedGenerator",
        "config": {"seed": 3, "name": "seed_generator"},
        "registered_name": None,
    }
    assert np.array_equal(moving.clone()((4, 4)), initializers.HeNormal(seed=seeds.SeedGenerator(3))((4, 4)))
    table = initializers.Constant(np.arange(6, dtype="float32").reshape(2, 3))
    assert np.array_equal(table.clone()((2, 3)), table((2, 3)))
    assert initializers.Constant(np.float32(0.5)).get_config() == {"value": 0.5}
    assert initializers.Identity(3.0).clone().gain == 3.0
    with pytest.raises(ValueError, match="got 'abc'"):
        initializers.HeNormal(seed="abc")


def test_get():
    assert initializers.get(None) is None
    for name, cls in initializers.ALL.items():
        assert type(initializers.get(name)) is cls
    assert initializers.glorot_uniform is initializers.GlorotUniform
    assert isinstance(initializers.get(initializers.Zeros), initializers.Zeros)
    assert initializers.get(np.zeros) is np.zeros
    values = np.arange(4.0)
    assert np.array_equal(initializers.get(values)((4,)), values)
    with pytest.raises(ValueError, match=r"shape \(5,\)"):
        initializers.get(values)((5,))
    with pytest.raises(ValueError, match="did you mean 'glorot_uniform'"):
        initializers.get("glorotuniform")
    with pytest.raises(ValueError, match="got 3"):
        initializers.get(3)
    own = type("Own", (initializers.Ones,), {})
    assert type(initializers.deserialize("Own", {"Own": own})) is own


def test_unknown():
    assert unknown("optimizer", "adamm", ["sgd", "adam"]) == "Unknown optimizer 'adamm'; did you mean 'adam'?"
    assert unknown("optimizer", "GloroT", ["Glorot"]) == "Unknown optimizer 'GloroT'; did you mean 'Glorot'?"
    assert unknown("loss", "x", ["mse", "mae"]) == "Unknown loss 'x'; choose one of 'mse', 'mae'."
    assert unknown("loss", "??", (f"name{i}" for i in range(99))).endswith("'name11' or 87 more.")


def test_seed_generator():
    generator = seeds.SeedGenerator(7, name="mine")
    assert generator.get_config() == {"seed": 7, "name": "mine"}
    key, counter = generator.next(5)
    assert counter == 0
    assert generator.next() == (key, 5)
    assert generator.state == (key, 6)
    copy = pickle.loads(pickle.dumps(generator))
    assert copy.next() == generator.next() == (key, 6)
    resumed = seeds.SeedGenerator(1)
    resumed.state = generator.state
    assert resumed.next() == generator.next()
    assert seeds.SeedGenerator().key != seeds.SeedGenerator().key
    assert seeds.SeedGenerator.from_config(generator.get_config()).key == key
    assert seeds.SeedGenerator(np.int64(7)).key == key
    with pytest.raises(ValueError, match=r"got 1\.5"):
        seeds.SeedGenerator(1.5)


def test_global_stream():
    seeds.set_seed(11)
    first = [seeds.next_seed() for _ in range(3)]
    state = seeds.global_generator().state
    after = seeds.next_seed()
    seeds.set_seed(11)
    assert [seeds.next_seed() for _ in range(3)] == first
    seeds.global_generator().state = state
    assert seeds.next_seed() == after
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda _: seeds.next_seed(), range(1000)))
    assert len(set(drawn)) == 1000


WRONG = [np.nan, np.inf, "x", None, [1.0], True, len]


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (initializers.RandomNormal, "mean"),
        (initializers.RandomNormal, "stddev"),
        (initializers.TruncatedNormal, "stddev"),
        (initializers.RandomUniform, "minval"),
        (initializers.RandomUniform, "maxval"),
        (initializers.VarianceScaling, "scale"),
        (initializers.Orthogonal, "gain"),
        (initializers.Identity, "gain"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(make, argument):
    for wrong in [*WRONG, *([-1] if argument in ("stddev", "scale") else [])]:
        with pytest.raises(ValueError, match=rf"^{make.__name__}'s {argument} must be a .*number.*, got .+\.$"):
            make(**{argument: wrong})


def test_a_constant_is_made_of_numbers_and_fits():
    for wrong in ("x", None, {}, len, [1, "a"], [[1], [1, 2]]):
        with pytest.raises(ValueError, match=r"^Constant's value must be a number or an array of numbers, got"):
            initializers.Constant(wrong)
    with pytest.raises(
        ValueError, match=r"array of shape \(3,\), which does not broadcast to the weight's shape \(2, 2"
    ):
        initializers.Constant([1, 2, 3])((2, 2))
    assert np.isnan(initializers.Constant(np.nan)((2,))).all() and initializers.Constant(True)((1,)) == 1


def test_axes_of_a_scaling_are_checked():
    for name in ("input_axes", "output_axes"):
        for wrong in (1, "x", [0.5]):
            with pytest.raises(ValueError, match=f"HeNormal's {name} must be a list of whole numbers, got"):
                initializers.HeNormal(**{"input_axes": [0], "output_axes": [1], name: wrong})
        with pytest.raises(ValueError, match="needs both input_axes and output_axes or neither, got"):
            initializers.GlorotUniform(**{name: [0]})
    with pytest.raises(ValueError, match=r"must be axes of the weight, got the shape \(2, 2\)"):
        initializers.VarianceScaling(input_axes=[0], output_axes=[2])((2, 2))
    for seed in ({}, "x", 1.5, [1]):
        with pytest.raises(ValueError, match="A seed is a whole number, a SeedGenerator or None, got"):
            initializers.GlorotUniform(seed)
