"""What all families share: arguments and their checks, the input, the classifier, weights, documentation."""

from __future__ import annotations

import inspect
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

from minikeras import activations, config, layers
from minikeras.applications import imagenet_utils
from minikeras.applications.blocks import channel_axis
from minikeras.applications.imagenet_utils import fetch, obtain_input_shape
from minikeras.applications.sums import SUMS
from minikeras.autodiff.symbolic import KerasTensor
from minikeras.models.model import Model
from minikeras.tracebacks import user_facing
from minikeras.utils.checks import flag, number, one_of, shown, whole
from minikeras.utils.layer_utils import get_source_inputs

COMMON = "include_top weights input_tensor input_shape pooling classes classifier_activation name"
_DEFAULTS = {
    **{"include_top": True, "weights": "imagenet", "classes": 1000, "classifier_activation": "softmax", "alpha": 1.0},
    **{"depth_multiplier": 1, "dropout": 0.001, "minimalistic": False, "dropout_rate": 0.2},
    **{"include_preprocessing": True},
}


def submodule(name: str, mode: str) -> Any:
    """The module `applications.NAME`, made where it is missing, with functions for pictures in that mode."""
    whole = f"{__package__}.{name}"

    def preprocess_input(x: Any, data_format: str | None = None) -> Any:
        """Pictures with values from 0 to 255 as the networks of this module expect them.

        Args:
            x, data_format: as for `imagenet_utils.preprocess_input`.

        Returns:
            Pictures of floating type; `x` itself for networks that scale it themselves.

        >>> import numpy as np
        >>> from minikeras import applications
        >>> applications.vgg16.preprocess_input(np.zeros((1, 2, 2, 3))).shape
        (1, 2, 2, 3)
        """
        return imagenet_utils.preprocess_input(x, data_format, mode) if mode else x

    if whole not in sys.modules:
        made: Any = ModuleType(whole, f"Networks of `applications`: {name}.")
        made.preprocess_input, made.decode_predictions = preprocess_input, imagenet_utils.decode_predictions
        preprocess_input.__module__, sys.modules[whole] = whole, made
        setattr(sys.modules[__package__], name, made)
    return sys.modules[whole]


def predictions(x: Any, a: Any, **options: Any) -> Any:
    """The probabilities of the classes."""
    return layers.Dense(a.classes, activation=a.classifier_activation, name="predictions", **options)(x)


def classified(x: Any, a: Any) -> Any:
    """The mean over all places, and the probabilities of the classes."""
    return predictions(layers.GlobalAveragePooling2D(name=a.family.top_pool)(x), a)


def pooled(x: Any, a: Any) -> Any:
    """The features of a network without a classifier, pooled as was asked for."""
    make = {"avg": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}
    return make[a.pooling](name=f"{a.pooling}_pool" if a.family.pools_named else None)(x) if a.pooling else x


@dataclass(frozen=True)
class Family:
    """Networks built alike: `family(TITLE=values, ...)` gives the functions that make them.

    Args:
        paper: where they were described.
        body: the network without its end, from the input and the arguments.
        module: the submodule that holds these networks.
        mode: of its `preprocess_input`; empty where the networks scale pixels themselves.
        fields: what the values of each network are called; `size` is its usual height and width.
        stem: what in a title becomes what in the name of its weights, in small letters.
        name: of a model; {stem}, {title} and arguments stand for their values.
        file: of the weights; {end} is empty or `no_top`.
        remote, folder: what that file is called in Keras's store, and where it is.
        arguments: names, in Keras's order.
        size, least: usual and least height and width of pictures.
        sizes: those for which there are weights, where there are several.
        alphas: those for which there are weights.
        top, bottom: the classifier, and what stands in its place.
        top_pool, pools_named: names of pooling layers.
        channels_first: whether the channels may come first.
        follows_tensor: whether the shape of `input_tensor` is looked at.
        open_top: whether sizes may be open with the classifier too.
        closed: whether sizes must be known without it too.
    """

    paper: str
    body: Callable[[Any, Any], Any]
    module: str
    mode: str
    fields: str = ""
    stem: tuple[str, str] = ("", "")
    name: str = "{stem}"
    file: str = "{stem}_weights_tf_dim_ordering_tf_kernels{end}.h5"
    no_top: str = "_notop"
    remote: Callable[[str], str] = str
    folder: str = ""
    arguments: str = COMMON
    size: int = 224
    least: int = 32
    sizes: tuple[int, ...] = ()
    alphas: tuple[float, ...] = ()
    top: Callable[[Any, Any], Any] = classified
    bottom: Callable[[Any, Any], Any] = pooled
    top_pool: str | None = "avg_pool"
    pools_named: bool = False
    channels_first: bool = True
    follows_tensor: bool = False
    open_top: bool = False
    closed: bool = False

    def __call__(self, **networks: Any) -> tuple[Callable[..., Model], ...]:
        """The functions that make the networks with these titles and values."""
        return tuple(self._function(title, values) for title, values in networks.items())

    def _function(self, title: str, values: Any) -> Callable[..., Model]:
        names, stem = self.arguments.split(), title.replace(*self.stem).lower()
        always = {**_DEFAULTS, "family": self, "title": title, "stem": stem, "part": "", "size": self.size}
        always |= dict(zip(self.fields.split(), values, strict=True))
        defaults = {name: _DEFAULTS.get(name) for name in names}
        defaults["name"] = None if "{rows}" in self.name else self.name.format(**always)
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [inspect.Parameter(name, kind, default=value) for name, value in defaults.items()]
        signature = inspect.Signature(parameters, return_annotation=Model)

        def make(*args: Any, **kwargs: Any) -> Model:
            """{title} ({paper}).

            Args:
                include_top: whether the classifier of ImageNet is at the end; default True.
                weights: `"imagenet"` (the default: from `~/.keras/models`, or downloaded and checked), None for random
                    ones, or the path of a `.weights.h5`, `.keras` or `.h5` file.
                input_tensor: a symbolic tensor to take as the input.
                input_shape: shape of a picture, at least {least} x {least}; default ({size}, {size}, 3), with open
                    sizes where there is no classifier.
                pooling: without a classifier: None for a map of features, `"avg"` or `"max"` for its mean or maximum.
                classes: number of classes; default 1000.
                classifier_activation: default `"softmax"`; None for logits.
                name: of the model.
                alpha, depth_multiplier: where they are taken: factors of the filters, and of the depthwise ones.
                dropout, dropout_rate: where they are taken: the part of the last features dropped in training.
                minimalistic: where it is taken: whether to do without attention, hard swish and 5 x 5 kernels.
                include_preprocessing: where it is taken: whether the model scales pixels from 0 to 255 itself.

            Returns:
                A functional model.

            Raises:
                ValueError: for arguments that contradict each other or the weights, before anything is built.
                OSError: where weights are neither in the cache nor can be downloaded.

            Example:

            >>> from minikeras import applications
            >>> model = applications.{title}(weights=None)  # doctest: +SKIP
            >>> model.output_shape  # doctest: +SKIP
            (None, 1000)
            """
            given = signature.bind(*args, **kwargs).arguments
            return _build(SimpleNamespace(**{**always, **defaults, **given}))

        make.__name__ = make.__qualname__ = title
        make.__module__ = __package__
        make.__doc__ = (make.__doc__ or "").format(title=title, paper=self.paper, size=always["size"], least=self.least)
        make.__signature__ = signature  # type: ignore[attr-defined]
        function = user_facing(make)
        setattr(submodule(self.module.format(**always), self.mode), title, function)
        return function


def _build(a: Any) -> Model:
    """The network that the arguments describe, with its weights."""
    _check(a)
    family, first, trained = a.family, channel_axis() == 1, a.weights == "imagenet"
    spatial = slice(1, None) if first else slice(0, -1)
    symbolic = isinstance(a.input_tensor, KerasTensor)
    if family.closed and not a.input_shape:
        a.input_shape = (a.size, a.size, 3)
    own = tuple(a.input_tensor.shape[1:]) if symbolic and family.follows_tensor else None
    if own and a.input_shape and tuple(a.input_shape)[spatial] != own[spatial]:
        raise ValueError(f"{a.title}: input_shape={a.input_shape} contradicts an input_tensor of shape {own}.")
    known = tuple(a.input_shape or own or (None,) * 3)[spatial]
    size = known[0] if known[0] in family.sizes and len(set(known)) == 1 else a.size
    shape = own if family.open_top and own else a.input_shape
    flat = (a.include_top or family.closed) and not family.open_top
    shape = obtain_input_shape(shape, size, family.least, config.image_data_format(), flat, a.weights)
    a.rows, a.channels = shape[spatial][0], shape[0 if first else -1]
    if family.sizes and trained and (len(set(shape[spatial])) > 1 or a.rows not in family.sizes):
        a.rows = a.size
        message = f"{a.title} has weights for squares of {family.sizes}; those for {a.rows} are taken."
        warnings.warn(message, stacklevel=4)
    a.name = a.name or family.name.format(**vars(a))
    entrance = a.input_tensor if symbolic else layers.Input(shape=shape, tensor=a.input_tensor)
    x = family.body(entrance, a)
    x = (family.top if a.include_top else family.bottom)(x, a)
    model = Model(get_source_inputs(a.input_tensor) if symbolic else entrance, x, name=a.name)
    if trained:
        file = family.file.format(end="" if a.include_top else family.no_top, **vars(a))
        folder = family.folder or f"tensorflow/keras-applications/{family.module.format(**vars(a))}/"
        sums = SUMS.get(a.part or a.stem, (None, None))
        path = fetch(file, folder, sums[not a.include_top], family.remote(file))
    if a.weights is not None:
        model.load_weights(path if trained else a.weights)
    return model


def _check(a: Any) -> None:
    """Refuse arguments that contradict each other or the weights."""
    for name in ("include_top", "minimalistic", "include_preprocessing"):
        setattr(a, name, flag(name, getattr(a, name), owner=a.title))
    one_of("pooling", a.pooling, (None, "avg", "max"), owner=a.title)
    whole("classes", a.classes, 1, owner=a.title)
    weights, top, trained = a.weights, a.include_top, a.weights == "imagenet"
    known = weights is None or trained or (isinstance(weights, (str, os.PathLike)) and os.path.exists(weights))
    usual = activations.get(a.classifier_activation) in (activations.get("softmax"), activations.get(None))
    alphas, a.alpha = (1.0,) if a.minimalistic else a.family.alphas, number("alpha", a.alpha, above=0, owner=a.title)
    for wrong, message in (
        (channel_axis() == 1 and not a.family.channels_first, "takes the image data format 'channels_last' only"),
        (not known, f"takes weights=None, 'imagenet' or the path of a file, got {shown(weights)}"),
        (trained and top and a.classes != 1000, f"of ImageNet has 1000 classes, got classes={a.classes}"),
        (weights is not None and top and not usual, "with weights takes classifier_activation='softmax' or None"),
        (trained and alphas and a.alpha not in alphas, f"has weights for alpha in {alphas}, got {a.alpha}"),
        (trained and a.depth_multiplier != 1, f"has weights for depth_multiplier=1, got {a.depth_multiplier}"),
    ):
        if wrong:
            raise ValueError(f"{a.title} {message}.")
