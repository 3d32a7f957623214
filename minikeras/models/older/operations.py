"""Functions of TensorFlow in the graph of an older model, as operations of `ops` in the description of Keras 3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minikeras import ops
from minikeras.models.functional_config import described
from minikeras.ops import image

CLASSES = {"TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer"}

# our operation: what TensorFlow calls it (in modules, then as a node), and the parameters in the order of its own, each
# with the name that ours has where that is another
_TABLE = """
add: __operators__.add math.add add AddV2 Add BiasAdd nn.bias_add | x=x1 y=x2 value=x1 bias=x2
subtract: math.subtract subtract Sub | x=x1 y=x2
multiply: math.multiply multiply Mul math.scalar_mul | x=x1 y=x2
divide: math.truediv math.divide divide truediv div RealDiv | x=x1 y=x2
divide_no_nan: math.divide_no_nan DivNoNan | x=x1 y=x2
floor_divide: math.floordiv floor_div FloorDiv | x=x1 y=x2
mod: math.floormod FloorMod | x=x1 y=x2
power: math.pow pow Pow | x=x1 y=x2
maximum: math.maximum maximum Maximum | x=x1 y=x2
minimum: math.minimum minimum Minimum | x=x1 y=x2
arctan2: math.atan2 Atan2 | y=x1 x=x2
equal: __operators__.eq math.equal equal Equal | self=x1 x=x1 other=x2 y=x2
not_equal: __operators__.ne math.not_equal not_equal NotEqual | self=x1 x=x1 other=x2 y=x2
greater: math.greater greater Greater | x=x1 y=x2
greater_equal: math.greater_equal greater_equal GreaterEqual | x=x1 y=x2
less: math.less less Less | x=x1 y=x2
less_equal: math.less_equal less_equal LessEqual | x=x1 y=x2
logical_and: math.logical_and logical_and LogicalAnd | x=x1 y=x2
logical_or: math.logical_or logical_or LogicalOr | x=x1 y=x2
logical_not: math.logical_not logical_not LogicalNot | x
negative: math.negative negative Neg | x
absolute: math.abs abs Abs | x
sign: math.sign sign Sign | x
sqrt: math.sqrt sqrt Sqrt | x
rsqrt: math.rsqrt Rsqrt | x
square: math.square square Square | x
reciprocal: math.reciprocal Reciprocal | x
exp: math.exp exp Exp | x
expm1: math.expm1 Expm1 | x
log: math.log log Log | x
log1p: math.log1p Log1p | x
sin: math.sin sin Sin | x
cos: math.cos cos Cos | x
tan: math.tan tan Tan | x
arcsin: math.asin asin | x
arccos: math.acos acos | x
arctan: math.atan atan | x
sinh: math.sinh sinh | x
cosh: math.cosh cosh | x
erf: math.erf Erf | x
floor: math.floor floor Floor | x
ceil: math.ceil Ceil | x
round: math.round round Round | x
isnan: math.is_nan | x
tanh: math.tanh nn.tanh tanh Tanh | x
sigmoid: math.sigmoid nn.sigmoid sigmoid Sigmoid | x
log_sigmoid: math.log_sigmoid | x
relu: nn.relu relu Relu | features=x x
relu6: nn.relu6 Relu6 | features=x
elu: nn.elu Elu | features=x
selu: nn.selu Selu | features=x
leaky_relu: nn.leaky_relu | features=x alpha=negative_slope
gelu: nn.gelu | features=x approximate
silu: nn.silu nn.swish | features=x
softplus: math.softplus nn.softplus Softplus | features=x x
softsign: nn.softsign Softsign | features=x x
softmax: nn.softmax math.softmax softmax Softmax | logits=x x axis
log_softmax: nn.log_softmax math.log_softmax | logits=x axis
mean: math.reduce_mean reduce_mean mean Mean | input_tensor=x x axis keepdims
sum: math.reduce_sum reduce_sum sum Sum | input_tensor=x x axis keepdims
max: math.reduce_max reduce_max max Max | input_tensor=x x axis keepdims
min: math.reduce_min reduce_min min Min | input_tensor=x x axis keepdims
prod: math.reduce_prod reduce_prod prod Prod | input_tensor=x x axis keepdims
std: math.reduce_std std | input_tensor=x x axis keepdims
var: math.reduce_variance var | input_tensor=x x axis keepdims
logsumexp: math.reduce_logsumexp logsumexp | input_tensor=x x axis keepdims
any: math.reduce_any any Any | input_tensor=x x axis keepdims
all: math.reduce_all all All | input_tensor=x x axis keepdims
norm: norm linalg.norm | tensor=x ord axis keepdims
argmax: math.argmax argmax ArgMax | input=x x axis
argmin: math.argmin argmin ArgMin | input=x x axis
cumsum: math.cumsum cumsum | x axis
cumprod: math.cumprod cumprod | x axis
expand_dims: expand_dims ExpandDims | input=x x axis
squeeze: squeeze | input=x x axis
transpose: transpose permute_dimensions Transpose | a=x x perm=axes pattern=axes
concatenate: concat concatenate | values=xs tensors=xs axis
stack: stack | values=x x axis
unstack: unstack | value=x num axis
tile: tile Tile | input=x x multiples=repeats n=repeats
repeat: repeat | input=x repeats axis
flip: reverse | tensor=x axis
roll: roll | input=x shift axis
take: gather | params=x reference=x indices axis
where: where SelectV2 | condition x=x1 y=x2
clip: clip_by_value clip | t=x x clip_value_min=x_min clip_value_max=x_max min_value=x_min max_value=x_max
cast: cast saturate_cast Cast | x dtype
one_hot: one_hot | indices=x depth=num_classes axis dtype
zeros_like: zeros_like ZerosLike | input=x x dtype
ones_like: ones_like OnesLike | input=x x dtype
stop_gradient: stop_gradient StopGradient | input=variable
tensordot: tensordot | a=x1 b=x2 axes
depth_to_space: nn.depth_to_space | input=x block_size
space_to_depth: nn.space_to_depth | input=x block_size
broadcast_to: broadcast_to | input=x shape
top_k: math.top_k nn.top_k | input=x k sorted
resize: image.resize | images size method=interpolation antialias
rgb_to_grayscale: image.rgb_to_grayscale | images
reshape: reshape Reshape | tensor=x x shape=newshape
matmul: linalg.matmul matmul MatMul BatchMatMulV2 BatchMatMul | a=x1 x=x1 b=x2 y=x2 transpose_a transpose_b
get_item: __operators__.getitem | tensor=x slice_spec=key
pad: pad Pad PadV2 | tensor=x paddings=pad_width constant_values mode
squared_difference: math.squared_difference SquaredDifference | x y
identity: identity Identity | input x
l2_normalize: math.l2_normalize nn.l2_normalize linalg.l2_normalize | x axis epsilon
hard_sigmoid: activations.hard_sigmoid hard_sigmoid | x
"""


def _read(table: str) -> dict[str, tuple[str, dict[str, str]]]:
    """By TensorFlow's name: our operation, and its parameters by TensorFlow's names."""
    found = {}
    for line in table.split("\n")[1:-1]:
        ours, _, rest = line.partition(": ")
        names, _, parameters = rest.partition(" | ")
        pairs = [one.partition("=") for one in parameters.split()]
        known = {theirs: own or theirs for theirs, _, own in pairs}
        found.update(dict.fromkeys(names.split(), (ours, known)))
    return found


SYMBOLS = _read(_TABLE)
_SIZE = "size of a tensor"
# operations whose first axis may be another than that of what they take
MOVES_AXES = {
    *("mean", "sum", "max", "min", "prod", "std", "var", "logsumexp", "any", "all", "norm", "argmax", "argmin", "stack"),
    *("unstack", "tile", "repeat", "flip", "roll", "take", "reshape", "transpose", "get_item", "squeeze", "pad", "cumsum"),
    *("tensordot", "broadcast_to", "expand_dims", "concatenate", "cumprod", "where"),
}
_PREFIXES = ("compat.v1.", "keras.backend.", "keras.")
_DEFAULTS = {"argmax": {"axis": 0}, "argmin": {"axis": 0}, "take": {"axis": 0}, "cumsum": {"axis": 0}}
_DEFAULTS |= {"gelu": {"approximate": False}, "top_k": {"k": 1}}
_DEFAULTS |= {"softmax": {"axis": -1}, "log_softmax": {"axis": -1}, "cumprod": {"axis": 0}, "unstack": {"axis": 0}}
_AT_REST: dict[str, tuple[Any, ...]] = {
    **{"name": (), "batch_dims": (0,), "validate_indices": (), "mode": ("CONSTANT",), "on_value": (1, 1.0)},
    **{"off_value": (0, 0.0), "beta": (1, 1.0), "num": (), "epsilon": (1e-12,), "output_type": ("int64", "int32")},
    **{"data_format": ("NHWC", "channels_last"), "ord": ("euclidean",), "interpolation": ("bilinear",)},
}
_TYPES = {"DT_FLOAT": "float32", "DT_HALF": "float16", "DT_DOUBLE": "float64", "DT_BOOL": "bool"}
_TYPES |= {f"DT_{kind}{bits}": f"{kind.lower()}{bits}" for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)}


def plain_symbol(symbol: str) -> str:
    """A function's name without the module of an older TensorFlow or of Keras's backend."""
    for prefix in _PREFIXES:
        symbol = symbol.removeprefix(prefix)
    return symbol


def size(of: Any, axis: int) -> dict[str, Any]:
    """The size of a tensor along an axis, where only a call tells it; axis 0 of all tensors that keep the batch."""
    return {"class_name": _SIZE, "config": {"of": of, "axis": axis}}


def is_size(value: Any) -> bool:
    """Whether a value stands for a size that only a call tells."""
    return isinstance(value, dict) and value.get("class_name") == _SIZE


def tensor(name: str, call: int = 0, output: int = 0) -> dict[str, Any]:
    """A tensor in a description of Keras 3."""
    return {"class_name": "__keras_tensor__", "config": {"keras_history": [name, call, output]}}


def constant(value: Any) -> Any:
    """A number as it is, a list of numbers as an array; of a list of tensors each."""
    if not isinstance(value, list):
        return value
    inner = value
    while isinstance(inner, list) and inner:
        inner = inner[0]
    if isinstance(inner, dict):
        return [constant(one) for one in value]
    kinds = {bool: "bool", int: "int32"}
    return {"class_name": "__numpy__", "config": {"value": value, "dtype": kinds.get(type(inner), "float32")}}


class Call:
    """One use of a function of TensorFlow, which becomes one operation or a few.

    Args:
        name: of the layer that stood for it, which the last of the operations gets.
        symbol: what TensorFlow calls the function.
        values: its arguments by its parameters' names, with tensors in the form of Keras 3; those that have no name
            are in a list under "".
    """

    def __init__(self, name: str, symbol: str, values: dict[str, Any]):
        self.name, self.symbol = name, symbol
        self.made: list[dict[str, Any]] = []
        symbol = plain_symbol(symbol)
        if symbol not in SYMBOLS:
            self.refuse(f"The function {self.symbol!r} of TensorFlow has no counterpart")
        self.ours, known = SYMBOLS[symbol]
        self.given: dict[str, Any] = dict(_DEFAULTS.get(self.ours, {}))
        for value, own in zip(values.pop("", []), dict.fromkeys(known.values()), strict=False):
            self.given[own] = value
        for theirs, value in values.items():
            theirs = "keepdims" if theirs in ("keep_dims", "keepdims") else theirs
            if theirs in known:
                if value is not None:
                    self.given[known[theirs]] = value
            elif value is not None and value is not False and theirs != "name":
                if value not in _AT_REST.get(theirs, ()):
                    self.refuse(f"The function {self.symbol!r} has {theirs}={value!r}, which is not known here")

    def refuse(self, problem: str) -> None:
        raise ValueError(f"{problem} (layer {self.name!r}); build the model in code and load its weights into it.")

    def entries(self) -> list[dict[str, Any]]:
        """The descriptions of its operations."""
        sizes = [one for one in self.given.values() if is_size(one) or (isinstance(one, list) and any(map(is_size, one)))]
        if sizes and self.ours != "reshape":
            self.refuse(f"The function {self.symbol!r} takes the size of a tensor, which is known only when it is computed")
        special = _SPECIAL.get(self.ours)
        if special is not None:
            special(self)
        else:
            self.last(self.ours, **self.given)
        return self.made

    def last(self, operation: str, **values: Any) -> None:
        """The operation that gives the result."""
        self._add(self.name, operation, values)

    def before(self, operation: str, **values: Any) -> dict[str, Any]:
        """An operation whose result the next ones take."""
        name = f"{self.name}_{operation}_{len(self.made)}"
        self._add(name, operation, values)
        return tensor(name)

    def layer(self, class_name: str, value: Any, **config: Any) -> None:
        """The layer that gives the result."""
        entry = {"module": "keras.layers", "class_name": class_name, "registered_name": None, "name": self.name}
        call = {"args": [value], "kwargs": {}}
        self.made.append({**entry, "config": {"name": self.name, **config}, "inbound_nodes": [call]})

    def _add(self, name: str, operation: str, values: dict[str, Any]) -> None:
        op = getattr(ops, operation, None) or getattr(image, operation)
        known = described(op)
        values = {n: constant(v) if n in known.taken and n != "key" else v for n, v in values.items()}
        taken, settings = known.split((), values)
        self.made.append(
            {
                **{"module": known.module, "class_name": known.class_name, "registered_name": known.class_name},
                **{"config": {"name": name, **settings}, "name": name},
                "inbound_nodes": [{"args": taken, "kwargs": {}}],
            }
        )


def _matmul(call: Call) -> None:
    values = call.given
    for which in ("a", "b"):
        if values.pop(f"transpose_{which}", False):
            x = f"x{'ab'.index(which) + 1}"
            values[x] = call.before("swapaxes", x=values[x], axis1=-2, axis2=-1)
    call.last("matmul", **values)


def _squared_difference(call: Call) -> None:
    call.last("square", x=call.before("subtract", x1=call.given["x"], x2=call.given["y"]))


def _reshape(call: Call) -> None:
    """A shape in which sizes may come from tensors: the batch's in front, and one other that the rest tells."""
    shape = call.given["newshape"]
    shape = shape if isinstance(shape, list) else [shape]
    batch = is_size(shape[0]) and shape[0]["config"] == {"of": "batch", "axis": 0}
    rest = [-1 if is_size(one) else one for one in shape[batch:]]
    if sum(one == -1 for one in rest) > 1 or not all(type(one) is int for one in rest):
        call.refuse(f"The shape {shape} of {call.symbol!r} is known only when it is computed")
    if batch:
        call.layer("Reshape", call.given["x"], target_shape=rest)
    else:
        call.last("reshape", x=call.given["x"], newshape=rest)


def _index(value: Any) -> Any:
    if isinstance(value, dict) and value.get("class_name") == "__ellipsis__":
        return {**value, "config": {}}
    if isinstance(value, dict) and value.keys() >= {"start", "stop", "step"}:
        return {"class_name": "__slice__", "config": {name: value[name] for name in ("start", "stop", "step")}}
    return value


def _get_item(call: Call) -> None:
    key = call.given["key"]
    key = [_index(one) for one in key] if isinstance(key, list) else _index(key)
    call.last("get_item", x=call.given["x"], key=key)


def _cast(call: Call) -> None:
    dtype = call.given["dtype"]
    call.last("cast", x=call.given["x"], dtype=_TYPES.get(dtype, dtype))


def _pad(call: Call) -> None:
    values = {**call.given, "mode": call.given.get("mode", "CONSTANT").lower()}
    if values["mode"] != "constant":
        values.pop("constant_values", None)
    call.last("pad", **values)


def _l2_normalize(call: Call) -> None:
    if call.given.get("epsilon", 1e-12) != 1e-12:
        call.refuse(f"l2_normalize has epsilon={call.given['epsilon']!r}, where only 1e-12 has a counterpart")
    call.layer("UnitNormalization", call.given["x"], axis=call.given.get("axis", -1))


def _concatenate(call: Call) -> None:
    call.last("concatenate", xs=[constant(one) for one in call.given["xs"]], axis=call.given.get("axis", -1))


_SPECIAL: dict[str, Callable[[Call], None]] = {
    **{"matmul": _matmul, "squared_difference": _squared_difference, "get_item": _get_item, "reshape": _reshape},
    **{"cast": _cast, "l2_normalize": _l2_normalize, "concatenate": _concatenate, "pad": _pad},
    "identity": lambda call: call.layer("Identity", next(iter(call.given.values()))),
    "hard_sigmoid": lambda call: call.layer("Activation", call.given["x"], activation="keras2_hard_sigmoid"),
}
