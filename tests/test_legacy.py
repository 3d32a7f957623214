"""The names of `keras._legacy`, found when somebody asks."""

import subprocess
import sys

import pytest

import minikeras
from minikeras import losses


def test_names():
    assert minikeras._legacy.losses.MSE is losses.mean_squared_error
    assert minikeras._legacy.metrics.kld is losses.kl_divergence
    assert minikeras._legacy.layers.ThresholdedReLU(0.5).theta == 0.5
    assert minikeras._legacy.backend.zeros((2,)).shape == (2,)
    with pytest.raises(AttributeError, match="has no 'nothing'"):
        minikeras._legacy.nothing  # noqa: B018


def test_reductions_of_older_programs():
    reduction = minikeras._legacy.losses.Reduction
    assert reduction.all() == ("auto", "none", "sum", "sum_over_batch_size")
    reduction.validate("sum")
    with pytest.raises(ValueError, match=r"A reduction must be .* got 'most'"):
        reduction.validate("most")
    assert losses.MeanSquaredError(reduction=reduction.AUTO).reduction == "sum_over_batch_size"


def test_nothing_is_loaded_before():
    code = "import minikeras._legacy, sys; print('minikeras.losses' in sys.modules, 'numpy' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.split() == ["False", "False"]


def test_older_paths_of_layers_are_attributes_before_anything_is_loaded():
    program = "import minikeras as keras\n" + "\n".join(
        f"assert keras.layers.{path}.LSTM is keras.layers.LSTM"
        for path in ("core", "recurrent", "convolutional", "normalization", "pooling", "wrappers", "merge")
    )
    subprocess.run([sys.executable, "-c", program], check=True)
