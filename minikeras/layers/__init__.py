"""Layers: configuration in the constructor, weights in `build`, mathematics in `call`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minikeras import registry
from minikeras.layers import residual as residual
from minikeras.layers.activation import ELU, LeakyReLU, PReLU, ReLU, Softmax, ThresholdedReLU
from minikeras.layers.attention import AdditiveAttention, Attention, GroupedQueryAttention, MultiHeadAttention
from minikeras.layers.convolutional import (
    Conv1D,
    Conv2D,
    Conv3D,
    DepthwiseConv1D,
    DepthwiseConv2D,
    SeparableConv1D,
    SeparableConv2D,
)
from minikeras.layers.convolutional_recurrent import ConvLSTM1D, ConvLSTM2D, ConvLSTM3D
from minikeras.layers.core import Activation, Dense, Embedding, Identity, Input, InputLayer, Masking
from minikeras.layers.einsum import EinsumDense
from minikeras.layers.function import Lambda
from minikeras.layers.layer import Layer
from minikeras.layers.local import LocallyConnected1D, LocallyConnected2D
from minikeras.layers.merging import (
    Add,
    Average,
    Concatenate,
    Dot,
    Maximum,
    Minimum,
    Multiply,
    Subtract,
    add,
    average,
    concatenate,
    dot,
    maximum,
    minimum,
    multiply,
    subtract,
)
from minikeras.layers.normalization import (
    BatchNormalization,
    GroupNormalization,
    LayerNormalization,
    RMSNormalization,
    UnitNormalization,
)
from minikeras.layers.older_paths import open_older_paths
from minikeras.layers.pooling import (
    AdaptiveAveragePooling1D,
    AdaptiveAveragePooling2D,
    AdaptiveAveragePooling3D,
    AdaptiveMaxPooling1D,
    AdaptiveMaxPooling2D,
    AdaptiveMaxPooling3D,
    AveragePooling1D,
    AveragePooling2D,
    AveragePooling3D,
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalAveragePooling3D,
    GlobalMaxPooling1D,
    GlobalMaxPooling2D,
    GlobalMaxPooling3D,
    MaxPooling1D,
    MaxPooling2D,
    MaxPooling3D,
)
from minikeras.layers.preprocessing import Normalization, Rescaling
from minikeras.layers.recurrent import (
    GRU,
    LSTM,
    RNN,
    Bidirectional,
    GRUCell,
    LSTMCell,
    SimpleRNN,
    SimpleRNNCell,
    StackedRNNCells,
    TimeDistributed,
)
from minikeras.layers.regularization import (
    ActivityRegularization,
    AlphaDropout,
    Dropout,
    GaussianDropout,
    GaussianNoise,
    SpatialDropout1D,
    SpatialDropout2D,
    SpatialDropout3D,
)
from minikeras.layers.reshaping import (
    Cropping1D,
    Cropping2D,
    Cropping3D,
    Flatten,
    Permute,
    RepeatVector,
    Reshape,
    UpSampling1D,
    UpSampling2D,
    UpSampling3D,
    ZeroPadding1D,
    ZeroPadding2D,
    ZeroPadding3D,
)
from minikeras.layers.spec import InputSpec
from minikeras.layers.transposed import Conv1DTranspose, Conv2DTranspose, Conv3DTranspose
from minikeras.layers.wrapper import SpectralNormalization, Wrapper
from minikeras.lazy import public_names

if TYPE_CHECKING:  # what __getattr__ finds, for type checkers and editors
    from minikeras.layers.categories import CategoryEncoding as CategoryEncoding
    from minikeras.layers.categories import Discretization as Discretization
    from minikeras.layers.hashing import HashedCrossing as HashedCrossing
    from minikeras.layers.hashing import Hashing as Hashing
    from minikeras.layers.image import *  # noqa: F403
    from minikeras.layers.image_changes import *  # noqa: F403
    from minikeras.layers.lookup import IntegerLookup as IntegerLookup
    from minikeras.layers.lookup import StringLookup as StringLookup
    from minikeras.layers.text import TextVectorization as TextVectorization

serialize = registry.serialize_keras_object
deserialize = registry.deserialize_keras_object

# names that Keras has as well
AvgPool1D = AveragePooling1D
AvgPool2D = AveragePooling2D
AvgPool3D = AveragePooling3D
Convolution1D = Conv1D
Convolution1DTranspose = Conv1DTranspose
Convolution2D = Conv2D
Convolution2DTranspose = Conv2DTranspose
Convolution3D = Conv3D
Convolution3DTranspose = Conv3DTranspose
GroupQueryAttention = GroupedQueryAttention
GlobalAvgPool1D = GlobalAveragePooling1D
GlobalAvgPool2D = GlobalAveragePooling2D
GlobalAvgPool3D = GlobalAveragePooling3D
GlobalMaxPool1D = GlobalMaxPooling1D
GlobalMaxPool2D = GlobalMaxPooling2D
GlobalMaxPool3D = GlobalMaxPooling3D
MaxPool1D = MaxPooling1D
MaxPool2D = MaxPooling2D
MaxPool3D = MaxPooling3D
SeparableConvolution1D = SeparableConv1D
SeparableConvolution2D = SeparableConv2D

__all__ = [
    "ELU",
    "GRU",
    "LSTM",
    "RNN",
    "Activation",
    "ActivityRegularization",
    "AdaptiveAveragePooling1D",
    "AdaptiveAveragePooling2D",
    "AdaptiveAveragePooling3D",
    "AdaptiveMaxPooling1D",
    "AdaptiveMaxPooling2D",
    "AdaptiveMaxPooling3D",
    "Add",
    "AdditiveAttention",
    "AlphaDropout",
    "Attention",
    "Average",
    "AveragePooling1D",
    "AveragePooling2D",
    "AveragePooling3D",
    "AvgPool1D",
    "AvgPool2D",
    "AvgPool3D",
    "BatchNormalization",
    "Bidirectional",
    "CategoryEncoding",
    "Concatenate",
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "ConvLSTM1D",
    "ConvLSTM2D",
    "ConvLSTM3D",
    "Convolution1D",
    "Convolution1DTranspose",
    "Convolution2D",
    "Convolution2DTranspose",
    "Convolution3D",
    "Convolution3DTranspose",
    "Cropping1D",
    "Cropping2D",
    "Cropping3D",
    "Dense",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "Discretization",
    "Dot",
    "Dropout",
    "EinsumDense",
    "Embedding",
    "Flatten",
    "GRUCell",
    "GaussianDropout",
    "GaussianNoise",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalAveragePooling3D",
    "GlobalAvgPool1D",
    "GlobalAvgPool2D",
    "GlobalAvgPool3D",
    "GlobalMaxPool1D",
    "GlobalMaxPool2D",
    "GlobalMaxPool3D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "GlobalMaxPooling3D",
    "GroupNormalization",
    "GroupQueryAttention",
    "HashedCrossing",
    "Hashing",
    "Identity",
    "Input",
    "InputLayer",
    "InputSpec",
    "IntegerLookup",
    "LSTMCell",
    "Lambda",
    "Layer",
    "LayerNormalization",
    "LeakyReLU",
    "LocallyConnected1D",
    "LocallyConnected2D",
    "Masking",
    "MaxPool1D",
    "MaxPool2D",
    "MaxPool3D",
    "MaxPooling1D",
    "MaxPooling2D",
    "MaxPooling3D",
    "Maximum",
    "Minimum",
    "MultiHeadAttention",
    "Multiply",
    "Normalization",
    "PReLU",
    "Permute",
    "RMSNormalization",
    "ReLU",
    "RepeatVector",
    "Rescaling",
    "Reshape",
    "SeparableConv1D",
    "SeparableConv2D",
    "SeparableConvolution1D",
    "SeparableConvolution2D",
    "SimpleRNN",
    "SimpleRNNCell",
    "Softmax",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "SpectralNormalization",
    "StackedRNNCells",
    "StringLookup",
    "Subtract",
    "TextVectorization",
    "ThresholdedReLU",
    "TimeDistributed",
    "UnitNormalization",
    "UpSampling1D",
    "UpSampling2D",
    "UpSampling3D",
    "Wrapper",
    "ZeroPadding1D",
    "ZeroPadding2D",
    "ZeroPadding3D",
    "add",
    "average",
    "concatenate",
    "deserialize",
    "dot",
    "maximum",
    "minimum",
    "multiply",
    "serialize",
    "subtract",
]

registry.builtin("keras._legacy.layers", ThresholdedReLU)
registry.builtin(
    "keras.layers",
    *[cls for cls in list(globals().values()) if isinstance(cls, type) and issubclass(cls, Layer) and cls is not Layer],
)

_LATER = {  # modules loaded when one of these layers is asked for
    "categories": "CategoryEncoding Discretization",
    "hashing": "HashedCrossing Hashing",
    "lookup": "IntegerLookup StringLookup",
    "text": "TextVectorization",
    "image": "CenterCrop Pipeline RandomCrop RandomFlip RandomRotation RandomShear RandomTranslation RandomZoom "
    "Resizing",
    "image_changes": "AutoContrast CutMix Equalization MixUp RandAugment RandomBrightness RandomColorDegeneration "
    "RandomColorJitter RandomContrast RandomErasing RandomGaussianBlur RandomGrayscale RandomHue RandomInvert "
    "RandomPosterization RandomSaturation RandomSharpness Solarization",
}
_homes = {name: f"{__name__}.{module}" for module, names in _LATER.items() for name in names.split()}
registry.builtin_later("keras.layers", _homes)
registry.builtin_later("keras._legacy.layers", dict.fromkeys(("RandomHeight", "RandomWidth"), f"{__name__}.image"))

open_older_paths(__name__, {name: globals()[name] for name in __all__ if name not in _homes})
if not TYPE_CHECKING:
    __getattr__, __dir__ = public_names(__name__, {name: f"{home}:{name}" for name, home in _homes.items()})
    __all__ += _homes.keys() - set(__all__)
