"""Names that are not here say what to do instead, and `dir()` shows what is meant for users."""

from __future__ import annotations

import importlib
import subprocess
import sys
import types

import pytest

import minikeras
from minikeras.elsewhere import remedies, remedy_for

MODULES = [
    *("", "activations", "backend", "callbacks", "config", "constraints", "data", "datasets", "datasets.mnist"),
    *("initializers", "layers", "losses", "metrics", "models", "ops", "ops.nn", "ops.numpy", "optimizers"),
    *("optimizers.schedules", "preprocessing", "preprocessing.image", "preprocessing.sequence", "random"),
    *("regularizers", "saving", "tree", "utils", "utils.legacy"),
]


def module(name: str) -> types.ModuleType:
    return importlib.import_module(f"minikeras.{name}".rstrip("."))


@pytest.mark.parametrize("name", MODULES)
def test_dir_shows_names_of_minikeras_only(name):
    shown = [one for one in dir(module(name)) if one[:1] != "_"]
    assert shown and shown == sorted(set(shown))
    for one in shown:
        value = getattr(module(name), one)
        home = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", "minikeras")
        assert home.split(".")[0] == "minikeras", f"{name}.{one} is of {home}"


def test_dir_shows_what_is_only_loaded_when_asked_for():
    code = (
        "import minikeras as m; print('load_model' in dir(m.models), 'Dense' in dir(m.layers), 'np' in dir(m.losses))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "True True False\n"


@pytest.mark.parametrize("name", remedies())
def test_a_remedy_is_for_a_name_that_is_not_here(name):
    *owners, last = name.split(".")
    owner = minikeras
    for part in owners:
        owner = getattr(owner, part, None)
        if owner is None:
            return  # its whole module is not here
    assert not hasattr(owner, last), f"{name} is here; remove it from elsewhere.txt"
    assert isinstance(remedy_for(f"minikeras.{name}"), str)


def test_names_of_keras_that_are_not_here():
    said = r"keras\.quantizers is not part of minikeras; .* \(see https:.*docs/compatibility\.md\)\."
    with pytest.raises(AttributeError, match=said):
        _ = minikeras.quantizers
    for statement in ("from minikeras import quantizers", "import minikeras.quantizers"):
        with pytest.raises(ImportError, match=said):
            exec(statement)
    with pytest.raises(ImportError, match=r"keras\.utils\.Config is not part of minikeras; use a dict"):
        exec("from minikeras.utils import Config")
    with pytest.raises(ModuleNotFoundError, match=said):
        importlib.import_module("minikeras.quantizers.inner")
    assert not hasattr(minikeras, "quantizers") and not hasattr(minikeras.layers, "TFSMLayer")


def test_other_names_are_what_they_are_everywhere():
    with pytest.raises(AttributeError, match=r"^module 'minikeras' has no attribute 'quantisers'\.$"):
        _ = minikeras.quantisers
    with pytest.raises(ImportError, match=r"cannot import name 'Nothing' from 'minikeras\.losses'"):
        exec("from minikeras.losses import Nothing")
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'minikeras\.nothing'"):
        importlib.import_module("minikeras.nothing")
    assert remedy_for("minikeras.nothing") is None


def test_settings_that_change_nothing_say_so():
    with pytest.warns(UserWarning, match=r"so set_backend\('jax'\) changes nothing"):
        minikeras.config.set_backend("jax")
    with pytest.raises(ValueError, match="got 'theano'"):
        minikeras.config.set_backend("theano")
    with pytest.warns(UserWarning, match="Code from files never runs"):
        minikeras.config.enable_unsafe_deserialization()


def test_a_device_for_a_block():
    before = minikeras.config.device()
    with minikeras.device("CPU:0"):
        assert minikeras.config.device() == "cpu"
    assert minikeras.config.device() == before
    for wrong in ("tpu:0", "cpu:1", 3):
        with pytest.raises(ValueError, match="A device is 'cpu' or 'gpu'"):
            minikeras.device(wrong)
