"""What TensorBoard's own reader finds in the files."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from minikeras import Sequential, layers, optimizers
from minikeras.callbacks import TensorBoard

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
pytest.importorskip("tensorboardX")

X, Y = np.random.default_rng(0).normal(size=(2, 16, 4, 3)).astype("float32")


def model_of(*stack, optimizer="adam", metrics=()):
    model = Sequential([layers.Input((4, 3)), *stack, layers.Dense(3, name="last")], name="tested")
    model.compile(optimizer, "mse", metrics=list(metrics))
    return model


def read(folder):
    found = accumulator.EventAccumulator(str(folder), dict.fromkeys(accumulator.DEFAULT_SIZE_GUIDANCE, 0))
    found.Reload()
    return found


def scalars(found):
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_values_of_epochs_and_batches(tmp_path):
    model = model_of(metrics=["mae"])
    callback = TensorBoard(tmp_path, update_freq=2, write_steps_per_second=True)
    history = model.fit(X, Y, batch_size=4, epochs=2, validation_data=(X, Y), callbacks=[callback], verbose=0)
    train, validation = scalars(read(tmp_path / "train")), scalars(read(tmp_path / "validation"))
    for name in ("loss", "mae"):
        np.testing.assert_allclose([v for _, v in train[f"epoch_{name}"]], history.history[name], rtol=1e-6)
        np.testing.assert_allclose(
            [v for _, v in validation[f"epoch_{name}"]], history.history[f"val_{name}"], rtol=1e-6
        )
        evaluated = validation[f"evaluation_{name}_vs_iterations"]
        assert [step for step, _ in evaluated] == [4, 8]
        np.testing.assert_allclose([v for _, v in evaluated], history.history[f"val_{name}"], rtol=1e-6)
        assert [step for step, _ in train[f"batch_{name}"]] == [2, 4, 6, 8]
    assert train["epoch_learning_rate"] == [(0, pytest.approx(0.001)), (1, pytest.approx(0.001))]
    assert all(value > 0 for _, value in train["batch_steps_per_second"] + train["epoch_steps_per_second"])
    assert train.keys() == {
        *(f"{at}_{name}" for at in ("epoch", "batch") for name in ("loss", "mae", "steps_per_second")),
        "epoch_learning_rate",
    }
    assert not callback._writers


def test_histograms_pictures_graph_text_and_hyperparameters(tmp_path):
    pytest.importorskip("PIL")
    model = model_of(layers.Conv1D(2, 3, padding="same", name="conv"), optimizer=optimizers.SGD(0.5, 0.25))
    callback = TensorBoard(tmp_path, histogram_freq=2, write_images=True)
    model.fit(X, Y, epochs=3, callbacks=[callback], verbose=0)
    found = read(tmp_path / "train")
    weights = [weight.path for weight in model.weights]
    assert found.Tags()["histograms"] == [f"{weight}/histogram" for weight in weights]
    last = found.Histograms(f"{weights[-1]}/histogram")
    assert [event.step for event in last] == [0, 2]
    assert last[-1].histogram_value.num == 3
    assert last[-1].histogram_value.max == pytest.approx(model.weights[-1].numpy().max())
    assert set(found.Tags()["images"]) == {f"{weight}/image" for weight in weights}
    assert found.Images(f"{weights[-1]}/image")[0].width == 3
    graph = found.Tensors("keras")[0].tensor_proto.string_val[0]
    assert json.loads(graph) == json.loads(model.to_json())
    assert found.SummaryMetadata("keras").plugin_data.plugin_name == "graph_keras_model"
    text = found.Tensors("model/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "conv (Conv1D)" in text and "Total params" in text
    started = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"learning_rate" in started and b"momentum" in started and b"SGD" in started


def test_weights_that_are_not_finite_are_left_out_of_histograms(tmp_path):
    model = model_of()
    spoilt = [np.array([[1, 2, np.nan], [3, 4, np.inf], [5, 6, -np.inf]]), np.full(3, np.nan)]
    callback = TensorBoard(tmp_path, histogram_freq=1, write_images=True)
    callback.set_model(model)
    model.set_weights(spoilt)
    callback.on_epoch_end(0, {"loss": 1.0, "note": "text", "several": np.arange(2.0)})
    callback.on_train_end()
    found = read(tmp_path / "train")
    kept = found.Histograms(f"{model.weights[0].path}/histogram")[0].histogram_value
    assert (kept.num, kept.min, kept.max) == (6, 1, 6) and len(found.Tags()["histograms"]) == 1
    assert scalars(found).keys() == {"epoch_loss", "epoch_several_0", "epoch_several_1", "epoch_learning_rate"}


def test_embeddings_are_saved_and_named(tmp_path):
    model = Sequential([layers.Input((4,)), layers.Embedding(5, 2, name="words"), layers.Flatten(), layers.Dense(1)])
    model.compile("sgd", "mse")
    callback = TensorBoard(tmp_path, embeddings_freq=1, embeddings_metadata={"words": "words.tsv"}, write_graph=False)
    model.fit(np.ones((8, 4)), np.ones(8), epochs=2, callbacks=[callback], verbose=0)
    assert 'metadata_path: "words.tsv"' in (tmp_path / "projector_config.pbtxt").read_text()
    model.load_weights(tmp_path / "train" / "keras_embedding.ckpt-1.weights.h5")
    assert "keras" not in read(tmp_path / "train").Tags()["tensors"]
    callback = TensorBoard(tmp_path, embeddings_metadata={"word": "words.tsv"})
    with pytest.raises(ValueError, match="Embedding layer 'word'"):
        model.fit(np.ones((8, 4)), np.ones(8), callbacks=[callback], verbose=0)


def test_several_learning_rates_and_an_evaluation_alone(tmp_path):
    several = optimizers.MultiOptimizer(optimizers.OptimizerMap(optimizers.SGD(0.5, name="slow")))
    model = model_of(optimizer=optimizers.LossScaleOptimizer(several))
    model.fit(X, Y, callbacks=[TensorBoard(tmp_path)], verbose=0)
    assert scalars(read(tmp_path / "train"))["epoch_learning_rate_slow"] == [(0, 0.5)]
    callback = TensorBoard(tmp_path / "alone")
    model.evaluate(X, Y, callbacks=[callback], verbose=0)
    callback.on_train_end()
    assert list(scalars(read(tmp_path / "alone" / "validation"))) == ["evaluation_loss_vs_iterations"]
    assert not (tmp_path / "alone" / "train").exists()


def test_what_is_refused(tmp_path, monkeypatch):
    for arguments, message in (
        ({"log_dir": ""}, "log_dir must be a path"),
        ({"histogram_freq": -1}, "histogram_freq"),
        ({"update_freq": 0}, "update_freq"),
        ({"update_freq": "step"}, "update_freq"),
        ({"write_images": "no"}, "write_images"),
    ):
        with pytest.raises(ValueError, match=message):
            TensorBoard(**arguments)
    with pytest.warns(UserWarning, match="profiles no batches here, got profile_batch='2,4'"):
        TensorBoard(profile_batch="2,4")
    (tmp_path / "file").write_text("")
    model = model_of()
    before = model.get_weights()
    with pytest.raises(NotADirectoryError, match="is no folder"):
        model.fit(X, Y, callbacks=[TensorBoard(tmp_path / "file")], verbose=0)
    with pytest.raises(ValueError, match="targets"):
        model.fit(X, Y[:, :, :2], callbacks=[TensorBoard(tmp_path / "none")], verbose=0)
    assert not (tmp_path / "none").exists()
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"pip install 'minikeras\[tensorboard\]'"):
        model.fit(X, Y, callbacks=[TensorBoard(tmp_path)], verbose=0)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
