"""Networks for pictures, with the weights that Keras has for them: `applications.ResNet50(weights=None)`.

A family is declared once, and called with the titles of its networks and what distinguishes them.  Each submodule
(`applications.resnet50`) holds the networks of one family with the `preprocess_input` that their weights need.

Example:

>>> from minikeras import applications
>>> model = applications.MobileNet(input_shape=(32, 32, 3), alpha=0.25, weights=None, classes=10)
>>> model.output_shape
(None, 10)
"""

from __future__ import annotations

from typing import Any as _Any

from minikeras.applications import chains as _chains
from minikeras.applications import imagenet_utils as imagenet_utils
from minikeras.applications import mixtures as _mixtures
from minikeras.applications import mobile as _mobile
from minikeras.applications.family import COMMON as _COMMON
from minikeras.applications.family import Family as _Family
from minikeras.applications.family import submodule as _submodule
from minikeras.layers import residual as _residual

_with = dict[str, _Any]
_REST = "input_tensor pooling classes classifier_activation name"

_vgg = _Family("Simonyan and Zisserman 2015", _chains.vgg, "{stem}", "caffe", "counts", top=_chains.vgg_top)
VGG16, VGG19 = _vgg(VGG16=[(2, 2, 3, 3, 3)], VGG19=[(2, 2, 4, 4, 4)])
_resnet = _Family("He et al. 2016", _chains.resnet, "resnet", "caffe", "counts", pools_named=True)
ResNet50, ResNet101, ResNet152 = _resnet(ResNet50=[(3, 4, 6, 3)], ResNet101=[(3, 4, 23, 3)], ResNet152=[(3, 8, 36, 3)])
_submodule("resnet50", "caffe").ResNet50 = ResNet50
_resnet_v2 = _Family(
    **_with(paper="He et al. 2016, identity mappings", body=_chains.resnet_v2, module="resnet_v2", mode="tf"),
    fields="counts",
    **_with(folder="tensorflow/keras-applications/resnet/", pools_named=True),
)
ResNet50V2, ResNet101V2, ResNet152V2 = _resnet_v2(
    ResNet50V2=[(3, 4, 6, 3)], ResNet101V2=[(3, 4, 23, 3)], ResNet152V2=[(3, 8, 36, 3)]
)
_densenet = _Family(
    "Huang et al. 2017", _chains.densenet, "densenet", "torch", "counts", pools_named=True, channels_first=False
)
DenseNet121, DenseNet169, DenseNet201 = _densenet(
    DenseNet121=[(6, 12, 24, 16)], DenseNet169=[(6, 12, 32, 32)], DenseNet201=[(6, 12, 48, 32)]
)
(Xception,) = _Family("Chollet 2017", _chains.xception, "xception", "tf", size=299, least=71)(Xception=[])
_inception = _with(size=299, least=75, stem=("V", "_v"))
(InceptionV3,) = _Family("Szegedy et al. 2016", _mixtures.inception_v3, "inception_v3", "tf", **_inception)(
    InceptionV3=[]
)
_inception["stem"] = ("InceptionResNet", "inception_resnet_")
(InceptionResNetV2,) = _Family(
    **_with(paper="Szegedy et al. 2017", body=_mixtures.inception_resnet_v2, module="inception_resnet_v2", mode="tf"),
    **_inception,
)(InceptionResNetV2=[])
_nasnet = _Family(
    **_with(paper="Zoph et al. 2018", body=_mixtures.nasnet, module="nasnet", mode="tf"),
    fields="filters blocks stem_filters skips size",
    **_with(file="{stem}{end}.h5", no_top="_no_top", stem=("NASNet", "nasnet_"), top_pool=None, channels_first=False),
    **_with(arguments=f"input_shape include_top weights {_REST}", closed=True),
    remote=lambda name: name.replace("nasnet", "NASNet").replace("_", "-"),
)
NASNetMobile, NASNetLarge = _nasnet(NASNetMobile=(1056, 4, 32, False, 224), NASNetLarge=(4032, 6, 96, True, 331))
_mobilenet = _Family(
    **_with(paper="Howard et al. 2017", body=_mobile.mobilenet, module="mobilenet", mode="tf"),
    **_with(name="mobilenet_{alpha:0.2f}_{rows}", file="mobilenet_{part}_{rows}_tf{end}.h5", no_top="_no_top"),
    **_with(sizes=(128, 160, 192, 224), alphas=(0.25, 0.5, 0.75, 1.0), top=_mobile.mobilenet_top),
    **_with(arguments=f"input_shape alpha depth_multiplier dropout include_top weights {_REST}"),
)
(MobileNet,) = _mobilenet(MobileNet=[])
_mobilenet_v2 = _Family(
    **_with(paper="Sandler et al. 2018", body=_mobile.mobilenet_v2, module="mobilenet_v2", mode="tf"),
    **_with(name="mobilenetv2_{alpha:0.2f}_{rows}", no_top="_no_top", top_pool=None, follows_tensor=True),
    **_with(sizes=(96, 128, 160, 192, 224), alphas=(0.35, 0.5, 0.75, 1.0, 1.3, 1.4)),
    **_with(file="mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_{rows}{end}.h5"),
    **_with(arguments=f"input_shape alpha include_top weights {_REST}"),
)
(MobileNetV2,) = _mobilenet_v2(MobileNetV2=[])
_mobilenet_v3 = _Family(
    **_with(paper="Howard et al. 2019", body=_mobile.mobilenet_v3, module="mobilenet_v3", mode=""),
    fields="kind last table",
    **_with(name="{title}", file="weights_mobilenet_v3_{part}_float{end}.h5", no_top="_no_top_v2", sizes=(224,)),
    **_with(alphas=(0.75, 1.0), top=_mobile.mobilenet_v3_top, pools_named=True, follows_tensor=True, open_top=True),
    arguments="input_shape alpha minimalistic include_top weights input_tensor classes pooling dropout_rate "
    "classifier_activation include_preprocessing name",
)
MobileNetV3Small, MobileNetV3Large = _mobilenet_v3(
    MobileNetV3Small=("small", 1024, _mobile.SMALL), MobileNetV3Large=("large", 1280, _mobile.LARGE)
)
_efficientnet = _Family(
    **_with(paper="Tan and Le 2019", body=_mobile.efficientnet, module="efficientnet", mode=""),
    fields="width depth size top_dropout",
    **_with(folder="keras-applications/", file="{stem}{end}.h5", top=_mobile.efficientnet_top, pools_named=True),
)
EfficientNetB0, EfficientNetB1, EfficientNetB2, EfficientNetB3 = _efficientnet(
    **_with(EfficientNetB0=(1.0, 1.0, 224, 0.2), EfficientNetB1=(1.0, 1.1, 240, 0.2)),
    **_with(EfficientNetB2=(1.1, 1.2, 260, 0.3), EfficientNetB3=(1.2, 1.4, 300, 0.3)),
)
EfficientNetB4, EfficientNetB5, EfficientNetB6, EfficientNetB7 = _efficientnet(
    **_with(EfficientNetB4=(1.4, 1.8, 380, 0.4), EfficientNetB5=(1.6, 2.2, 456, 0.4)),
    **_with(EfficientNetB6=(1.8, 2.6, 528, 0.5), EfficientNetB7=(2.0, 3.1, 600, 0.5)),
)
_efficientnet_v2 = _Family(
    **_with(paper="Tan and Le 2021", body=_mobile.efficientnet_v2, module="efficientnet_v2", mode=""),
    fields="width depth size table",
    **_with(stem=("EfficientNetV2", "efficientnetv2-"), file="{stem}{end}.h5", pools_named=True),
    **_with(top=_mobile.efficientnet_v2_top, arguments=_COMMON.replace("name", "include_preprocessing name")),
)
EfficientNetV2B0, EfficientNetV2B1, EfficientNetV2B2, EfficientNetV2B3 = _efficientnet_v2(
    **_with(EfficientNetV2B0=(1.0, 1.0, 224, _mobile.B2), EfficientNetV2B1=(1.0, 1.1, 240, _mobile.B2)),
    **_with(EfficientNetV2B2=(1.1, 1.2, 260, _mobile.B2), EfficientNetV2B3=(1.2, 1.4, 300, _mobile.B2)),
)
EfficientNetV2S, EfficientNetV2M, EfficientNetV2L = _efficientnet_v2(
    **_with(EfficientNetV2S=(1.0, 1.0, 384, _mobile.S2), EfficientNetV2M=(1.0, 1.0, 480, _mobile.M2)),
    EfficientNetV2L=(1.0, 1.0, 480, _mobile.L2),
)
_convnext = _Family(
    **_with(paper="Liu et al. 2022", body=_mobile.convnext, module="convnext", mode=""),
    fields="middle width",
    **_with(stem=("ConvNeXt", "convnext_"), file="{stem}{end}.h5", channels_first=False, top=_mobile.convnext_top),
    **_with(bottom=_mobile.convnext_bottom, arguments=_COMMON.replace("_top", "_top include_preprocessing")),
)
ConvNeXtTiny, ConvNeXtSmall, ConvNeXtBase, ConvNeXtLarge, ConvNeXtXLarge = _convnext(
    **_with(ConvNeXtTiny=(9, 96), ConvNeXtSmall=(27, 96), ConvNeXtBase=(27, 128), ConvNeXtLarge=(27, 192)),
    ConvNeXtXLarge=(27, 256),
)

_submodule("inception_resnet_v2", "tf").CustomScaleLayer = _residual.CustomScaleLayer
vars(_submodule("convnext", "")).update(LayerScale=_residual.LayerScale, StochasticDepth=_residual.StochasticDepth)


def __dir__() -> list[str]:
    unlisted = ("annotations", "blocks", "chains", "family", "mixtures", "mobile", "sums")
    return [name for name in globals() if name[0] != "_" and name not in unlisted]
