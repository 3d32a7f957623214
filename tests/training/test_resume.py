"""A training that is killed, broken off or out of disk goes on bit for bit, or says why it cannot."""

from __future__ import annotations

import errno
import functools
import json
import os
import shutil
import tempfile
import threading
import warnings
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from minikeras import Input, Sequential, kernels, layers, losses, optimizers
from minikeras.callbacks import BackupAndRestore, Callback, CSVLogger, EarlyStopping, LambdaCallback
from minikeras.data import Dataset
from minikeras.preprocessing.image import ImageDataGenerator
from minikeras.seeds import global_generator
from minikeras.training.checkpoint import NAMES, Folder
from minikeras.training.states import described, rebuilt
from tests.resume_cases import CASES, LABELS, PICTURES, Counting, Shuffled, X, Y, begun, ended, kill_until_done, run


class Stopped(Exception):
    """What breaks a training off."""


class Break(Callback):
    """Breaks a training off after so many batches; counts them."""

    def __init__(self, batches: int = -1):
        self.at, self.batches = batches, 0

    def get_state(self) -> dict[str, Any]:
        return {}

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.batches += 1
        if self.batches == self.at:
            raise Stopped


def fit(case: str, *extra: Callback, **more: Any) -> dict[str, str]:
    model, options = begun(case)
    options["callbacks"] = [*options.get("callbacks", ()), *extra]
    return ended(model, model.fit(**{**options, **more}))


@functools.cache
def undisturbed(case: str) -> tuple[dict[str, str], int]:
    """What it ends with, and how many batches it makes."""
    count = Break()
    return fit(case, count), count.batches


@pytest.fixture
def at_every_step(monkeypatch):
    """A training without `save_freq` is saved after every step."""
    for name in ("FIRST", "EVERY", "SHARE", "SHARE_OF_EPOCHS"):
        monkeypatch.setattr(f"minikeras.training.resuming.{name}", 0)


CLOSELY = {"mlp", "comparison"}  # at every step, the others at every fourth


@pytest.mark.parametrize("case", sorted(CASES.keys() - {"cnn_processes"}))
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_broken_off_at_every_step(tmp_path, case, at_every_step):
    expected, total = undisturbed(case)
    for batches in range(1, total + 1, 1 if case in CLOSELY else 4):
        folder = tmp_path / str(batches)
        with pytest.raises(Stopped):
            if batches % 2 or case.startswith("own"):
                fit(case, Break(batches), resume=folder)
            else:
                fit(case, Break(batches), BackupAndRestore(folder, save_freq=1))
        rest = Break()
        assert fit(case, rest, resume=folder) == expected, (case, batches)
        assert rest.batches == total - (batches - 1)
    assert not [thread for thread in threading.enumerate() if thread.name == "minikeras-checkpoints"]


def test_broken_off_in_processes(tmp_path):
    expected, total = undisturbed("cnn_processes")
    for batches in (5, 3):  # after the last batch of an epoch, and in the middle of one
        with pytest.raises(Stopped):
            fit("cnn_processes", Break(batches), BackupAndRestore(tmp_path, save_freq=2))
    rest = Break()
    assert fit("cnn_processes", rest, BackupAndRestore(tmp_path, save_freq=2)) == expected
    assert (total, rest.batches) == (8, 2)


# ---------------------------------------------------------------- killed


@pytest.mark.skipif(kernels.active_device() == "gpu", reason="the killed process is one of the CPU")
@pytest.mark.parametrize(("case", "seeds"), [("mlp", (35, 25)), ("comparison", (7,)), ("lstm", (9,))])
def test_killed(tmp_path, case, seeds):
    """By SIGKILL at moments that the seeds choose; the last run is made here."""
    for seed in seeds:
        assert run(case, tmp_path, seed) is None, "it was not killed"
    expected, total = undisturbed(case)
    saved, rest = any(tmp_path.glob("backup/*.zip")), Break()
    assert fit(case, rest, resume=tmp_path / "backup") == expected
    assert (rest.batches < total) == saved


@pytest.mark.skipif("MINIKERAS_KILLS" not in os.environ, reason="MINIKERAS_KILLS=20 kills each training so often")
@pytest.mark.parametrize("case", CASES)
def test_killed_many_times(tmp_path, case):
    expected, kills = run(case, tmp_path, -1), 0
    while kills < int(os.environ["MINIKERAS_KILLS"]):
        found, more = kill_until_done(case, tmp_path / str(kills), kills)
        assert found == expected
        kills += more


# ---------------------------------------------------------------- after the end, and other arguments


@pytest.mark.parametrize("case", sorted(CASES.keys() - {"cnn_processes"}))
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_after_the_end(tmp_path, capsys, case):
    whole = fit(case, resume=tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint_0.zip", "checkpoint_1.zip"]
    again = Break()
    capsys.readouterr()
    assert fit(case, again, resume=tmp_path, verbose=2) == whole == undisturbed(case)[0]
    assert again.batches == 0
    assert "has ended already, and nothing is left to train" in capsys.readouterr().out


def test_more_epochs_go_on(tmp_path):
    fit("several", resume=tmp_path)
    more = Break()
    assert fit("several", more, resume=tmp_path, epochs=5) == fit("several", epochs=5)
    assert more.batches == 2 * 3
    with pytest.raises(ValueError, match="is of another training: 5 epochs are done, got epochs=4; pass"):
        fit("several", resume=tmp_path, epochs=4)


def test_a_file_of_values_has_the_same_lines(tmp_path, at_every_step):
    fit("mlp", CSVLogger(tmp_path / "whole.csv"))
    for batches in (3, 9):
        with pytest.raises(Stopped):
            fit("mlp", CSVLogger(tmp_path / "log.csv"), Break(batches), resume=tmp_path / "folder")
    with open(tmp_path / "log.csv", "a") as file:
        file.write("a line after the checkpoint")
    fit("mlp", CSVLogger(tmp_path / "log.csv"), resume=tmp_path / "folder")
    assert (tmp_path / "log.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def broken(case: str, folder: Any, batches: int, **more: Any) -> None:
    with pytest.raises(Stopped):
        fit(case, Break(batches), BackupAndRestore(folder, save_freq=1), **more)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"batch_size": 6}, "batch_size was 5, got 6"),
        ({"shuffle": False}, "shuffle was True, got False"),
        ({"x": X[:20], "y": Y[:20]}, "samples was 17, got 16"),
        ({"x": X + 1}, r"checksum of the first batch was \d+, got \d+"),
        ({"steps_per_epoch": 2}, "steps_per_epoch was 4, got 2"),
        ({"initial_epoch": 1}, "initial_epoch was 0, got 1"),
        ({"validation_split": 0, "x": X[:17], "y": Y[:17]}, r"validation was \[5\], got \[\]"),
        ({"y": np.where(np.arange(22)[:, None] == 16, ~Y, Y)}, r"checksum of the last samples was \d+, got \d+"),
        ({"epochs": 1}, "1 epochs are done, got epochs=1"),
    ],
)
def test_another_training(tmp_path, more, problem):
    broken("mlp", tmp_path, 7)
    model, options = begun("mlp")
    before = model.get_weights()
    with pytest.raises(ValueError, match=f"is of another training: {problem}; pass what it was begun with"):
        model.fit(**{**options, **more}, resume=tmp_path)
    assert all(map(np.array_equal, model.get_weights(), before)) and not model.optimizer.built


@pytest.mark.parametrize(
    ("optimizer", "loss", "problem"),
    [
        ("adam", "mae", r"loss was \['mse'\], got \['mae'\]"),
        (optimizers.Adam(0.5), "mse", "settings of the optimizers was .*'learning_rate': 0.5"),
        (optimizers.Adam(clipnorm=1.0), "mse", "settings of the optimizers was .*'clipnorm': 1.0"),
        (optimizers.Adam(optimizers.schedules.CosineDecay(0.001, 9)), "mse", "settings of the optimizers was .*Cosine"),
    ],
)
def test_another_compilation(tmp_path, optimizer, loss, problem):
    def train(optimizer, loss, *extra):
        model, options = begun("several")
        model.compile(optimizer, loss)
        model.fit(**options, callbacks=[*extra], resume=tmp_path)

    with pytest.raises(Stopped):
        train("adam", "mse", Break(5))
    with pytest.raises(ValueError, match=f"is of another training: {problem}"):
        train(optimizer, loss)


def test_another_model(tmp_path):
    broken("several", tmp_path, 4)
    model, options = begun("mlp")
    with pytest.raises(ValueError, match=r"optimizers was \['MultiOptimizer'\], got \['Adam'\]"):
        model.fit(**{**options, "batch_size": 8, "validation_split": 0, "epochs": 3}, resume=tmp_path)
    model, options = begun("several")
    model.pop()
    model.add(layers.Dense(1, use_bias=False))
    before = model.get_weights()
    model.compile(model.optimizer, "mse")
    with pytest.raises(ValueError, match="is of another training"):
        model.fit(**options, resume=tmp_path)
    assert all(map(np.array_equal, model.get_weights(), before))


def test_other_metrics_show_after_a_step_and_change_nothing(tmp_path):
    broken("mlp", tmp_path, 7)
    model, options = begun("mlp")
    model.compile(model.optimizer, "binary_crossentropy", metrics=["accuracy"])
    before, state = model.get_weights(), global_generator().state
    with pytest.raises(ValueError, match=r"is of another training: .* variables were there, got"):
        model.fit(**options, resume=tmp_path)
    assert all(map(np.array_equal, model.get_weights(), before)) and int(model.optimizer.iterations) == 0
    assert global_generator().state == state


# ---------------------------------------------------------------- data that cannot be read again


def endless():
    while True:
        yield X[:4], Y[:4]


class Loader:
    """Batches in an order that only it knows."""

    def __iter__(self):
        return iter([(X[:4], Y[:4]), (X[4:8], Y[4:8])])


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"x": endless(), "steps_per_epoch": 2}, "cannot read a generator again"),
        ({"x": Loader()}, "cannot read a Loader again"),
        ({"validation_data": endless(), "validation_steps": 2}, "cannot read a generator again"),
        ({"resume": 3}, "Sequential's resume must be a path, got 3"),
        ({"resume": True}, "Sequential's resume must be a path, got True"),
        ({"callbacks": [BackupAndRestore("backup")]}, "either resume or one BackupAndRestore"),
    ],
)
def test_what_is_refused_before_training(tmp_path, more, problem):
    model, options = begun("several")
    if "x" in more:
        options["y"], options["batch_size"] = None, None
    before, seen = model.get_weights(), Break()
    options["callbacks"] = [*more.pop("callbacks", ()), seen]
    with pytest.raises(ValueError, match=problem):
        model.fit(**{**options, "resume": tmp_path / "folder", **more})
    assert all(map(np.array_equal, model.get_weights(), before)) and seen.batches == 0
    assert not (tmp_path / "folder").exists()


def test_pictures_in_no_order(tmp_path):
    with pytest.raises(ValueError, match="seed=None with several workers; pass a seed, or workers=1"):
        fit("cnn_unseeded", resume=tmp_path, workers=2)


def test_validation_on_what_begins_anew_each_time(tmp_path, at_every_step):
    expected = fit("several", validation_data=Loader())
    with pytest.raises(Stopped):
        fit("several", Break(5), resume=tmp_path, validation_data=Loader())
    assert fit("several", resume=tmp_path, validation_data=Loader()) == expected


def test_a_generator_goes_on_by_epochs(tmp_path):
    """The epoch that was broken off begins anew, with the weights that it had."""
    options = {"x": endless(), "y": None, "batch_size": None, "steps_per_epoch": 4}
    expected = fit("several", **options)
    with pytest.raises(Stopped):
        fit("several", Break(6), BackupAndRestore(tmp_path), **options)
    rest = Break()
    assert fit("several", rest, BackupAndRestore(tmp_path), **options) == expected
    assert rest.batches == 8


def test_a_generator_for_a_model_that_carries_states(tmp_path):
    """What only a step makes is left as the first step makes it."""

    def batches():
        while True:
            yield np.ones((3, 4, 3), "float32"), np.ones(3, "float32")

    options = {"x": batches(), "steps_per_epoch": 2, "validation_data": None, "validation_steps": None}
    with pytest.raises(Stopped):
        fit("lstm", Break(4), BackupAndRestore(tmp_path), **options)
    rest = Break()
    fit("lstm", rest, BackupAndRestore(tmp_path), **options)
    assert rest.batches == 4


class Numbers:
    """A user's iterator that can be resumed."""

    def __init__(self):
        self.at = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.at += 1
        return X[self.at % 5 : self.at % 5 + 4], Y[self.at % 5 : self.at % 5 + 4]

    def get_state(self):
        return {"at": self.at}

    def set_state(self, state):
        self.at = state["at"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_users_iterator(tmp_path, at_every_step, workers):
    options = {"y": None, "batch_size": None, "steps_per_epoch": 4, "workers": workers}
    expected = fit("several", x=Numbers(), **options)
    for batches in (2, 5, 8, 12):
        with pytest.raises(Stopped):
            fit("several", Break(batches), resume=tmp_path / str(batches), x=Numbers(), **options)
        assert fit("several", resume=tmp_path / str(batches), x=Numbers(), **options) == expected


def drawing(*arguments):
    return arguments[0] + np.float32(np.random.normal()), *arguments[1:]


def seeded():
    own = np.random.default_rng(0)
    return ((x + own.normal(), y) for x, y in zip(X, Y, strict=True))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda rows, own: rows.shuffle(22).map(drawing).batch(6), False),
        (lambda rows, own: rows.map(lambda x, y: (x * 2, y), 2).filter(lambda x, y: True).cache().batch(6), False),
        (lambda rows, own: rows.shuffle(22).map(drawing).batch(6).prefetch(2), True),
        (lambda rows, own: rows.map(drawing).shuffle(9).batch(6), True),
        (lambda rows, own: rows.map(drawing).cache().batch(6), True),
        (lambda rows, own: Dataset.from_generator(lambda: map(drawing, X, Y)).batch(6), True),
        (lambda rows, own: rows.batch(6).map(lambda x, y: (x + np.float32(own.normal()), y)), True),
        (lambda rows, own: Dataset.from_generator(seeded).batch(6), False),
    ],
)
def test_random_numbers_in_a_dataset(tmp_path, make, told, at_every_step):
    """Those that cannot be drawn again are told of; the others are."""

    def options():
        return {"x": make(Dataset.from_arrays(X, Y), np.random.default_rng(0)), "y": None, "batch_size": None}

    def train(*extra, **more):
        model, _ = begun("several")
        return ended(model, model.fit(**options(), epochs=3, verbose=0, callbacks=[*extra], **more))

    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        expected = train()
        with pytest.raises(Stopped):
            train(Break(6), resume=tmp_path)
        assert train(resume=tmp_path) == expected or told
    assert any("will not go on bit for bit" in str(one.message) for one in found) == told


def test_a_users_table_that_changes_is_told(tmp_path):
    class Sorted(Shuffled):
        def on_epoch_end(self):
            self.table = open(os.devnull)  # noqa: SIM115 - anything that is no data
            self.table.close()

    with pytest.warns(UserWarning, match=r"attributes \['table'\] of the data Sorted change and are no plain data"):
        fit("several", x=Sorted(), y=None, batch_size=None, resume=tmp_path)


# ---------------------------------------------------------------- several trainings


def test_the_second_of_two_trainings(tmp_path):
    """A program's first `fit` does not take up what its second one has left."""

    def program(*extra):
        model, options = begun("several")
        for more in ((), extra):
            model.fit(**{**options, "callbacks": [BackupAndRestore(tmp_path, save_freq=1), *more]})
        return model

    model = None
    with pytest.raises(Stopped):
        program(Break(5))
    with pytest.raises(ValueError, match=r"had made \[9, 9\] steps before it|had made \[9\] steps before it"):
        model = program()
    assert model is None
    shutil.rmtree(tmp_path)
    model = program()
    with pytest.raises(Stopped):
        model.fit(X, Y, epochs=3, verbose=0, callbacks=[Break(2), BackupAndRestore(tmp_path, save_freq=1)])
    rest = Break()
    model.fit(X, Y, epochs=3, verbose=0, callbacks=[rest, BackupAndRestore(tmp_path, save_freq=1)])
    assert rest.batches == 2  # in the same process it goes on


def test_the_same_training_twice_in_a_program(tmp_path):
    model, options = begun("several")
    model.fit(**options, resume=tmp_path)
    with pytest.warns(UserWarning, match="fit trains nothing: the training in .* has ended; pass more epochs, or ano"):
        model.fit(**options, resume=tmp_path)
    assert model.fit(**{**options, "epochs": 4}, resume=tmp_path).epoch == [0, 1, 2, 3]


def test_short_epochs_are_not_all_saved(tmp_path, monkeypatch):
    saves = []
    write = Folder.write
    monkeypatch.setattr(Folder, "write", lambda *arguments: (saves.append(1), write(*arguments)))
    model, options = begun("several")
    whole = model.fit(**{**options, "batch_size": 22, "epochs": 200}, resume=tmp_path)
    assert len(whole.epoch) == 200 and 2 <= len(saves) < 100
    again, _ = begun("several")
    assert again.fit(**{**options, "batch_size": 22, "epochs": 200}, resume=tmp_path).history == whole.history


# ---------------------------------------------------------------- files


def test_a_damaged_file_is_passed_over(tmp_path):
    broken("mlp", tmp_path, 7)
    newest = max(tmp_path.iterdir(), key=lambda file: file.stat().st_mtime_ns)
    newest.write_bytes(newest.read_bytes()[:-100])
    (tmp_path / "checkpoint_0.zip.partial").write_bytes(b"of a killed save")
    with pytest.warns(UserWarning, match="is damaged .*; the checkpoint beside it is taken"):
        assert fit("mlp", resume=tmp_path) == undisturbed("mlp")[0]
    for file in tmp_path.iterdir():
        file.write_bytes(b"damaged")
    model, options = begun("mlp")
    before = model.get_weights()
    with pytest.raises(ValueError, match="remove the folder to begin the training anew"):
        model.fit(**options, resume=tmp_path)
    assert all(map(np.array_equal, model.get_weights(), before))


def test_no_damage_goes_unseen(tmp_path):
    """Whatever byte is changed, the file is refused or means the same; a claim of a huge size costs nothing."""
    folder, state = Folder(str(tmp_path)), {"a": np.arange(100.0), "b": [1, {"c": 0.1}]}
    description, arrays = described(state)
    folder.write({"training": {}, "state": description}, arrays)
    file = tmp_path / NAMES[0]
    content, chance, refused = file.read_bytes(), np.random.default_rng(0), 0
    for place in range(0, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= int(chance.integers(1, 256))
        file.write_bytes(changed)
        try:
            found = Folder(str(tmp_path)).newest()
        except ValueError as error:
            assert "is damaged" in str(error)
            refused += 1
        else:
            assert repr(found["state"]) == repr(state)
    assert refused > 0.8 * len(content) / 7


@pytest.mark.parametrize(
    "description",
    [
        {"array": "<f4", "shape": [10**12], "in": 0, "at": 0},
        {"array": "<f4", "shape": [1], "in": 7, "at": 0},
        {"array": "|O", "shape": [1], "hex": "00" * 8},
        {"eval": ["1"]},
    ],
)
def test_a_file_that_lies_costs_nothing(tmp_path, description):
    with zipfile.ZipFile(tmp_path / NAMES[0], "w") as archive:
        text = {"format": "minikeras training 1", "number": 1, "training": {}, "state": description}
        archive.writestr("state.json", json.dumps(text))
        archive.writestr("0", b"0000")
    with pytest.raises(ValueError, match="is damaged"):
        Folder(str(tmp_path)).newest()


def test_a_full_disk_is_a_warning(tmp_path, monkeypatch):
    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match="No space left on device.*training goes on") as told:
        assert fit("mlp", BackupAndRestore(tmp_path, save_freq=1)) == undisturbed("mlp")[0]
    assert len([one for one in told if "checkpoint" in str(one.message)]) == 1
    assert not tmp_path.exists()


@pytest.mark.filterwarnings("ignore:A checkpoint could not be written")
def test_a_lost_folder_is_made_again(tmp_path):
    folder = tmp_path / "folder"
    lose = LambdaCallback(on_epoch_begin=lambda epoch, logs: shutil.rmtree(folder, ignore_errors=True))
    assert fit("mlp", lose, resume=folder) == undisturbed("mlp")[0]
    assert len(os.listdir(folder)) > 0


def test_ctrl_c(tmp_path):
    def interrupt(batch, logs):
        if batch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit("own_threads", LambdaCallback(on_train_batch_end=interrupt), BackupAndRestore(tmp_path, save_freq=1))
    assert not [thread for thread in threading.enumerate() if thread.name == "minikeras-checkpoints"]
    assert fit("own_threads", resume=tmp_path) == undisturbed("own_threads")[0]


# ---------------------------------------------------------------- states


class Strange(Callback):
    """A callback with an attribute that is no plain data."""

    def on_epoch_begin(self, epoch, logs=None):
        self.started = object()


class Sealed(Callback):
    """A callback that says what its state is."""

    total, given = 0, None

    def get_state(self):
        return {"total": self.total}

    def set_state(self, state):
        self.given = state

    def on_train_batch_end(self, batch, logs=None):
        self.total += 1


def test_users_callbacks(tmp_path):
    with pytest.raises(Stopped), pytest.warns(UserWarning, match="'started'. of the callback Strange change") as told:
        fit("several", Sealed(), Strange(), Break(5), BackupAndRestore(tmp_path, save_freq=1))
    assert len([one for one in told if "Strange" in str(one.message)]) == 1
    seen = Sealed()
    with pytest.warns(UserWarning, match="The callback Counting was not there when the checkpoint was made"):
        fit("several", seen, Counting(), resume=tmp_path, epochs=3)
    assert seen.given == {"total": 4}


class Anything:
    """An object that has every attribute, as stand-ins and proxies have."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()


def test_odd_objects_of_callbacks(tmp_path, at_every_step):
    """Proxies, circles, what nothing can be assigned to, functions that enclose nothing yet."""

    class Odd(Callback):
        def __init__(self):
            self.any, self.circle, self.modules, self.kind = Anything(), [], [os, np], Odd
            self.circle.append(self.circle)
            self.method, self.part = self.on_epoch_end, functools.partial(print, self)
            self.late = lambda: later
            later = 3

    assert fit("several", Odd(), resume=tmp_path) == fit("several")


def test_a_state_that_is_no_data_is_a_warning(tmp_path):
    class Bad(Callback):
        def get_state(self):
            return {"thing": object()}

    with pytest.warns(UserWarning, match="cannot be saved: it holds a object"):
        fit("several", Bad(), resume=tmp_path)


def plain(value: Any) -> Any:
    """Something that is equal for equal bits and types."""
    if isinstance(value, (np.ndarray, np.generic)):
        return type(value), value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        return [(plain(name), plain(one)) for name, one in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [plain(one) for one in value]
    return type(value), sorted(value) if isinstance(value, (set, frozenset)) else repr(value)


NUMBERS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
ARRAYS = st.builds(
    lambda dtype, shape, seed: np.random.default_rng(seed).normal(size=shape).astype(dtype),
    st.sampled_from(["float32", "float64", "float16", "int64", "uint8", "bool", "complex64"]),
    st.lists(st.integers(0, 4), max_size=3).map(tuple),
    st.integers(0, 9),
)
STATES = st.recursive(
    NUMBERS | ARRAYS | st.sets(st.integers()) | ARRAYS.map(lambda array: array.reshape(-1)[:1].sum()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.tuples(st.integers()), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(STATES)
def test_what_is_described_is_rebuilt(state):
    description, arrays = described(state)
    found = rebuilt(json.loads(json.dumps(description)), [one.tobytes() for one in arrays])
    assert plain(found) == plain(state)


@settings(max_examples=15, deadline=None)
@given(
    batches=st.integers(1, 14),
    frequency=st.sampled_from([1, 2, 5, "epoch"]),
    batch_size=st.integers(3, 9),
    shuffle=st.sampled_from([True, False, "batch"]),
    kind=st.sampled_from(["arrays", "dataset", "own", "pictures"]),
    steps=st.sampled_from([None, 2, 3]),
    workers=st.integers(0, 2),
    own=st.lists(st.sampled_from([Counting, lambda: EarlyStopping("loss", patience=1)]), max_size=2),
)
def test_any_training(batches, frequency, batch_size, shuffle, kind, steps, workers, own):
    def training(*extra: Any, **more: Any) -> dict[str, str]:
        model, _ = begun("several")
        options: dict[str, Any] = {"epochs": 3, "steps_per_epoch": steps, "shuffle": shuffle, "verbose": 0}
        if kind == "arrays":
            options |= {"x": X, "y": Y, "batch_size": batch_size}
        elif kind == "dataset":
            options |= {"x": Dataset.from_arrays(X, Y).shuffle(9).batch(batch_size), "workers": workers}
        elif kind == "own":
            options |= {"x": Shuffled(workers=workers)}
        else:
            model = Sequential([Input((6, 6, 1)), layers.Flatten(), layers.Dense(3)])
            model.compile("adam", losses.SparseCategoricalCrossentropy(from_logits=True))
            flow = ImageDataGenerator(rotation_range=20).flow(PICTURES, LABELS, batch_size=batch_size, seed=3)
            options |= {"x": flow, "workers": workers}
        return ended(model, model.fit(**options, callbacks=[*[make() for make in own], *extra], **more))

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = training()
        try:
            training(Break(batches), BackupAndRestore(folder, save_freq=frequency, delete_checkpoint=False))
        except Stopped:
            event("stopped")
        assert training(resume=folder) == expected
