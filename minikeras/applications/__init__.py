"""Networks for pictures, with the weights that Keras has for them: `applications.ResNet50(weights=None)`.

A family is declared once, `FAMILY(NETWORK=what distinguishes it, ...)` makes the functions of its networks.  Each
submodule (`applications.resnet50`) holds networks with the `preprocess_input` that their weights need.
"""

from __future__ import annotations

import sys as _sys
from types import ModuleType as _Module
from typing import Any as _Any

from minikeras.applications import chains as _chains
from minikeras.applications import imagenet_utils as imagenet_utils
from minikeras.applications import mixtures as _mixtures
from minikeras.applications import mobile as _mobile
from minikeras.applications.family import COMMON as _COMMON
from minikeras.applications.family import Family as _Family
from minikeras.layers import residual as _residual

_SHAPE_FIRST = "input_tensor pooling classes classifier_activation name"

_vgg = _Family("Simonyan and Zisserman 2015", _chains.vgg, "{stem}", "counts", top=_chains.vgg_top)
VGG16, VGG19 = _vgg(VGG16=[(2, 2, 3, 3, 3)], VGG19=[(2, 2, 4, 4, 4)])

_resnet = _Family("He et al. 2016", _chains.resnet, "resnet", "counts", pools_named=True)
ResNet50, ResNet101, ResNet152 = _resnet(ResNet50=[(3, 4, 6, 3)], ResNet101=[(3, 4, 23, 3)], ResNet152=[(3, 8, 36, 3)])
_resnet_v2 = _Family("He et al. 2016, identity mappings", _chains.resnet_v2, "resnet", "counts", pools_named=True)
ResNet50V2, ResNet101V2, ResNet152V2 = _resnet_v2(
    ResNet50V2=[(3, 4, 6, 3)], ResNet101V2=[(3, 4, 23, 3)], ResNet152V2=[(3, 8, 36, 3)]
)
_densenet = _Family("Huang et al. 2017", _chains.densenet, "densenet", "counts", pools_named=True, channels_first=False)
DenseNet121, DenseNet169, DenseNet201 = _densenet(
    DenseNet121=[(6, 12, 24, 16)], DenseNet169=[(6, 12, 32, 32)], DenseNet201=[(6, 12, 48, 32)]
)
(Xception,) = _Family("Chollet 2017", _chains.xception, "xception", size=299, least=71)(Xception=[])
(InceptionV3,) = _Family(
    "Szegedy et al. 2016", _mixtures.inception_v3, "inception_v3", stem=("V3", "_v3"), size=299, least=75
)(InceptionV3=[])
(InceptionResNetV2,) = _Family(
    *("Szegedy et al. 2017", _mixtures.inception_resnet_v2, "inception_resnet_v2"),
    **{"stem": ("InceptionResNetV2", "inception_resnet_v2"), "size": 299, "least": 75},
)(InceptionResNetV2=[])
_nasnet = _Family(
    *("Zoph et al. 2018", _mixtures.nasnet, "nasnet", "filters blocks stem_filters skips size"),
    **{"arguments": f"input_shape include_top weights {_SHAPE_FIRST}", "stem": ("NASNet", "nasnet_")},
    **{"file": "{stem}{end}.h5", "no_top": "_no_top", "top_pool": None, "channels_first": False, "closed": True},
    remote=lambda name: name.replace("nasnet", "NASNet").replace("_", "-"),
)
NASNetMobile, NASNetLarge = _nasnet(NASNetMobile=(1056, 4, 32, False, 224), NASNetLarge=(4032, 6, 96, True, 331))
_mobilenet = _Family(
    *("Howard et al. 2017", _mobile.mobilenet, "mobilenet"),
    **{"name": "mobilenet_{alpha:0.2f}_{rows}", "file": "mobilenet_{part}_{rows}_tf{end}.h5", "no_top": "_no_top"},
    **{"sizes": (128, 160, 192, 224), "alphas": (0.25, 0.5, 0.75, 1.0), "top": _mobile.mobilenet_top},
    arguments=f"input_shape alpha depth_multiplier dropout include_top weights {_SHAPE_FIRST}",
    prepare=_mobile.prepare_mobilenet,
)
(MobileNet,) = _mobilenet(MobileNet=[])
_mobilenet_v2 = _Family(
    *("Sandler et al. 2018", _mobile.mobilenet_v2, "mobilenet_v2"),
    **{"name": "mobilenetv2_{alpha:0.2f}_{rows}", "no_top": "_no_top", "top_pool": None, "follows_tensor": True},
    **{"sizes": (96, 128, 160, 192, 224), "alphas": (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)},
    file="mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{part}_{rows}{end}.h5",
    arguments=f"input_shape alpha include_top weights {_SHAPE_FIRST}",
    prepare=_mobile.prepare_mobilenet,
)
(MobileNetV2,) = _mobilenet_v2(MobileNetV2=[])
_mobilenet_v3 = _Family(
    *("Howard et al. 2019", _mobile.mobilenet_v3, "mobilenet_v3", "kind last table"),
    **{"name": "{title}", "file": "weights_mobilenet_v3_{stem}_float{end}.h5", "no_top": "_no_top_v2"},
    **{"sizes": (224,), "alphas": (0.75, 1.0), "top": _mobile.mobilenet_v3_top, "pools_named": True},
    **{"follows_tensor": True, "open_top": True, "prepare": _mobile.prepare_mobilenet_v3},
    arguments="input_shape alpha minimalistic include_top weights input_tensor classes pooling dropout_rate "
    "classifier_activation include_preprocessing name",
)
MobileNetV3Small, MobileNetV3Large = _mobilenet_v3(
    MobileNetV3Small=("small", 1024, _mobile.SMALL), MobileNetV3Large=("large", 1280, _mobile.LARGE)
)
_efficientnet = _Family(
    *("Tan and Le 2019", _mobile.efficientnet, "keras-applications", "width depth size top_dropout"),
    **{"file": "{stem}{end}.h5", "top": _mobile.efficientnet_top, "pools_named": True, "base": ""},
)
EfficientNetB0, EfficientNetB1, EfficientNetB2, EfficientNetB3 = _efficientnet(
    **{"EfficientNetB0": (1.0, 1.0, 224, 0.2), "EfficientNetB1": (1.0, 1.1, 240, 0.2)},
    **{"EfficientNetB2": (1.1, 1.2, 260, 0.3), "EfficientNetB3": (1.2, 1.4, 300, 0.3)},
)
EfficientNetB4, EfficientNetB5, EfficientNetB6, EfficientNetB7 = _efficientnet(
    **{"EfficientNetB4": (1.4, 1.8, 380, 0.4), "EfficientNetB5": (1.6, 2.2, 456, 0.4)},
    **{"EfficientNetB6": (1.8, 2.6, 528, 0.5), "EfficientNetB7": (2.0, 3.1, 600, 0.5)},
)
_efficientnet_v2 = _Family(
    *("Tan and Le 2021", _mobile.efficientnet_v2, "efficientnet_v2", "width depth size table"),
    **{"stem": ("EfficientNetV2", "efficientnetv2-"), "file": "{stem}{end}.h5", "pools_named": True},
    **{"top": _mobile.efficientnet_v2_top, "arguments": _COMMON.replace("name", "include_preprocessing name")},
)
EfficientNetV2B0, EfficientNetV2B1, EfficientNetV2B2, EfficientNetV2B3 = _efficientnet_v2(
    **{"EfficientNetV2B0": (1.0, 1.0, 224, _mobile.B2), "EfficientNetV2B1": (1.0, 1.1, 240, _mobile.B2)},
    **{"EfficientNetV2B2": (1.1, 1.2, 260, _mobile.B2), "EfficientNetV2B3": (1.2, 1.4, 300, _mobile.B2)},
)
EfficientNetV2S, EfficientNetV2M, EfficientNetV2L = _efficientnet_v2(
    **{"EfficientNetV2S": (1.0, 1.0, 384, _mobile.S2), "EfficientNetV2M": (1.0, 1.0, 480, _mobile.M2)},
    **{"EfficientNetV2L": (1.0, 1.0, 480, _mobile.L2)},
)
_convnext = _Family(
    *("Liu et al. 2022", _mobile.convnext, "convnext", "middle width"),
    **{"stem": ("ConvNeXt", "convnext_"), "file": "{stem}{end}.h5", "channels_first": False},
    **{"top": _mobile.convnext_top, "bottom": _mobile.convnext_bottom},
    arguments=_COMMON.replace("include_top", "include_top include_preprocessing"),
)
ConvNeXtTiny, ConvNeXtSmall, ConvNeXtBase, ConvNeXtLarge, ConvNeXtXLarge = _convnext(
    **{"ConvNeXtTiny": (9, 96), "ConvNeXtSmall": (27, 96), "ConvNeXtBase": (27, 128)},
    **{"ConvNeXtLarge": (27, 192), "ConvNeXtXLarge": (27, 256)},
)

_SUBMODULES = """
vgg16 caffe VGG16
vgg19 caffe VGG19
resnet caffe ResNet50 ResNet101 ResNet152
resnet50 caffe ResNet50
resnet_v2 tf ResNet50V2 ResNet101V2 ResNet152V2
densenet torch DenseNet121 DenseNet169 DenseNet201
inception_v3 tf InceptionV3
inception_resnet_v2 tf InceptionResNetV2 CustomScaleLayer
xception tf Xception
nasnet tf NASNetMobile NASNetLarge
mobilenet tf MobileNet
mobilenet_v2 tf MobileNetV2
mobilenet_v3 none MobileNetV3Small MobileNetV3Large
efficientnet none EfficientNetB0 EfficientNetB1 EfficientNetB2 EfficientNetB3
efficientnet none EfficientNetB4 EfficientNetB5 EfficientNetB6 EfficientNetB7
efficientnet_v2 none EfficientNetV2B0 EfficientNetV2B1 EfficientNetV2B2 EfficientNetV2B3
efficientnet_v2 none EfficientNetV2S EfficientNetV2M EfficientNetV2L
convnext none ConvNeXtTiny ConvNeXtSmall ConvNeXtBase ConvNeXtLarge ConvNeXtXLarge LayerScale StochasticDepth
"""


def _preprocessing(mode: str, submodule: str) -> _Any:
    def preprocess_input(x: _Any, data_format: str | None = None) -> _Any:
        """Pictures with values from 0 to 255 as the networks of this module expect them.

        Args:
            x, data_format: as for `imagenet_utils.preprocess_input`.

        Returns:
            Pictures of floating type, or `x` itself where the networks scale it themselves.
        """
        return x if mode == "none" else imagenet_utils.preprocess_input(x, data_format, mode)

    preprocess_input.__module__ = submodule
    return preprocess_input


for _submodule, _mode, *_titles in (_line.split() for _line in _SUBMODULES.split("\n")[1:-1]):
    _name = f"{__name__}.{_submodule}"
    _module = _sys.modules.setdefault(_name, _Module(_name, f"Networks of `applications`: {', '.join(_titles)}."))
    vars(_module).update({_title: globals().get(_title) or getattr(_residual, _title) for _title in _titles})
    _module.preprocess_input = _preprocessing(_mode, _name)  # type: ignore[attr-defined]
    _module.decode_predictions = imagenet_utils.decode_predictions  # type: ignore[attr-defined]
    globals()[_submodule] = _module


def __dir__() -> list[str]:
    return [name for name in globals() if name[0] != "_" and name not in _OWN]


_OWN = ("annotations", "chains", "mixtures", "mobile", "family", "blocks", "sums")
