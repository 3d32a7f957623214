"""What `minikeras.layers` offers: see `lazy.py`."""

from minikeras.layers.activation import ELU as ELU
from minikeras.layers.activation import LeakyReLU as LeakyReLU
from minikeras.layers.activation import PReLU as PReLU
from minikeras.layers.activation import ReLU as ReLU
from minikeras.layers.activation import Softmax as Softmax
from minikeras.layers.activation import ThresholdedReLU as ThresholdedReLU
from minikeras.layers.attention import AdditiveAttention as AdditiveAttention
from minikeras.layers.attention import Attention as Attention
from minikeras.layers.attention import GroupedQueryAttention as _GroupedQueryAttention
from minikeras.layers.attention import MultiHeadAttention as MultiHeadAttention
from minikeras.layers.categories import CategoryEncoding as CategoryEncoding
from minikeras.layers.categories import Discretization as Discretization
from minikeras.layers.convolutional import Conv1D as Conv1D
from minikeras.layers.convolutional import Conv2D as Conv2D
from minikeras.layers.convolutional import Conv3D as Conv3D
from minikeras.layers.convolutional import DepthwiseConv1D as DepthwiseConv1D
from minikeras.layers.convolutional import DepthwiseConv2D as DepthwiseConv2D
from minikeras.layers.convolutional import SeparableConv1D as SeparableConv1D
from minikeras.layers.convolutional import SeparableConv2D as SeparableConv2D
from minikeras.layers.convolutional_recurrent import ConvLSTM1D as ConvLSTM1D
from minikeras.layers.convolutional_recurrent import ConvLSTM2D as ConvLSTM2D
from minikeras.layers.convolutional_recurrent import ConvLSTM3D as ConvLSTM3D
from minikeras.layers.core import Activation as Activation
from minikeras.layers.core import Dense as Dense
from minikeras.layers.core import Embedding as Embedding
from minikeras.layers.core import Identity as Identity
from minikeras.layers.core import Input as Input
from minikeras.layers.core import InputLayer as InputLayer
from minikeras.layers.core import Masking as Masking
from minikeras.layers.einsum import EinsumDense as EinsumDense
from minikeras.layers.function import Lambda as Lambda
from minikeras.layers.hashing import HashedCrossing as HashedCrossing
from minikeras.layers.hashing import Hashing as Hashing
from minikeras.layers.image import CenterCrop as CenterCrop
from minikeras.layers.image import Pipeline as Pipeline
from minikeras.layers.image import RandomCrop as RandomCrop
from minikeras.layers.image import RandomFlip as RandomFlip
from minikeras.layers.image import RandomRotation as RandomRotation
from minikeras.layers.image import RandomShear as RandomShear
from minikeras.layers.image import RandomTranslation as RandomTranslation
from minikeras.layers.image import RandomZoom as RandomZoom
from minikeras.layers.image import Resizing as Resizing
from minikeras.layers.image_changes import AutoContrast as AutoContrast
from minikeras.layers.image_changes import CutMix as CutMix
from minikeras.layers.image_changes import Equalization as Equalization
from minikeras.layers.image_changes import MixUp as MixUp
from minikeras.layers.image_changes import RandAugment as RandAugment
from minikeras.layers.image_changes import RandomBrightness as RandomBrightness
from minikeras.layers.image_changes import RandomColorDegeneration as RandomColorDegeneration
from minikeras.layers.image_changes import RandomColorJitter as RandomColorJitter
from minikeras.layers.image_changes import RandomContrast as RandomContrast
from minikeras.layers.image_changes import RandomErasing as RandomErasing
from minikeras.layers.image_changes import RandomGaussianBlur as RandomGaussianBlur
from minikeras.layers.image_changes import RandomGrayscale as RandomGrayscale
from minikeras.layers.image_changes import RandomHue as RandomHue
from minikeras.layers.image_changes import RandomInvert as RandomInvert
from minikeras.layers.image_changes import RandomPosterization as RandomPosterization
from minikeras.layers.image_changes import RandomSaturation as RandomSaturation
from minikeras.layers.image_changes import RandomSharpness as RandomSharpness
from minikeras.layers.image_changes import Solarization as Solarization
from minikeras.layers.layer import Layer as Layer
from minikeras.layers.local import LocallyConnected1D as LocallyConnected1D
from minikeras.layers.local import LocallyConnected2D as LocallyConnected2D
from minikeras.layers.lookup import IntegerLookup as IntegerLookup
from minikeras.layers.lookup import StringLookup as StringLookup
from minikeras.layers.merging import Add as Add
from minikeras.layers.merging import Average as Average
from minikeras.layers.merging import Concatenate as Concatenate
from minikeras.layers.merging import Dot as Dot
from minikeras.layers.merging import Maximum as Maximum
from minikeras.layers.merging import Minimum as Minimum
from minikeras.layers.merging import Multiply as Multiply
from minikeras.layers.merging import Subtract as Subtract
from minikeras.layers.merging import add as add
from minikeras.layers.merging import average as average
from minikeras.layers.merging import concatenate as concatenate
from minikeras.layers.merging import dot as dot
from minikeras.layers.merging import maximum as maximum
from minikeras.layers.merging import minimum as minimum
from minikeras.layers.merging import multiply as multiply
from minikeras.layers.merging import subtract as subtract
from minikeras.layers.normalization import BatchNormalization as BatchNormalization
from minikeras.layers.normalization import GroupNormalization as GroupNormalization
from minikeras.layers.normalization import LayerNormalization as LayerNormalization
from minikeras.layers.normalization import RMSNormalization as RMSNormalization
from minikeras.layers.normalization import UnitNormalization as UnitNormalization
from minikeras.layers.pooling import AdaptiveAveragePooling1D as AdaptiveAveragePooling1D
from minikeras.layers.pooling import AdaptiveAveragePooling2D as AdaptiveAveragePooling2D
from minikeras.layers.pooling import AdaptiveAveragePooling3D as AdaptiveAveragePooling3D
from minikeras.layers.pooling import AdaptiveMaxPooling1D as AdaptiveMaxPooling1D
from minikeras.layers.pooling import AdaptiveMaxPooling2D as AdaptiveMaxPooling2D
from minikeras.layers.pooling import AdaptiveMaxPooling3D as AdaptiveMaxPooling3D
from minikeras.layers.pooling import AveragePooling1D as AveragePooling1D
from minikeras.layers.pooling import AveragePooling2D as AveragePooling2D
from minikeras.layers.pooling import AveragePooling3D as AveragePooling3D
from minikeras.layers.pooling import GlobalAveragePooling1D as GlobalAveragePooling1D
from minikeras.layers.pooling import GlobalAveragePooling2D as GlobalAveragePooling2D
from minikeras.layers.pooling import GlobalAveragePooling3D as GlobalAveragePooling3D
from minikeras.layers.pooling import GlobalMaxPooling1D as GlobalMaxPooling1D
from minikeras.layers.pooling import GlobalMaxPooling2D as GlobalMaxPooling2D
from minikeras.layers.pooling import GlobalMaxPooling3D as GlobalMaxPooling3D
from minikeras.layers.pooling import MaxPooling1D as MaxPooling1D
from minikeras.layers.pooling import MaxPooling2D as MaxPooling2D
from minikeras.layers.pooling import MaxPooling3D as MaxPooling3D
from minikeras.layers.preprocessing import Normalization as Normalization
from minikeras.layers.preprocessing import Rescaling as Rescaling
from minikeras.layers.recurrent import GRU as GRU
from minikeras.layers.recurrent import LSTM as LSTM
from minikeras.layers.recurrent import RNN as RNN
from minikeras.layers.recurrent import Bidirectional as Bidirectional
from minikeras.layers.recurrent import GRUCell as GRUCell
from minikeras.layers.recurrent import LSTMCell as LSTMCell
from minikeras.layers.recurrent import SimpleRNN as SimpleRNN
from minikeras.layers.recurrent import SimpleRNNCell as SimpleRNNCell
from minikeras.layers.recurrent import StackedRNNCells as StackedRNNCells
from minikeras.layers.recurrent import TimeDistributed as TimeDistributed
from minikeras.layers.regularization import ActivityRegularization as ActivityRegularization
from minikeras.layers.regularization import AlphaDropout as AlphaDropout
from minikeras.layers.regularization import Dropout as Dropout
from minikeras.layers.regularization import GaussianDropout as GaussianDropout
from minikeras.layers.regularization import GaussianNoise as GaussianNoise
from minikeras.layers.regularization import SpatialDropout1D as SpatialDropout1D
from minikeras.layers.regularization import SpatialDropout2D as SpatialDropout2D
from minikeras.layers.regularization import SpatialDropout3D as SpatialDropout3D
from minikeras.layers.reshaping import Cropping1D as Cropping1D
from minikeras.layers.reshaping import Cropping2D as Cropping2D
from minikeras.layers.reshaping import Cropping3D as Cropping3D
from minikeras.layers.reshaping import Flatten as Flatten
from minikeras.layers.reshaping import Permute as Permute
from minikeras.layers.reshaping import RepeatVector as RepeatVector
from minikeras.layers.reshaping import Reshape as Reshape
from minikeras.layers.reshaping import UpSampling1D as UpSampling1D
from minikeras.layers.reshaping import UpSampling2D as UpSampling2D
from minikeras.layers.reshaping import UpSampling3D as UpSampling3D
from minikeras.layers.reshaping import ZeroPadding1D as ZeroPadding1D
from minikeras.layers.reshaping import ZeroPadding2D as ZeroPadding2D
from minikeras.layers.reshaping import ZeroPadding3D as ZeroPadding3D
from minikeras.layers.spec import InputSpec as InputSpec
from minikeras.layers.text import TextVectorization as TextVectorization
from minikeras.layers.transposed import Conv1DTranspose as Conv1DTranspose
from minikeras.layers.transposed import Conv2DTranspose as Conv2DTranspose
from minikeras.layers.transposed import Conv3DTranspose as Conv3DTranspose
from minikeras.layers.wrapper import SpectralNormalization as SpectralNormalization
from minikeras.layers.wrapper import Wrapper as Wrapper
from minikeras.registry import deserialize_keras_object as _deserialize_keras_object
from minikeras.registry import serialize_keras_object as _serialize_keras_object

AvgPool1D = AveragePooling1D
AvgPool2D = AveragePooling2D
AvgPool3D = AveragePooling3D
Convolution1D = Conv1D
Convolution1DTranspose = Conv1DTranspose
Convolution2D = Conv2D
Convolution2DTranspose = Conv2DTranspose
Convolution3D = Conv3D
Convolution3DTranspose = Conv3DTranspose
GlobalAvgPool1D = GlobalAveragePooling1D
GlobalAvgPool2D = GlobalAveragePooling2D
GlobalAvgPool3D = GlobalAveragePooling3D
GlobalMaxPool1D = GlobalMaxPooling1D
GlobalMaxPool2D = GlobalMaxPooling2D
GlobalMaxPool3D = GlobalMaxPooling3D
GroupQueryAttention = _GroupedQueryAttention
MaxPool1D = MaxPooling1D
MaxPool2D = MaxPooling2D
MaxPool3D = MaxPooling3D
SeparableConvolution1D = SeparableConv1D
SeparableConvolution2D = SeparableConv2D
deserialize = _deserialize_keras_object
serialize = _serialize_keras_object
