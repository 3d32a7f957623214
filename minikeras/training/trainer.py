"""Training: compile, fit, evaluate, predict, and the step that they repeat."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import nullcontext
from threading import get_ident
from typing import Any

import numpy as np

from minikeras import kernels as k
from minikeras import ops, tree
from minikeras import optimizers as optimizers_room
from minikeras.autodiff.symbolic import KerasTensor, is_symbolic
from minikeras.autodiff.tape import backward, is_recording, recording
from minikeras.autodiff.tensor import FLOATS, Tensor, Variable
from minikeras.autodiff.turns import at_once
from minikeras.callbacks import CallbackList, History
from minikeras.callbacks.base import is_finite, path_of
from minikeras.config import floatx, max_epochs
from minikeras.layers.added_losses import value_of
from minikeras.layers.context import context
from minikeras.layers.layer import Layer
from minikeras.lazy import LazyModule
from minikeras.losses import Loss, combined
from minikeras.metrics import Mean, Metric
from minikeras.optimizers.schedules import LearningRateSchedule
from minikeras.registry import deserialize_keras_object, is_builtin, serialize_keras_object
from minikeras.tracebacks import end_at_users_line, user_facing, warn
from minikeras.training import data as feed
from minikeras.training.compiled import CompiledLoss, CompiledMetrics
from minikeras.training.outputs import Outputs
from minikeras.training.programs import Programs, Report
from minikeras.training.snapshot import Snapshot, Trial
from minikeras.training.step import Later, MetricLogs, checked_logs, step_data, to_floats
from minikeras.utils.checks import number, one_of, shown, whole

nonfinite = LazyModule("minikeras.callbacks.nonfinite")
resuming = LazyModule("minikeras.training.resuming")


OF_ONE_OBJECT = ("_kept", "_trial", "_batch", "_observers", "_arenas", "_programs")  # which a copy has anew


class Trainer:
    """What makes a `Model` trainable; mixed into it."""

    _begins_with_data = False  # whether the first batch must have been seen before there is a state to go on from

    # attributes and methods of Layer and Model that are used here
    name: str
    built: bool
    dtype_policy: Any
    trainable_variables: list[Variable]
    losses: list[Any]
    _loss_owners: list[Any]
    _entry: int
    _graph: Any
    _contents: Callable
    _known: Any
    _added_losses: Callable

    def __init__(self) -> None:
        self.optimizer: Any = None
        self.loss: Any = None
        self.compiled = False
        self.stop_training = self.stop_evaluating = self.stop_predicting = False  # a callback sets them
        self.run_eagerly, self.jit_compile, self.steps_per_execution = False, "auto", 1  # as compile() was told
        self.history: Any = None
        self._compile_arguments: dict[str, Any] = {}
        self._auto_scale_loss = True
        self._compiled_loss: CompiledLoss | None = None
        self._compiled_metrics: CompiledMetrics | None = None
        self._loss_tracker: Mean | None = None
        self._loss_factor: float | None = None  # of what is minimised, not of what is told
        self._check_label_values = False
        self._loss_explained = False  # whether the present run has told why its loss is not finite
        self._start_alone()

    def _start_alone(self) -> None:
        """Set what this object has for itself alone, and a copy anew: what concerns a step under way, and buffers."""
        self._kept: Snapshot | None = None  # what a failing first step of `fit` gives back; None once it has worked
        self._trial: functools.partial | None = None  # called in that step, before anything is changed for good
        self._batch: Any = None  # the last one that went through the layers in the present pass
        self._observers: tuple[Callable, ...] = ()  # called with the data of each training step before it is made
        self._arenas = _Arenas()
        self._programs = Programs(self, Trainer)

    # ------------------------------------------------------------ compile

    @user_facing
    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: Any = "auto",
        auto_scale_loss: bool = True,
        **kwargs: Any,
    ) -> None:
        """Choose optimizer, loss and metrics.

        A list of optimizers is a comparison.  So is a list of at least two losses for a model that is known to have one
        output; otherwise such a list has one loss for each output.  The next `fit` then trains one replica of the model
        for each entry, all from the same weights and over the same batches, and the model ends as the one with the
        lowest final validation loss, compiled with its optimizer and loss alone; see `training.comparison`.

        Args:
            optimizer: name or object, or a list of them to compare.
            loss: name, function or `Loss`; for several outputs a list or a dict by output name; for one output also a
                list to compare, one by one with the optimizers if these are a list too.
            loss_weights: factors of the outputs' losses, as a list or dict.  In a comparison a list with an entry for
                each replica: a number scales what it trains on but not the losses that are reported, a list or dict has
                the factors of its outputs.
            metrics: list of names, functions or `Metric`s; for several outputs a list of lists or a dict.
            weighted_metrics: the same, for metrics that take the sample weights into account.
            run_eagerly: whether every step goes through the layers.
            steps_per_execution: how many steps are made between two calls of callbacks' batch hooks.
            jit_compile: whether steps become programs, see `docs/programs.md`: "auto", where they are made of what is
                built in; True, of users' Python code too, which then runs while a step is recorded and not again; False
                never.
            auto_scale_loss: whether a model of the policy `"mixed_float16"` gets a `LossScaleOptimizer` around its own.

        Raises:
            ValueError: for an unknown name, with the nearest known one, and for a comparison that cannot be made; the
                model is unchanged.
        """
        mode = kwargs.pop("sample_weight_mode", None)
        if any(one not in (None, "temporal") for one in tree.flatten(mode)):
            raise ValueError(f"sample_weight_mode is None or 'temporal', got {mode!r}; weights go by their shape.")
        if kwargs.pop("target_tensors", None) is not None:
            raise ValueError("compile takes no target_tensors; make the targets an input and use model.add_loss().")
        if kwargs:
            raise ValueError(f"compile got unknown arguments {sorted(kwargs)}; check their spelling.")
        arguments = {
            **{"optimizer": optimizer, "loss": loss, "loss_weights": loss_weights},
            **{"metrics": metrics, "weighted_metrics": weighted_metrics},
            "run_eagerly": _switch("run_eagerly", run_eagerly),
            "steps_per_execution": whole("steps_per_execution", steps_per_execution, 1),
            "jit_compile": jit_compile if jit_compile == "auto" else _switch("jit_compile", jit_compile),
        }
        self._auto_scale_loss = _switch("auto_scale_loss", auto_scale_loss)
        self._compile(arguments)

    def _compile(self, arguments: dict[str, Any]) -> None:
        """`compile` by its arguments, which may all be used."""
        optimizer, loss = optimizers_room.get(arguments["optimizer"]), arguments["loss"]
        outputs, given = self._known_outputs(), (arguments["metrics"], arguments["weighted_metrics"])
        metrics = CompiledMetrics(*given, outputs, arguments["run_eagerly"], loss)
        compiled_loss = CompiledLoss(self._refers_to_graph(loss), arguments["loss_weights"], outputs, metrics)
        self.optimizer, self.loss = optimizer, loss
        narrow = self._auto_scale_loss and self.dtype_policy.name == "mixed_float16"
        if narrow and not isinstance(optimizer, (optimizers_room.LossScaleOptimizer, type(None))):
            self.optimizer = optimizers_room.LossScaleOptimizer(optimizer, name="loss_scale_optimizer")
        self._compiled_loss, self._compiled_metrics, self._loss_tracker = compiled_loss, metrics, Mean(name="loss")
        self._loss_factor = self._known = None
        self._check_label_values = all(spec is None or _is_builtin_loss(spec) for spec in tree.flatten(loss))
        self._compile_arguments = {**arguments, "optimizer": optimizer}
        for name in ("run_eagerly", "jit_compile", "steps_per_execution"):
            setattr(self, name, arguments[name])
        self.stop_training, self.compiled = False, True

    def _refers_to_graph(self, loss: Any) -> Any:
        """The losses for `compile`, made able to refer to symbolic tensors of the model's graph, where it has one."""
        return loss

    def _has_builtin_train_step(self) -> bool:
        return type(self).train_step is Trainer.train_step

    def _has_builtin_test_step(self) -> bool:
        return type(self).test_step is Trainer.test_step

    def _output_count(self) -> int | None:
        """How many outputs the model has, None where only a call shows it."""
        outputs = self._known_outputs()
        return None if outputs is None else outputs.count

    def _known_outputs(self) -> Outputs | None:
        graph = self._graph
        return None if graph is None else Outputs(graph.output_structure, self.output_names)  # type: ignore[attr-defined]

    def get_compile_config(self) -> dict[str, Any]:
        """What `compile` was called with, as a description; empty before."""
        return serialize_keras_object(self._compile_arguments)

    @user_facing
    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile as `get_compile_config` says."""
        if not isinstance(config, Mapping):
            raise TypeError(f"compile_from_config takes the dict of get_compile_config(), got {shown(config)}.")
        self.compile(**{name: deserialize_keras_object(value) for name, value in config.items()})
        if self.built and self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def _compile_like(self, other: Trainer) -> None:
        """Compile with what another model was compiled with: its losses, new optimizers and metrics."""
        self.compile(**tree.map_structure(_anew, other._compile_arguments))

    @property
    def metrics(self) -> list[Any]:
        """The loss tracker, the compiled metrics as one, the outputs' loss trackers, and the layers' own metrics."""
        found: list[Any] = [] if self._loss_tracker is None else [self._loss_tracker]
        if self._compiled_metrics is not None and self._compiled_metrics.is_given:
            found.append(self._compiled_metrics)
        if self._compiled_loss is not None:
            found.extend(self._compiled_loss.trackers)
        return found + self._contents().metrics

    @property
    def metrics_names(self) -> list[str]:
        return [metric.name for metric in self.metrics]

    def reset_metrics(self) -> None:
        """Start all metrics anew."""
        for metric in self.metrics:
            metric.reset_state()

    def get_metrics_result(self) -> dict[str, Any]:
        """The present value of every metric by name."""
        results: dict[str, Any] = {}
        for metric in self.metrics:
            value = metric.result()
            if isinstance(value, dict):
                results.update(value)
            else:
                results[metric.name] = value
        return results

    def _require_compiled(self, method: str) -> None:
        if not self.compiled:
            raise ValueError(f"The model {self.name!r} must be compiled before {method}(); call compile() first.")

    # ------------------------------------------------------------ one step

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = vars(cls).get("compute_loss")
        parameters = inspect.signature(own).parameters.values() if own is not None else ()
        if parameters and not any(one.name == "training" or one.kind is one.VAR_KEYWORD for one in parameters):
            # of an older program, which knows no `training`
            cls.compute_loss = lambda self, *args, training=True, **others: own(self, *args, **others)  # type: ignore

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The scalar that training minimises: compiled losses plus those of `add_loss` and of regularizers.

        Raises:
            ValueError: where there is no loss at all, or a compiled one has no targets.
        """
        extras = self._extra_losses()
        total: Any = None
        if self._compiled_loss is not None:
            if y is not None:
                total = self._compiled_loss(y, y_pred, sample_weight)
            elif self._compiled_loss.is_given:
                compiled = f"The model {self.name!r} is compiled with loss={self.loss!r:.80}"
                raise ValueError(f"{compiled}, but got no targets; pass y, or compile it without a loss.")
        if extras:
            values = [one if type(one) is Tensor and not one.data.ndim else _as_scalar(one) for one in extras]
            values = values if total is None else [total, *values]
            total = combined(values, [None] * len(values))
        if isinstance(total, KerasTensor):
            raise ValueError(
                f"The loss of the model {self.name!r} is the symbolic tensor {total!r}, because a layer or loss refers "
                "to a symbolic tensor; pass that to the layer as an input, or add it with model.add_loss()."
            )
        if total is None:
            raise ValueError(f"The model {self.name!r} has no loss; pass y, and a loss to compile(), or add_loss().")
        return total

    def _extra_losses(self) -> list[Any]:
        """`losses` without a walk through the model: who added one is known, who has a regularizer remembered."""
        if type(self).losses is not Layer.losses or self._entry != context.entries:
            # a property of the user's, or the last that was computed is not this model but, say, a part of it
            if is_symbolic(self._added_losses()):
                problem = f"The losses added to the model {self.name!r} are computed where it is called, and it was not"
                raise ValueError(f"{problem}; call self(x) before compute_loss().")
            return [loss for loss in self.losses if not isinstance(loss, KerasTensor)]
        contents = self._contents()
        penalized = contents.penalized if _is_walked(type(self)) else self._trainable_now()
        if not (self._loss_owners or contents.loss_functions or penalized):
            return []
        extras = [loss for layer in self._loss_owners for loss in layer._losses]
        extras += [value_of(function) for function in contents.loss_functions]
        return extras + [one.regularizer(one) for one in penalized if one.regularizer is not None]

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Update the compiled metrics with a batch and return all results by name."""
        if self._compiled_metrics is not None and y is not None:
            self._compiled_metrics.update_state(y, y_pred, sample_weight)
        return MetricLogs(self)

    def train_step(self, data: Any) -> Any:
        """One training step on a batch, `x`, `(x, y)` or `(x, y, sample_weight)`: forward, backward, reduce, apply.

        Returns the logs.  Override it for another way to train; `minikeras.GradientTape` and `self.optimizer.apply` do
        the work there.
        """
        x, y, sample_weight = feed.unpack_x_y_sample_weight(data)
        with recording():
            y_pred = self(x, training=True)  # type: ignore[operator]
            loss = self.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True)
            minimised = combined([loss], [self._loss_factor])
            scaled = self.optimizer.scale_loss(minimised)
        if self._trial is not None:
            trial, self._trial = self._trial, None
            trial(x, y, y_pred, sample_weight)
        variables = self._trainable_now()
        if variables:
            destinations = self.optimizer.gradient_destinations(variables)
            gradients = self.reduce_gradients(backward(scaled, variables, destinations=destinations))
            self.optimizer.apply_flat(gradients)
        if self._loss_tracker is not None:
            self._loss_tracker.update_state(loss, sample_weight=float(feed.batch_length(x)))
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def reduce_gradients(self, gradients: list[Any]) -> list[Any]:
        """Combine gradients across processes; there is one here."""
        return gradients

    def test_step(self, data: Any) -> Any:
        """One evaluation step on a batch.  Returns the logs."""
        x, y, sample_weight = feed.unpack_x_y_sample_weight(data)
        y_pred = self(x, training=False)  # type: ignore[operator]
        loss = self.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=False)
        if self._loss_tracker is not None:
            self._loss_tracker.update_state(loss, sample_weight=float(feed.batch_length(x)))
        return self.compute_metrics(x, y, y_pred, sample_weight)

    _builtin_test_step = test_step  # whatever a subclass defines

    def predict_step(self, data: Any) -> Any:
        """One prediction step on a batch.  Returns the outputs."""
        x, _, _ = feed.unpack_x_y_sample_weight(data)
        return self._programs.predict(x)

    def _answers(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        """`call` from outside of any layer, where no gradient is wanted: by a program, if there is one."""
        plain = len(args) == 1 and kwargs.keys() <= {"training"} and type(args[0]) is Tensor
        contents = self._contents()
        more = contents.tells_more or (context.training is None and contents.trains_unasked)
        if not plain or args[0]._keras_mask is not None or context.predicting or more:
            return self.call(*args, **kwargs)  # type: ignore[attr-defined]
        return self._programs.predict(args[0].data, lambda x: self.call(Tensor(x), **kwargs))  # type: ignore[attr-defined]

    def _trainable_now(self) -> list[Variable]:
        """The trainable variables, those that a property of the user's names where there is one."""
        return self._contents().trainable if _is_walked(type(self)) else self.trainable_variables

    def _try_out(self, streams: tuple, validation: Any, callbacks: CallbackList | None, *first: Any) -> None:
        """Let everything that only comes later in a fit fail now, before the first update: metrics, validation, files.

        Args:
            streams: whose labels are held against the predictions, where these have not been known before.
            validation: the first batch of the validation data, or None.
            callbacks: those of the fit, or None.
            first: x, y, predictions and sample weights of the first batch.
        """
        x, y, y_pred, sample_weight = first
        for stream in streams:
            self._check_stream(stream, y_pred)
        if streams or k.active_device() == "gpu":  # whose kernels refuse no labels
            for labels in (y, None if validation is None else feed.unpack_x_y_sample_weight(validation)[1]):
                on_host = tree.map_structure(lambda leaf: None if leaf is None else k.to_host(leaf), labels)
                self._check_labels(on_host, classes=True, outputs=y_pred)
        shapes = _shapes("fit", x, y, sample_weight, validation)
        names = self._contents().proven.get(shapes)
        if names is None:
            with Trial(self), recording(False):
                names = set(dict(self.compute_metrics(x, y, y_pred, sample_weight)))
                if validation is not None:
                    names |= {f"val_{name}" for name in dict(self._builtin_test_step(validation))}
            self._prove(shapes, names)
        if callbacks is not None and self._has_builtin_test_step():
            callbacks.check_log_names(names)

    def _trial_needs_layers(self) -> bool:
        """Whether what is tried before the first update needs a step by the layers.

        Where only the step itself is tried, nothing is: of a kind that has become a program it works.
        """
        if self._trial is None:
            return False
        streams, validation, callbacks = self._trial.args
        monitors = callbacks is not None and any(hasattr(one, "monitor") for one in callbacks.callbacks)
        if streams or validation is not None or monitors:
            return True
        self._trial = None
        return False

    def _prove(self, shapes: tuple, names: Any = ()) -> None:
        """Remember that a step on data of these shapes works, so that it need not be guarded again."""
        proven = self._contents().proven
        if len(proven) >= 64:
            proven.clear()
        proven[shapes] = set(names)

    def _test_batch(self, data: tuple) -> dict[str, Any]:
        """The loss and metrics of one batch; where that fails on data of new shapes the model stays as it was."""
        shapes = _shapes("test", *data)
        proven = shapes in self._contents().proven
        with _NOTHING if proven else Snapshot(self):
            self.reset_metrics()
            with self._arenas["test", get_ident()], recording(False):
                floats = to_floats(checked_logs(self._programs.test_step(step_data(data)), "test_step"))
        if not proven:
            self._prove(shapes)
        return floats

    def _predict_batch(self, x: Any) -> Any:
        """The outputs for the arrays of one batch, as NumPy arrays of their own."""
        if is_recording():
            with recording(False):
                return self._predict_batch(x)
        built_in = getattr(self.predict_step, "__func__", None) is Trainer.predict_step
        if built_in and (answer := self._programs.answer(x)) is not None:
            return answer
        with self._arenas["predict", get_ident()]:
            if built_in:
                outputs = self._programs.predict(x)
            else:
                outputs = self.predict_step(step_data((x, None, None)))
            if type(outputs) is Tensor:
                return np.array(k.to_host(outputs.data))
            return tree.map_structure(_copied, outputs)

    def _finalize_weights(self) -> None:
        """Let the optimizer say what the weights are in the end."""
        if hasattr(self.optimizer, "finalize_variable_values"):
            with at_once():
                self.optimizer.finalize_variable_values(self._trainable_now())

    def _as_validation(self, values: dict[str, Any]) -> dict[str, Any]:
        return {f"val_{name}": value for name, value in sorted(values.items())}

    def _callback_list(
        self, callbacks: Any, verbose: Any, stream: Any, epochs: int = 1, add_history: bool = False
    ) -> CallbackList:
        """The callbacks of a run, the progress bar among them; a list made by the caller is itself."""
        if isinstance(callbacks, CallbackList):
            return callbacks
        params = {"verbose": verbose, "epochs": epochs, "steps": stream.steps}
        return CallbackList(callbacks, add_history=add_history, add_progbar=verbose != 0, model=self, **params)

    # ------------------------------------------------------------ fit

    @user_facing
    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: Any = True,
        class_weight: Any = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: Any = 1,
        *,
        resume: Any = None,
        **kwargs: Any,
    ) -> History:
        """Train for a number of epochs; after `compile` with a list of optimizers or losses with each of them.

        Args:
            x, y: arrays, lists or dicts of arrays (also tensors and tables of other libraries), or in `x` a generator,
                `PyDataset`, `Dataset` or other iterable of batches `(x, y)` or `(x, y, sample_weight)`.
            batch_size: default 32.
            epochs: number of the last epoch.
            verbose: 0 silent, 1 progress bar, 2 one line per epoch; "auto" is 1.
            callbacks: list of `Callback`s.
            validation_split: fraction of the arrays, taken from the end, to validate on.
            validation_data: `(x, y)` or `(x, y, sample_weight)` or a stream of batches, to validate on.
            shuffle: a new order each epoch; "batch" shuffles within batches.
            class_weight: weight of each class in the loss, by its number.
            sample_weight: weight of each sample in the loss.
            initial_epoch: epochs already done.
            steps_per_epoch: batches per epoch, needed for an endless generator.
            validation_steps, validation_batch_size, validation_freq: the same for validation.
            resume: a folder where training is saved while it goes on.  The same program started again after a kill
                goes on from there and ends as if nothing had happened, bit for bit.  After the end the files stay:
                once more, `fit` returns at once with the whole history, and with more `epochs` it trains these.
            workers, use_multiprocessing, max_queue_size: how batches are prepared ahead of their use, see `PyDataset`;
                `workers=0` has each made when it is needed, in the calling thread.

        Returns:
            History: `history.history` holds the values of each epoch by name.

        Raises:
            ValueError: for data that does not fit, and with `resume` for data that cannot be read again and for a
                checkpoint of another training; the model is unchanged.
        """
        epochs = kwargs.pop("nb_epoch", epochs)
        preparation = _preparation("fit", kwargs)
        self._require_compiled("fit")
        epochs, initial_epoch = _allowed(whole("epochs", epochs, 0)), whole("initial_epoch", initial_epoch, 0)
        batch_size = whole("batch_size", batch_size, 1, optional=True)
        validation_batch_size = whole("validation_batch_size", validation_batch_size, 1, optional=True)
        steps_per_epoch = whole("steps_per_epoch", steps_per_epoch, 1, optional=True, floats=True)
        validation_steps = whole("validation_steps", validation_steps, 1, optional=True, floats=True)
        validation_freq, verbose = _frequency(validation_freq), _verbosity(verbose)
        validation_split = number("validation_split", validation_split, low=0, below=1, optional=True)
        shuffle = _shuffling(shuffle)
        resume = None if resume is None else path_of(self, "resume", resume)
        if validation_split and validation_data is None:
            if feed.is_batch_source(x):
                raise ValueError("validation_split works on arrays, got batches; pass validation_data instead.")
            arrays = feed.to_arrays(x, "x"), feed.to_arrays(y, "y"), feed.to_arrays(sample_weight, "sample_weight")
            (x, y, sample_weight), validation_data = feed.split_validation(arrays, validation_split)
        known = None if class_weight is None else self._classes()
        order = batch_size, steps_per_epoch, shuffle
        stream = feed.make_stream(x, y, sample_weight, *order, class_weight, known, **preparation)
        self._check_stream(stream)
        chosen = validation_batch_size or batch_size, validation_steps
        validation = self._validation_stream(validation_data, *chosen, preparation)
        self._kept = Snapshot(self)
        self._loss_explained = False
        self._observers = ()
        logs: dict[str, Any] = {}
        arena = self._arenas["train", get_ident()]
        progress = None
        try:
            first = None
            if validation is not None and validation_data is not x:
                first = validation.first_batch()
                if first is None:
                    raise ValueError("The validation data ended before its first batch; pass data that yields one.")
                self._check_labels(first[1], classes=True)
            callbacks = self._callback_list(callbacks, verbose, stream, epochs, add_history=True)
            callbacks.check_before_training()
            if resume is not None or any(hasattr(one, "backup_dir") for one in callbacks.callbacks):
                settings = {"epochs": epochs, "initial_epoch": initial_epoch, "shuffle": shuffle}
                progress = resuming.Progress(self, resume, callbacks, stream, validation, **settings)
            self._plan_trial(stream, validation, first, callbacks)
            self.stop_training = False
            callbacks.on_train_begin()
            self._programs.begin()
            start = initial_epoch if progress is None else progress.begin(arena)
            for epoch in range(start, epochs):
                if progress is None or not progress.done:
                    self.reset_metrics()
                    callbacks.on_epoch_begin(epoch)
                logs = self._train_epoch(stream, callbacks, arena, epoch, progress)
                if validation is not None and _validates(epoch, validation_freq):
                    logs.update(self._as_validation(self._evaluate(validation, callbacks)))
                callbacks.on_epoch_end(epoch, logs)
                if progress is not None:
                    progress.end_epoch(epoch, logs)
                if self.stop_training or (epoch + 1 < epochs and _ended(stream, epoch + 1)):
                    break
            if progress is not None:
                logs = progress.complete()
            if epochs > initial_epoch:
                self._finalize_weights()
            callbacks.on_train_end(logs)
            if progress is not None:
                progress.finish()
        except Exception:
            if self._kept is not None:
                self._kept.restore()
            raise
        finally:
            self._kept = self._trial = None
            if progress is not None:
                progress.close()
            stream.close()
            if validation is not None:
                validation.close()
            arena.clear()
            self._arenas["test", get_ident()].clear()
            self._programs.end()
        return self.history

    def _plan_trial(self, stream: Any, validation: Any, first: Any, callbacks: CallbackList | None) -> None:
        """Have `first`, the first batch of the validation data, tried before the first update.

        That needs a step that is not the user's own.
        """
        batch = step_data(first) if first is not None and self._has_builtin_test_step() else None
        if self._has_builtin_train_step():
            unchecked = (stream, validation) if self._graph is None else ()
            self._trial = functools.partial(self._try_out, unchecked, batch, callbacks)
        elif batch is not None and all(layer.built for layer in self._contents().layers):
            with Trial(self), recording(False):
                self._builtin_test_step(batch)

    def _classes(self) -> Collection[int] | None:
        """The classes that the outputs tell apart, where a single output with a known size says so."""
        outputs = tree.flatten(self._graph.outputs) if self._graph is not None else []
        size = outputs[0].shape[-1] if len(outputs) == 1 and len(outputs[0].shape) > 1 else None
        if size == 1:
            return (-1, 0, 1)  # labels of a hinge are -1 and 1
        return None if size is None else range(size)

    def _for_each_model(self, act: Callable[[Any], Any]) -> None:
        """Call a function with the model that is trained."""
        act(self)

    def _train_epoch(
        self, stream: Any, callbacks: Any, arena: k.Arena, epoch: int, progress: Any = None
    ) -> dict[str, Any]:
        """One pass over the stream, or the rest of it that `progress` has left; returns its logs."""
        done, logs = (0, {}) if progress is None else progress.enter_epoch()
        step, self._batch = done - 1, None

        def make(data: Any) -> Any:
            batch = step_data(data)
            for observe in self._observers:
                observe(batch)
            made = self._programs.train_step(batch)
            if self._kept is not None:
                checked_logs(made, "train_step")
                self._kept = None
            return made

        limit = None if progress is None else progress.left
        with arena:
            for made, logs in self._executions("train", stream, stream.training_epoch(), callbacks, make, done, limit):
                step += made
                if self.stop_training:
                    break
                if progress is not None and progress.is_due(made):
                    progress.save(epoch, step + 1, logs)
        if step < 0:
            raise ValueError("The data ended before the first batch; pass what yields batches in every epoch.")
        if not self.stop_training and _is_short(stream, step + 1, "steps_per_epoch * epochs"):
            self.stop_training = stream.ended
        stream.on_epoch_end()
        floats = to_floats(checked_logs(logs, "train_step"))
        self._explain_loss(floats, "The loss", stream.arrays, self._batch)
        return floats

    def _executions(
        self, phase: str, stream: Any, batches: Any, callbacks: Any, make: Callable[[Any], Any], done: int = 0,
        limit: Callable[[], int | None] | None = None, collect: Callable | None = None,
    ) -> Iterator[tuple[int, Any]]:  # fmt: skip
        """Make the steps of a pass: how many each execution made, one after the other, with the logs of the last.

        Between the callbacks' batch hooks are `steps_per_execution` steps; where nobody has to know of each batch, as
        many as a program makes in one call.

        Args:
            phase: "train", "test" or "predict".
            batches: of the stream.
            make: makes a step by the layers, of a batch of the stream.
            done: the number of the first batch.
            limit: how many steps an execution has at most, if that is limited.
            collect: takes what is predicted.
        """
        begin, end = (getattr(callbacks, f"on_{phase}_batch_{moment}") for moment in ("begin", "end"))
        wanted = self.steps_per_execution
        several = (
            isinstance(batches, feed.Pass) and not self._observers and (wanted > 1 or not (begin.each or end.each))
        )
        while not several or batches.at < batches.end:
            left = None if limit is None else limit()
            most = min(wanted, left or wanted) if wanted > 1 or not several else left
            if several and begin.listeners:
                begin(done)
            made, logs = 0, None
            outputs = _Collector(None) if collect is not None and wanted > 1 and end.listeners else None
            while not made or (wanted > 1 and made < wanted):
                given = phase, batches, stream.arrays, None if most is None else max(most - made, 1)
                count, found = self._programs.many(*given) if several else (0, None)
                if not count:
                    data = next(batches, None)
                    if data is None:
                        break
                    if not (made or several) and begin.listeners:
                        begin(done)
                    if stream.arrays is None and phase != "predict":
                        self._check_batch(data)
                    self._batch, count, found = data, 1, make(data)
                made, logs = made + count, found
                if collect is not None:
                    collect(found)
                if outputs is not None:
                    outputs.add(found)
            if not made:
                return
            done += made
            if end.listeners:
                told = logs if outputs is None else outputs.result()
                end(done - 1, {"outputs": told} if phase == "predict" else Later(logs))
            yield made, logs

    def _explain_loss(self, logs: dict[str, Any], name: str, arrays: Any, batch: Any) -> None:
        """Tell the reason where a loss is not finite, once in a run; `arrays` are all of the data, if known."""
        loss = logs.get("loss")
        if not (is_finite(loss) or self._loss_explained):
            self._loss_explained = True
            nonfinite.explain(self, loss, name, arrays, step_data(batch if batch is not None else _first_of(arrays)))

    def _check_stream(self, stream: Any, outputs: Any = None) -> None:
        """Refuse labels that are none before anything is trained on them."""
        if stream is not None and stream.arrays is not None:
            self._check_labels(stream.arrays[1], classes=True, outputs=outputs)

    def _check_batch(self, data: Any) -> None:
        """Refuse labels of a stream whose batches come one by one."""
        self._check_labels(data[1], classes=True)

    def _check_labels(self, y: Any, classes: bool, outputs: Any = None) -> None:
        """Refuse labels that are not finite and, where `classes` is set, those that name no class of the outputs.

        The CPU's kernels refuse the latter themselves, batch by batch.
        """
        if not self._check_label_values:
            return
        for leaf in (y,) if type(y) is np.ndarray else tree.flatten(y):
            if isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
                where = int(np.argwhere(~np.isfinite(leaf))[0][0])
                raise ValueError(f"The labels must be finite numbers, got {leaf[where]} in sample {where}; clean them.")
        if not classes or y is None or self._compiled_loss is None or not self._compiled_loss.takes_classes:
            return
        if not (self._has_builtin_train_step() and self._has_builtin_test_step()):
            return  # steps of the user's own may do otherwise with y
        if outputs is None and self._graph is not None:
            outputs = self.output  # type: ignore[attr-defined]
        self._compiled_loss.check_labels(y, outputs)

    def _validation_stream(self, data: Any, batch_size: Any, steps: Any, preparation: dict[str, Any]) -> Any:
        if data is None:
            return None
        if feed.is_batch_source(data):
            return feed.make_stream(data, steps=steps, **preparation)
        x, y, sample_weight = feed.unpack_x_y_sample_weight(data)
        stream = feed.make_stream(x, y, sample_weight, batch_size, steps)
        self._check_stream(stream)
        return stream

    # ------------------------------------------------------------ evaluate and predict

    @user_facing
    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        **kwargs: Any,
    ) -> Any:
        """The loss and metrics over a dataset.

        Args:
            x, y, batch_size, verbose, sample_weight, callbacks: as for `fit`.
            steps: batches to evaluate, default all.
            return_dict: a dict by name instead of a list.

        Returns:
            The loss, or a list of loss and metrics in the order of `metrics`, or the dict.
        """
        preparation = _preparation("evaluate", kwargs)
        self._require_compiled("evaluate")
        steps, verbose = whole("steps", steps, 1, optional=True, floats=True), _verbosity(verbose)
        if verbose == 0 and callbacks is None and steps is None and feed.only_batch(x, batch_size) is not None:
            data = self._one_batch(x, y, sample_weight, None)
            self._loss_explained = False
            logs = self._test_batch(data)
            self._explain_loss(logs, "The loss", data, data)
        else:
            stream = feed.make_stream(x, y, sample_weight, batch_size, steps, **preparation)
            self._check_stream(stream)
            shapes = None if stream.arrays is None else _shapes("test", *stream.first_batch())
            proven = shapes is not None and shapes in self._contents().proven
            try:
                with _NOTHING if proven else Snapshot(self):
                    callbacks = self._callback_list(callbacks, verbose, stream)
                    self._loss_explained = False
                    logs = self._evaluate(stream, callbacks, name="The loss")
                if shapes is not None:
                    self._prove(shapes)
            finally:
                stream.close()
        self._arenas["test", get_ident()].clear()
        self._programs.end()
        return logs if return_dict else self._in_order(logs)

    def _evaluate(self, stream: Any, callbacks: Any, name: str = "The validation loss") -> dict[str, Any]:
        self.stop_evaluating = False
        self.reset_metrics()
        callbacks.on_test_begin()
        logs: Any = {}
        step = -1
        self._batch = None
        self._programs.begin()

        def make(data: Any) -> Any:
            return self._programs.test_step(step_data(data))

        with self._arenas["test", get_ident()], recording(False):
            for made, logs in self._executions("test", stream, stream.epoch(), callbacks, make):  # noqa: B007
                step += made
                if self.stop_evaluating:
                    break
        if step < 0:
            raise ValueError("The data ended before the first batch; pass data that yields at least one.")
        if not self.stop_evaluating:
            _is_short(stream, step + 1, "that many")
        stream.on_epoch_end()
        floats = to_floats(checked_logs(logs, "test_step"))
        self._explain_loss(floats, name, stream.arrays, self._batch)
        callbacks.on_test_end(floats)
        return floats

    @user_facing
    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        callbacks: Any = None,
        **kwargs: Any,
    ) -> Any:
        """The outputs for a dataset, as NumPy arrays in the structure of the model's outputs.

        Args:
            x, batch_size, verbose, steps, callbacks: as for `evaluate`.
        """
        preparation = _preparation("predict", kwargs) if kwargs else {}
        if callbacks is None and steps is None and type(verbose) is int and verbose == 0:
            batch = feed.only_batch(x, batch_size)
            if batch is not None:  # nobody to tell of batches, and no further one to prepare
                return self._predict_batch(batch)
        steps, verbose = whole("steps", steps, 1, optional=True, floats=True), _verbosity(verbose)
        stream = feed.make_stream(x, None, None, batch_size, steps, **preparation)
        callbacks = self._callback_list(callbacks, verbose, stream)
        self.stop_predicting = False
        callbacks.on_predict_begin()
        collected = _Collector(stream.samples if steps is None else None)
        step = -1
        try:
            self._programs.begin()

            def make(data: Any) -> Any:
                return self.predict_step(step_data(data))

            steps_made = self._executions("predict", stream, stream.epoch(), callbacks, make, collect=collected.add)
            with self._arenas["predict", get_ident()], recording(False):
                for made, _ in steps_made:
                    step += made
                    if self.stop_predicting:
                        break
            if not self.stop_predicting:
                _is_short(stream, step + 1, "that many")
            stream.on_epoch_end()
        finally:
            stream.close()
        callbacks.on_predict_end()
        self._programs.end()
        return collected.result()

    @user_facing
    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """One training step on one batch; returns its loss and metrics as `evaluate` does."""
        self._require_compiled("train_on_batch")
        data = self._one_batch(x, y, sample_weight, class_weight)
        shapes = _shapes("train", *data)
        first = shapes not in self._contents().proven
        waiting = self._kept is not None  # whether a `fit` has its first step still to come
        with Snapshot(self) if first else _NOTHING:
            if first and self._has_builtin_train_step():
                self._trial = functools.partial(self._try_out, (), None, None)
            self.reset_metrics()
            with self._arenas["train", get_ident()]:
                batch = step_data(data)
                for observe in self._observers:
                    observe(batch)
                floats = to_floats(checked_logs(self._programs.train_step(batch), "train_step"))
        if first:
            self._prove(_shapes("train", *data))  # of the structure that it may have been given now
        if waiting:
            self._kept = Snapshot(self)
        return floats if return_dict else self._in_order(floats)

    @user_facing
    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """The loss and metrics of one batch; the weights stay."""
        self._require_compiled("test_on_batch")
        floats = self._test_batch(self._one_batch(x, y, sample_weight, None))
        return floats if return_dict else self._in_order(floats)

    def predict_on_batch(self, x: Any) -> Any:
        """The outputs for one batch, as NumPy arrays."""
        try:
            return self._predict_batch(feed.to_arrays(x, "x"))
        except BaseException as error:
            end_at_users_line(error)
            raise

    def _one_batch(self, x: Any, y: Any, sample_weight: Any, class_weight: Any) -> tuple[Any, Any, Any]:
        if x is None:
            raise ValueError("x is missing, got None; pass the batch's arrays.")
        classes = None if class_weight is None else self._classes()
        x, y, sample_weight = feed.as_batch(x, y, sample_weight, class_weight, classes)
        feed.check_lengths(x, y, sample_weight)
        self._check_labels(y, classes=True)
        return x, y, sample_weight

    def _in_order(self, logs: dict[str, Any]) -> Any:
        """The metrics' values in their order, then the other values by name, as in Keras; a single value alone.

        Where a model has several outputs their metrics are logged as `output_metric`, which makes them other values.
        """
        values, rest = [], dict(logs)
        for metric in self.metrics:
            for part in getattr(metric, "metrics", (metric,)):
                if part.name in rest:
                    values.append(rest.pop(part.name))
        values.extend(map(rest.__getitem__, sorted(rest)))
        return values[0] if len(values) == 1 else values

    # Keras 2 names

    @user_facing
    def fit_generator(
        self, generator: Any, steps_per_epoch: int | None = None, epochs: int = 1, **kwargs: Any
    ) -> History:
        """`fit` under its Keras 2 name for generators."""
        return self.fit(generator, steps_per_epoch=steps_per_epoch, epochs=epochs, wraps=True, **kwargs)

    @user_facing
    def evaluate_generator(self, generator: Any, steps: int | None = None, **kwargs: Any) -> Any:
        """`evaluate` under its Keras 2 name for generators."""
        return self.evaluate(generator, steps=steps, wraps=True, **kwargs)

    @user_facing
    def predict_generator(self, generator: Any, steps: int | None = None, **kwargs: Any) -> Any:
        """`predict` under its Keras 2 name for generators."""
        return self.predict(generator, steps=steps, wraps=True, **kwargs)

    @user_facing
    def predict_proba(self, x: Any, batch_size: int | None = None, verbose: Any = 0) -> Any:
        """`predict` under its Keras 2 name for classifiers."""
        return self.predict(x, batch_size=batch_size, verbose=verbose)

    @user_facing
    def predict_classes(self, x: Any, batch_size: int | None = None, verbose: Any = 0) -> Any:
        """The most likely class of each sample; for a single output unit whether it is above 0.5, as 0 or 1."""
        scores = self.predict(x, batch_size=batch_size, verbose=verbose)
        return scores.argmax(axis=-1) if scores.shape[-1] > 1 else (scores > 0.5).astype("int32")

    def program(self, kind: str = "train") -> Report:
        """What steps have become: the kernels of the recorded step and their times, or why there is none.

        See `docs/programs.md`.

        Args:
            kind: "train", "test" or "predict".

        >>> import numpy as np
        >>> import minikeras as keras
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse", run_eagerly=True)
        >>> model.program()
        <train step: made by the layers, no train step has been made on numbers>
        """
        return self._programs.report(one_of("kind", kind, ("train", "test", "predict")))

    def reset_states(self) -> None:
        """Forget the states of stateful recurrent layers, here and below."""
        for layer in self._contents().layers[1:]:
            if hasattr(layer, "reset_states"):
                layer.reset_states()


class _Arenas(dict):
    """Buffers by the kind of step and the thread that makes it."""

    def __missing__(self, key: tuple[str, int]) -> k.Arena:
        if len(self) >= 64:  # threads that have ended leave theirs behind
            self.clear()
        arena = self[key] = k.Arena()
        return arena


class _Collector:
    """Copies the batches' outputs into one array per output."""

    def __init__(self, samples: int | None):
        self._samples = samples
        self._structure: Any = None
        self._arrays: list[np.ndarray] = []
        self._parts: list[list[np.ndarray]] = []
        self._filled = 0

    def add(self, outputs: Any) -> None:
        flat = [k.to_host(_data(leaf)) for leaf in tree.flatten(outputs)]
        if not all(part.ndim for part in flat):
            raise ValueError(
                "The outputs of the batches are joined along their first axis, got an output of shape (); give it one, "
                "or call predict_on_batch."
            )
        if self._structure is None:
            self._structure = outputs
            self._parts = [[] for _ in flat]
            if self._samples is not None:
                self._arrays = [np.empty((self._samples, *part.shape[1:]), part.dtype) for part in flat]
        size = len(flat[0])
        stop = self._filled + size
        pairs = list(zip(flat, self._arrays, strict=True)) if self._arrays else []
        if pairs and all(part.shape == (size, *array.shape[1:]) and stop <= len(array) for part, array in pairs):
            for part, array in pairs:
                array[self._filled : stop] = part
            self._filled = stop
            return
        if self._arrays:  # the outputs are not one row per sample: keep them as they come
            self._parts = [[array[: self._filled]] for array in self._arrays]
            self._arrays = []
        for part, parts in zip(flat, self._parts, strict=True):
            parts.append(np.array(part))

    def result(self) -> Any:
        if self._structure is None:
            raise ValueError("The data ended before the first batch; pass data that yields at least one.")
        if self._arrays:
            return tree.pack_sequence_as(self._structure, [array[: self._filled] for array in self._arrays])
        return tree.pack_sequence_as(self._structure, [np.concatenate(parts) for parts in self._parts])


# whether the walk through models of a class says what is trained, and no property of the user's
_is_walked: Callable[[Any], bool] = functools.cache(
    lambda cls: (cls.trainable_variables, cls.trainable_weights) == (Layer.trainable_variables, Layer.trainable_weights)
)


def _as_scalar(loss: Any) -> Any:
    """An added loss of any shape and type as one number: the sum, as in Keras 3."""
    tensor = ops.convert_to_tensor(loss)
    return ops.sum(tensor if tensor.data.dtype.char in FLOATS else ops.cast(tensor, floatx()))


_NOTHING = nullcontext()


def _first_of(arrays: tuple) -> tuple:
    """A few samples of all data."""
    return tuple([None if part is None else tree.map_structure(lambda leaf: leaf[:32], part) for part in arrays])


def _data(leaf: Any) -> Any:
    return leaf.data if isinstance(leaf, Tensor) else leaf


def _copied(leaf: Any) -> np.ndarray:
    return np.array(k.to_host(_data(leaf)))


def _preparation(method: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """What further arguments of a method say about how batches are prepared ahead, also by the names of Keras 1."""
    if not arguments:
        return {}
    names = {name: name for name in ("workers", "use_multiprocessing", "max_queue_size", "wraps")}
    names |= {"nb_worker": "workers", "pickle_safe": "use_multiprocessing", "max_q_size": "max_queue_size"}
    if arguments.keys() - names:
        raise ValueError(f"{method} got unknown arguments {sorted(arguments.keys() - names)}; check their spelling.")
    return {name: arguments[given] for given, name in names.items() if given in arguments}


def _allowed(epochs: int) -> int:
    """As many epochs as `config.max_epochs` allows."""
    limit = max_epochs()
    if limit is None or epochs <= limit:
        return epochs
    warn(f"Training is limited to {limit} of {epochs} epochs; config.set_max_epochs(None) removes the limit.")
    return limit


def _ended(stream: Any, epoch: int) -> bool:
    """Whether the data of a generator is used up although there are epochs to come; the user is told."""
    if isinstance(stream, feed.ArrayStream) or not stream.ended:
        return False
    problem = f"Your input ran out of data after epoch {epoch}, so training stops here"
    warn(f"{problem}; make sure that it yields batches for all epochs, or pass a dataset that can begin anew.")
    return True


def _anew(value: Any) -> Any:
    """A new optimizer or metric like this one, without its state; anything else as it is."""
    if isinstance(value, optimizers_room.Optimizer):
        schedule = getattr(value, "_learning_rate", None)
        given = {"learning_rate": schedule} if isinstance(schedule, LearningRateSchedule) else {}
        return type(value).from_config({**value.get_config(), **given})
    if isinstance(value, Metric):
        value = copy.deepcopy(value)
        value.reset_state()
    return value


def _shapes(purpose: str, *parts: Any) -> tuple:
    """What a step's success depends on besides the model and values: the shapes and types of its data."""
    leaves = parts if _PLAIN.issuperset(map(type, parts)) else tree.flatten(parts)
    return (purpose, *[None if leaf is None else (leaf.shape, leaf.dtype) for leaf in leaves])


_PLAIN = frozenset({np.ndarray, type(None)})


def _is_short(stream: Any, batches: int, enough: str) -> bool:
    """Whether an epoch ended before its number of batches; the user is told."""
    if stream.steps is None or batches >= stream.steps:
        return False
    warn(
        f"Your input ran out of data: it ended after {batches} of {stream.steps} batches, so "
        f"{'training' if stream.ended else 'this epoch'} stops here; make sure that it yields {enough} batches."
    )
    return True


def _verbosity(verbose: Any) -> int:
    if type(verbose) is int and 0 <= verbose <= 2:
        return verbose
    chosen = one_of("verbose", verbose, ("auto", 0, 1, 2, True, False))
    return 1 if chosen == "auto" else int(chosen)


def _switch(name: str, value: Any, *others: str) -> bool:
    """Whether something is asked for by name; None and the other choices leave it to the model, which is no."""
    value = bool(value) if isinstance(value, np.bool_) else value
    return one_of(name, value, (True, False, None, *others)) is True


def _shuffling(shuffle: Any) -> Any:
    """Whether to shuffle, or `"batch"`."""
    if shuffle is None or isinstance(shuffle, (int, np.integer, np.bool_)):
        return bool(shuffle)
    return one_of("shuffle", shuffle, (True, False, "batch"))


def _frequency(frequency: Any) -> Any:
    """After how many epochs to validate, or after which."""
    if isinstance(frequency, (list, tuple, set, frozenset, range)):
        return frozenset(whole("An epoch in validation_freq", epoch, 1) for epoch in frequency)
    return whole("validation_freq", frequency, 1)


def _validates(epoch: int, frequency: Any) -> bool:
    if isinstance(frequency, int):
        return (epoch + 1) % frequency == 0
    return epoch + 1 in frequency


def _is_builtin_loss(spec: Any) -> bool:
    return isinstance(spec, str) or (isinstance(spec, Loss) and is_builtin(type(spec)))
