"""The state of optimizers in HDF5 files of each age."""

from __future__ import annotations

import numpy as np
import pytest

import minikeras
from minikeras import layers
from minikeras.saving import hdf5_file
from minikeras.saving.hdf5_reader import WeightsReader
from tests.saving.hdf5_cases import numbers, write_file

WEIGHTS = ("d_1/kernel", "d_1/bias", "d_2/kernel", "d_2/bias")
SHAPES = ((3, 4), (4,), (4, 1), (1,))
OF_2_2 = [f"training/Adam/Variable{f'_{i}' if i else ''}:0" for i in range(12)]
OF_2_3 = [f"training/Adam/{kind}_{i}:0" for kind in ("m", "v", "vhat") for i in range(4)]


def network(optimizer):
    model = minikeras.Sequential([minikeras.Input((3,)), layers.Dense(4, name="d_1"), layers.Dense(1, name="d_2")])
    model.compile(optimizer, "mse")
    return model


def kinds(*names, sizes=SHAPES):
    """State of these kinds: an array for each weight."""
    return {name: numbers(*sizes, seed=i) for i, name in enumerate(names)}


def restored(path, optimizer, state, version, layers_in_file=("d_1", "d_2"), report=None, converted=()):
    """The optimizer's variables by kind after reading a file with this state."""
    arrays = {
        layer: {f"{name}:0": np.zeros(shape) for name, shape in zip(WEIGHTS, SHAPES, strict=True) if layer in name}
        for layer in layers_in_file
    }
    write_file(path, arrays, version, description={}, state=state)
    model = network(optimizer)
    with WeightsReader(path, str(path)) as reader:
        hdf5_file.read_optimizer(model, reader, report, converted)
    assert optimizer.built == bool(state)
    names = [name for group in optimizer._slot_groups() for name in group]
    return {name: [one.numpy() for one in slots] for name, slots in zip(names, optimizer._slots, strict=bool(state))}


def same(found, wanted):
    assert sorted(found) == sorted(wanted)
    for name, arrays in found.items():
        for a, b in zip(arrays, wanted[name], strict=True):
            np.testing.assert_array_equal(a, b)


def grouped(count, names, *groups):
    return {**count, **dict(zip(names, [array for group in groups for array in group], strict=False))}


ADAM = kinds("momentum", "velocity")
M, V = ADAM.values()
DUMMIES = [np.zeros(1, "f4")] * 4
STEPS = np.int64(7)
LAYOUTS = {
    "2.2.4": ("2.2.4", grouped({"Adam/iterations:0": STEPS}, OF_2_2, M, V, DUMMIES)),
    "2.0.8, without dummies": ("2.0.8", grouped({"Adam/iterations:0": STEPS}, OF_2_2, M, V)),
    "2.3.1": ("2.3.1", grouped({"Adam/iterations:0": STEPS}, OF_2_3, M, V, DUMMIES)),
    "tf.keras to 2.10": (
        "2.4.0",
        {
            "Adam/iter:0": STEPS,
            **{f"Adam/{n}/m:0": a for n, a in zip(WEIGHTS, M, strict=True)},
            **{f"Adam/{n}/v:0": a for n, a in zip(WEIGHTS, V, strict=True)},
        },
    ),
    "tf.keras since 2.11": (
        "2.11.0",
        {
            **{"iteration:0": STEPS, "learning_rate:0": np.float32(0.25)},
            **{f"Adam/{k}/{n}:0": a for n, m, v in zip(WEIGHTS, M, V, strict=True) for k, a in (("m", m), ("v", v))},
        },
    ),
    "3": (
        "3.8.0",
        {
            **{"adam/iteration": np.int32(7), "adam/learning_rate": np.float32(0.25)},
            **{
                f"adam/{n.replace('/', '_')}_{k}": a
                for n, m, v in zip(WEIGHTS, M, V, strict=True)
                for k, a in (("momentum", m), ("velocity", v))
            },
        },
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_adam_of_each_age(name, tmp_path):
    version, state = LAYOUTS[name]
    adam = minikeras.optimizers.Adam(0.5)
    same(restored(tmp_path / "m.h5", adam, state, version), ADAM)
    assert int(adam.iterations) == 7
    assert float(adam.learning_rate) == (0.25 if any("learning_rate" in key for key in state) else 0.5)


def test_weights_sorted_by_name_as_up_to_2_0_5(tmp_path):
    order = sorted(range(4), key=lambda i: WEIGHTS[i])  # bias before kernel
    moments = [[group[i] for i in order] for group in (M, V)]
    same(
        restored(
            tmp_path / "m.h5",
            minikeras.optimizers.Adam(),
            grouped({"Adam/iterations:0": STEPS}, OF_2_2, *moments),
            "2.0.5",
        ),
        ADAM,
    )


def test_an_order_that_only_a_guess_could_tell(tmp_path):
    model = minikeras.Sequential(
        [minikeras.Input((3,)), *[layers.Dense(3, use_bias=False, name=n) for n in ("b", "a")]]
    )
    model.compile("sgd", "mse")
    model.optimizer.momentum = 0.9
    path, state = tmp_path / "m.h5", grouped({"SGD/iterations:0": STEPS}, OF_2_2, numbers((3, 3), (3, 3)))
    arrays = {name: {f"{name}/kernel:0": np.zeros((3, 3))} for name in ("b", "a")}
    for version, match in (("2.0.5", "does not fit"), ("2.2.4", None)):
        write_file(path, arrays, version, description={}, state=state)
        with WeightsReader(path, str(path)) as reader:
            if match:
                with pytest.warns(UserWarning, match=match):
                    hdf5_file.read_optimizer(model, reader)
                assert int(model.optimizer.iterations) == 0
            else:
                hdf5_file.read_optimizer(model, reader)
                assert int(model.optimizer.iterations) == 7


OTHERS = {
    "SGD": ({"momentum": 0.9}, ["momentum"], True),
    "RMSprop": ({}, ["velocity"], False),
    "Adagrad": ({}, ["accumulator"], False),
    "Adadelta": ({}, ["accumulated_grad", "accumulated_delta_var"], False),
    "Adamax": ({}, ["momentum", "norm"], True),
}


@pytest.mark.parametrize("name", OTHERS)
def test_others_of_keras_2(name, tmp_path):
    """Some of which keep no count up to 2.2."""
    options, names, has_count = OTHERS[name]
    state = kinds(*names)
    optimizer = getattr(minikeras.optimizers, name)(0.5, **options)
    count = {f"{name}/iterations:0": STEPS} if has_count else {}
    same(restored(tmp_path / "m.h5", optimizer, grouped(count, OF_2_2, *state.values()), "2.2.4"), state)
    assert int(optimizer.iterations) == (7 if has_count else 0)


def test_a_momentum_that_is_not_used_is_left_out(tmp_path):
    sgd = minikeras.optimizers.SGD(0.5)
    restored(tmp_path / "m.h5", sgd, grouped({"SGD/iterations:0": STEPS}, OF_2_2, M), "2.2.4")
    assert int(sgd.iterations) == 7


def test_nadam_without_the_product_of_its_momentum(tmp_path):
    nadam, other = minikeras.optimizers.Nadam(), minikeras.optimizers.Nadam()
    restored(tmp_path / "m.h5", nadam, grouped({"Nadam/iterations:0": np.int64(2)}, OF_2_2, M, V), "2.2.4")
    for _ in range(2):
        other.apply([np.ones(2, "f4")], [minikeras.Variable([1.0, 2.0])] if not other.built else None)
    np.testing.assert_allclose(float(nadam.variables[-1]), float(other.variables[-1]), rtol=1e-6)


WRONG = {
    "a count alone": {"adam/iteration": np.int32(7), "adam/learning_rate": np.float32(0.25)},
    "a count alone of 2.2": {"Adam/iterations:0": STEPS},
    "one moment": grouped({"Adam/iterations:0": STEPS}, OF_2_2, M),
    "one array too few": grouped({"Adam/iterations:0": STEPS}, OF_2_2, M, V[:3]),
    "one array too many": grouped({"Adam/iterations:0": STEPS}, OF_2_2, M, V, M[:1]),
    "other shapes": grouped({"Adam/iterations:0": STEPS}, OF_2_2, M[::-1], V[::-1]),
    "far too large": grouped({"Adam/iterations:0": STEPS}, OF_2_2, numbers((90, 90), (90, 90))),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_state_that_does_not_fit_is_left_alone_as_a_whole(name, tmp_path):
    adam, report = minikeras.optimizers.Adam(0.5), []
    with pytest.warns(UserWarning, match="does not fit it; 'adam.*' starts anew"):
        found = restored(tmp_path / "m.h5", adam, WRONG[name], "2.2.4", report=report)
    assert not any(array.any() for group in found.values() for array in group)
    assert int(adam.iterations) == 0
    assert float(adam.learning_rate) == 0.5
    assert len(report) == 1


def test_the_state_of_weights_that_were_converted(tmp_path):
    with pytest.warns(UserWarning, match="another layout"):
        restored(tmp_path / "m.h5", minikeras.optimizers.Adam(), LAYOUTS["2.2.4"][1], "2.2.4", converted=["One was."])


@pytest.mark.parametrize("state", [{}, {"Adam/iterations:0": np.int64(0)}, {"adam/iteration": np.int32(0)}])
def test_a_state_before_the_first_step_is_none(state, tmp_path, recwarn):
    adam = minikeras.optimizers.Adam(0.5)
    restored(tmp_path / "m.h5", adam, state, "2.2.4")
    assert int(adam.iterations) == 0
    assert not recwarn


@pytest.mark.parametrize("count", [-5, np.nan, 0.5, 2**40])
def test_a_count_that_is_none(count, tmp_path):
    state = grouped({"Adam/iterations:0": np.asarray(count)}, OF_2_2, M, V)
    adam = minikeras.optimizers.Adam(0.5)
    with pytest.raises(ValueError, match=r"must be a whole number of at least 0|cannot take"):
        restored(tmp_path / "m.h5", adam, state, "2.2.4")
    assert int(adam.iterations) == 0
    assert not any(slot.numpy().any() for group in adam._slots for slot in group)


def test_layers_in_another_order_than_the_models(tmp_path):
    order = [2, 3, 0, 1]
    moments = [[group[i] for i in order] for group in (M, V)]
    state = grouped({"Adam/iterations:0": STEPS}, OF_2_2, *moments)
    same(restored(tmp_path / "m.h5", minikeras.optimizers.Adam(), state, "2.2.4", layers_in_file=("d_2", "d_1")), ADAM)
