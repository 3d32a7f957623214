"""What a training was like, as TensorBoard shows it; written with tensorboardX."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from time import perf_counter
from typing import Annotated, Any

import numpy as np

from minikeras import config
from minikeras.callbacks.base import Callback, FilePath, frequency, lazy_logs, read_logs
from minikeras.callbacks.simple import check_writable
from minikeras.declared import Converted, Whole, declared
from minikeras.layers import Embedding
from minikeras.optimizers import Optimizer
from minikeras.tracebacks import warn
from minikeras.utils.suggest import unknown

AtLeast0 = Annotated[int, Whole(0)]
_TENSOR = "layer_with_weights-0/embeddings/.ATTRIBUTES/VARIABLE_VALUE"


@declared
class TensorBoard(Callback):
    """Writes what TensorBoard shows: `tensorboard --logdir logs`.  It needs `pip install 'minikeras[tensorboard]'`.

    The folder `train` gets `epoch_loss` and so on with `epoch_learning_rate`, `batch_loss` and so on by batch, the
    optimizer's settings as hyper-parameters, weights as histograms and pictures, and the model as text and as its
    graph; the folder `validation` gets `epoch_loss` and `evaluation_loss_vs_iterations`.

    Args:
        log_dir: the folder.
        histogram_freq: every how many epochs weights are written as histograms, 0 for never.
        write_graph: whether the model's description is written.
        write_images: whether, together with the histograms, weights are drawn: black is the least of them, white the
            largest.
        write_steps_per_second: whether the number of batches a second is written.
        update_freq: every how many batches their values are written; `"batch"` is 1, `"epoch"` is never.
        profile_batch: accepted; nothing is profiled here, which a warning says.
        embeddings_freq: every how many epochs the weights are saved for the projector of embeddings, 0 for never.
        embeddings_metadata: the file that names the rows of all `Embedding` layers, or a dict of them by layer.

    Raises:
        ValueError: for numbers that make no sense; when training begins, for a layer that is no `Embedding`.
        ImportError, OSError: when training begins, without tensorboardX, and where nothing can be written.

    >>> from minikeras import callbacks
    >>> callbacks.TensorBoard("runs/first", update_freq=100)
    <TensorBoard log_dir='runs/first' update_freq=100>
    """

    log_dir: FilePath = "logs"
    histogram_freq: AtLeast0 = 0
    write_graph: bool = True
    write_images: bool = False
    write_steps_per_second: bool = False
    update_freq: Annotated[Any, Converted(lambda value: 1 if value == "batch" else value), frequency] = "epoch"
    profile_batch: Any = 0
    embeddings_freq: AtLeast0 = 0
    embeddings_metadata: Any = None

    def __post_init__(self) -> None:
        if self.profile_batch:
            warn(f"TensorBoard profiles no batches here, got profile_batch={self.profile_batch!r}; leave it out.")
        self._writers: dict[str, Any] = {}
        self._batches = 0
        self._epoch_began = self._batch_ended = (0, 0.0)  # numbers of updates, and times

    def check_before_training(self) -> None:
        _tensorboardx()
        if self.write_images and importlib.util.find_spec("PIL") is None:
            raise ImportError("TensorBoard's write_images needs Pillow; run pip install 'minikeras[images]'.")
        check_writable(os.path.join(self.log_dir, "train", "events"), "TensorBoard")
        if isinstance(self.embeddings_metadata, Mapping):
            known = [layer.name for layer in self._embeddings()]
            for name in self.embeddings_metadata.keys() - set(known):
                raise ValueError(f"TensorBoard's embeddings_metadata: {unknown('Embedding layer', name, known)}")

    def _embeddings(self) -> list[Any]:
        return [layer for layer in self.model.layers if isinstance(layer, Embedding)]

    def _writer(self, part: str) -> Any:
        """The writer of a folder; a training that fails in its first step has none."""
        if part not in self._writers:
            writer = self._writers[part] = _tensorboardx().SummaryWriter(os.path.join(self.log_dir, part))
            if part == "train":
                self._describe(writer)
        return self._writers[part]

    def _describe(self, writer: Any) -> None:
        """Write what does not change: settings, the model, where embeddings are."""
        board = _tensorboardx()
        settings = self.model.optimizer.get_config() if isinstance(self.model.optimizer, Optimizer) else {}
        settings = {name: value for name, value in settings.items() if isinstance(value, (str, bool, int, float))}
        for summary in board.summary.hparams({"optimizer": type(self.model.optimizer).__name__, **settings}, {}):
            writer.file_writer.add_summary(summary)
        if self.write_graph:
            lines: list[str] = []
            self.model.summary(print_fn=lambda text, **options: lines.extend(text.splitlines()))
            writer.add_text("model", "\n".join(f"    {line}" for line in lines), 0)
            if self.model._graph is not None:
                writer.file_writer.add_summary(_graph(board, self.model.to_json()), 0)
        if self.embeddings_freq:
            files = self.embeddings_metadata
            with open(os.path.join(self.log_dir, "projector_config.pbtxt"), "w") as file:
                for layer in self._embeddings():
                    name = files.get(layer.name) if isinstance(files, Mapping) else files
                    place = f'  metadata_path: "{name}"\n' if name else ""
                    file.write(f'embeddings {{\n  tensor_name: "{_TENSOR}"\n{place}}}\n')

    def _write(self, part: str, form: str, values: Mapping[str, Any], step: int) -> None:
        """Write scalars, under tags such as `"epoch_{}"`; of an array one for each of its numbers."""
        for name, value in values.items():
            numbers = np.ravel(value)
            for i, number in enumerate(numbers if numbers.dtype.kind in "biuf" else ()):
                tag = form.format(name if len(numbers) == 1 else f"{name}_{i}")
                self._writer(part).add_scalar(tag, float(number), step)

    def _updates(self) -> int:
        return int(self.model.optimizer.iterations) if isinstance(self.model.optimizer, Optimizer) else self._batches

    def on_train_begin(self, logs: Any = None) -> None:
        self._batches = 0

    def get_state(self) -> dict[str, Any]:
        return {"batches": self._batches}

    def set_state(self, state: dict[str, Any]) -> None:
        self._batches = state["batches"]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch_began = self._batch_ended = self._updates(), perf_counter()

    @lazy_logs
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._batches += 1
        before, self._batch_ended = self._batch_ended, (self._batches, perf_counter())
        if self.update_freq != "epoch" and self._batches % self.update_freq == 0:
            values = dict(read_logs(logs))
            if self.write_steps_per_second:
                values["steps_per_second"] = 1 / (self._batch_ended[1] - before[1])
            self._write("train", "batch_{}", values, self._batches)

    def on_test_end(self, logs: Any = None) -> None:
        self._write("validation", "evaluation_{}_vs_iterations", logs or {}, self._updates())
        self._writer("validation").flush()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        values, validation = dict(logs or {}), {}
        for name in [name for name in values if name.startswith("val_")]:
            validation[name.removeprefix("val_")] = values.pop(name)
        values |= self._learning_rates()
        if self.write_steps_per_second:
            updates, began = self._epoch_began
            values["steps_per_second"] = (self._updates() - updates) / (perf_counter() - began)
        self._write("train", "epoch_{}", values, epoch)
        self._write("validation", "epoch_{}", validation, epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            self._write_weights(epoch)
        if self.embeddings_freq and epoch % self.embeddings_freq == 0:
            name = f"keras_embedding.ckpt-{epoch}.weights.h5"
            self.model.save_weights(os.path.join(self.log_dir, "train", name), overwrite=True)
        for writer in self._writers.values():
            writer.flush()

    def _learning_rates(self) -> dict[str, float]:
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        several = getattr(optimizer, "optimizers", None)
        if several is not None:
            return {f"learning_rate_{one.name}": float(one.learning_rate) for one in several}
        return {"learning_rate": float(optimizer.learning_rate)} if isinstance(optimizer, Optimizer) else {}

    def _write_weights(self, epoch: int) -> None:
        writer = self._writer("train")
        for weight in [weight for layer in self.model.layers for weight in layer.weights]:
            values = weight.numpy()
            finite = values[np.isfinite(values)]
            if not finite.size:
                continue
            writer.add_histogram(f"{weight.path}/histogram", finite, epoch)
            drawn = np.where(np.isfinite(values), values, finite.min())
            picture = _picture(drawn) if self.write_images else None
            if picture is not None:
                writer.add_images(f"{weight.path}/image", picture, epoch, dataformats="NHWC")

    def on_train_end(self, logs: Any = None) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers = {}


def _tensorboardx() -> Any:
    try:
        import tensorboardX
    except ImportError as error:
        problem = "TensorBoard files are written with tensorboardX, which is not installed"
        raise ImportError(f"{problem}; run pip install 'minikeras[tensorboard]'.") from error
    return tensorboardX


def _graph(board: Any, text: str) -> Any:
    """The summary from which TensorBoard draws a model's layers: its JSON under the tag that Keras writes."""
    proto = board.proto.summary_pb2
    plugin = proto.SummaryMetadata.PluginData(plugin_name="graph_keras_model", content=b"1")
    tensor = board.proto.tensor_pb2.TensorProto(dtype="DT_STRING", string_val=[text.encode()])
    value = proto.Summary.Value(tag="keras", tensor=tensor, metadata=proto.SummaryMetadata(plugin_data=plugin))
    return proto.Summary(value=[value])


def _picture(weight: np.ndarray) -> np.ndarray | None:
    """A weight as pictures (n, height, width, 1) from 0 to 1; None for one with more axes than pictures have."""
    drawn = np.squeeze(weight)
    if drawn.ndim == 3 and config.image_data_format() == "channels_last":
        drawn = drawn.transpose(2, 0, 1)  # a picture for each filter
    elif drawn.ndim == 2:
        drawn = (drawn.T if len(drawn) > drawn.shape[1] else drawn)[None]
    elif drawn.ndim < 2:
        drawn = drawn.reshape(1, 1, -1)
    if drawn.ndim != 3 or not drawn.size:
        return None
    low, high = drawn.min(), drawn.max()
    return ((drawn - low) / (high - low if high > low else 1))[..., None]
