"""Global settings: number types, image layout, device, seed, data folders.  Imports nothing from minikeras."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minikeras.lazy import offer_names

_FLOAT_TYPES = ("float16", "float32", "float64", "bfloat16")
NUMBER_TYPES = frozenset(
    ("bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)), *_FLOAT_TYPES)
    + ("complex64", "complex128")
)
_IMAGE_FORMATS = ("channels_last", "channels_first")
_DEVICES = ("cpu", "gpu", "numpy", "auto")

_floatx = "float32"
_epsilon = 1e-7
changes = 0  # how often number types, epsilon or the layout of images have been set
_image_data_format = "channels_last"
_device = os.environ.get("MINIKERAS_DEVICE", "").strip().lower() or "auto"
if _device not in _DEVICES:
    raise ValueError(f"MINIKERAS_DEVICE must be one of {_DEVICES}, got {_device!r}.")
_device_listeners: list[Callable[[str], None]] = []
_kernels = os.environ.get("MINIKERAS_KERNELS", "").strip()
_kernels_listeners: list[Callable[[], None]] = []
_interactive_logging = True
_traceback_filtering = os.environ.get("MINIKERAS_TRACEBACK_FILTERING", "").strip().lower() not in ("0", "false", "off")


def _limit(value: int | None, name: str) -> int | None:
    """A limit on a number of epochs or steps, None for none."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError(f"{name} must be a positive whole number or None, got {value!r}.")
    return value


def _limit_of(variable: str) -> int | None:
    """The limit that an environment variable names."""
    text = os.environ.get(variable, "").strip()
    return _limit(int(text) if text.isdecimal() else text, variable) if text else None  # type: ignore[arg-type]


def _share_of_memory(limit: Any, name: str) -> int | str | None:
    """A limit on a GPU's memory: bytes, a share such as "50%", or None."""
    if limit is None or (isinstance(limit, int) and not isinstance(limit, bool) and limit > 0):
        return limit
    if isinstance(limit, str) and limit.strip().endswith("%"):
        with contextlib.suppress(ValueError):
            number = float(limit.strip()[:-1])
            if 0 < number <= 100:
                return f"{number:g}%"
    raise ValueError(
        f"{name} must be a positive number of bytes, a share of the GPU's memory such as '50%', or None, got {limit!r}."
    )


_gpu_memory: str = os.environ.get("MINIKERAS_GPU_MEMORY_LIMIT", "").strip()
_gpu_memory_limit = _share_of_memory(
    int(_gpu_memory) if _gpu_memory.isdecimal() else _gpu_memory or None, "MINIKERAS_GPU_MEMORY_LIMIT"
)
_gpu_memory_listeners: list[Callable[[], None]] = []

_max_epochs, _max_steps_per_epoch = _limit_of("KERAS_MAX_EPOCHS"), _limit_of("KERAS_MAX_STEPS_PER_EPOCH")


def max_epochs() -> int | None:
    """How many epochs a `fit` may have at most, None for any number.

    The environment variable `KERAS_MAX_EPOCHS` sets the initial value.

    >>> from minikeras import config
    >>> config.max_epochs() is None
    True
    """
    return _max_epochs


def set_max_epochs(max_epochs: int | None) -> None:
    """Limit the epochs of every `fit`, to try a program out.

    Args:
        max_epochs: the limit, or None for none.

    >>> from minikeras import config
    >>> config.set_max_epochs(2)
    >>> config.max_epochs()
    2
    >>> config.set_max_epochs(None)
    """
    global _max_epochs
    _max_epochs = _limit(max_epochs, "max_epochs")


def max_steps_per_epoch() -> int | None:
    """How many batches an epoch of `fit`, an `evaluate` or a `predict` may have at most, None for any number.

    The environment variable `KERAS_MAX_STEPS_PER_EPOCH` sets the initial value.

    >>> from minikeras import config
    >>> config.max_steps_per_epoch() is None
    True
    """
    return _max_steps_per_epoch


def set_max_steps_per_epoch(max_steps_per_epoch: int | None) -> None:
    """Limit the batches of every epoch, evaluation and prediction, to try a program out.

    Args:
        max_steps_per_epoch: the limit, or None for none.

    >>> from minikeras import config
    >>> config.set_max_steps_per_epoch(5)
    >>> config.max_steps_per_epoch()
    5
    >>> config.set_max_steps_per_epoch(None)
    """
    global _max_steps_per_epoch
    _max_steps_per_epoch = _limit(max_steps_per_epoch, "max_steps_per_epoch")


def floatx() -> str:
    """The default float type of weights and computations, `"float32"` unless set.

    >>> import minikeras as keras
    >>> keras.backend.floatx()
    'float32'
    """
    return _floatx


def set_floatx(value: str) -> None:
    """Set the default float type: `"float32"`, `"float64"`, `"float16"` or `"bfloat16"`.

    Args:
        value: `"float16"`, `"float32"` or `"float64"`.

    >>> import minikeras as keras
    >>> keras.backend.set_floatx("float32")
    """
    global _floatx, changes
    changes += 1
    if value not in _FLOAT_TYPES:
        raise ValueError(f"floatx must be one of {_FLOAT_TYPES}, got {value!r}.")
    _floatx = standardize_dtype(value)


def standardize_dtype(dtype: Any) -> str:
    """The name of a number type, such as `"float32"`.

    Args:
        dtype: a name (bfloat16 is loaded at the first call), a type of NumPy's or what has a `name` as these do,
            Python's bool, int (int32), float or complex (complex64), or None; `floatx()` for float and None.

    Raises:
        ValueError: for what is no type of numbers.

    >>> import minikeras as keras
    >>> keras.backend.standardize_dtype(float)
    'float32'
    """
    if dtype is None or dtype is float:
        return _floatx
    if dtype is complex:
        return "complex64"
    name = dtype if isinstance(dtype, str) else getattr(dtype, "name", None) or getattr(dtype, "__name__", None)
    name = "int32" if name == "int" else name
    if name not in NUMBER_TYPES:
        raise ValueError(f"A dtype is the name of a number type such as 'float32', got {dtype!r}.")
    if name == "bfloat16":
        importlib.import_module("ml_dtypes")  # from then on NumPy knows the name
    return name


def result_type(*dtypes: Any) -> str:
    """The type in which an operation of tensors of these types computes, by Keras's (that is JAX's) rules.

    Python's numbers, given as `int` and `float`, adapt to the other types: `float` makes `floatx()` of integers and
    bools, `int` makes int32 of bools.  Of floats it is the widest, whatever the integers; of float16 and bfloat16
    float32.  A signed and an unsigned integer type meet in the signed one that holds both, or in `floatx()` where there
    is none.  64 bits are kept.

    Args:
        dtypes: what `standardize_dtype` takes; without any it is `floatx()`.

    Raises:
        ValueError: for what is no type of numbers.

    >>> import minikeras as keras
    >>> keras.backend.result_type("int32", "float16")
    'float16'
    """
    names = {standardize_dtype(dtype) for dtype in dtypes if dtype is not int and dtype is not float}
    bits = dict.fromkeys(("complex", "float", "bfloat", "int", "uint"), 0)  # of the widest of each kind
    for name in names - {"bool"}:
        kind = name.rstrip("0123456789")
        bits[kind] = max(bits[kind], int(name[len(kind) :]))
    if bits["complex"]:
        return f"complex{128 if 64 in (bits['float'], bits['complex'] // 2) else 64}"
    if bits["bfloat"] and bits["float"] < 32:
        return "float32" if bits["float"] else "bfloat16"
    if bits["float"]:
        return f"float{bits['float']}"
    if not dtypes or any(dtype is float for dtype in dtypes):
        return _floatx
    if bits["int"] and bits["uint"]:
        signed = max(bits["int"], 2 * bits["uint"])
        return f"int{signed}" if signed <= 64 else _floatx
    if bits["int"] or bits["uint"]:
        return f"int{bits['int']}" if bits["int"] else f"uint{bits['uint']}"
    return "int32" if any(dtype is int for dtype in dtypes) else "bool"


def epsilon() -> float:
    """The fuzz factor that keeps divisions and logarithms finite, 1e-7 unless set.

    >>> import minikeras as keras
    >>> keras.backend.epsilon()
    1e-07
    """
    return _epsilon


def set_epsilon(value: float) -> None:
    """Set the fuzz factor returned by `epsilon()`.

    Args:
        value: the new one, above 0.

    >>> import minikeras as keras
    >>> keras.backend.set_epsilon(1e-07)
    """
    global _epsilon, changes
    changes += 1
    if not value > 0:
        raise ValueError(f"epsilon must be a positive number, got {value!r}.")
    _epsilon = float(value)


def image_data_format() -> str:
    """The default layout of pictures, `"channels_last"` unless set.

    >>> import minikeras as keras
    >>> keras.backend.image_data_format()
    'channels_last'
    """
    return _image_data_format


def set_image_data_format(data_format: str) -> None:
    """Set the default layout of pictures: `"channels_last"` or `"channels_first"`.

    Args:
        data_format: `"channels_last"` or `"channels_first"`, default the global one.

    >>> import minikeras as keras
    >>> keras.backend.set_image_data_format("channels_last")
    """
    global _image_data_format, changes
    changes += 1
    _image_data_format = standardize_data_format(data_format)


def standardize_data_format(data_format: str | None) -> str:
    """Resolve a `data_format` argument: None means the global default."""
    if data_format is None:
        return _image_data_format
    value = str(data_format).lower()
    if value not in _IMAGE_FORMATS:
        raise ValueError(f"data_format must be one of {_IMAGE_FORMATS}, got {data_format!r}.")
    return value


_tf32 = False


def tf32() -> bool:
    """Whether products of float32 on a GPU may be made in TF32; see `set_tf32`."""
    return _tf32


def set_tf32(enabled: bool) -> None:
    """Let products of float32 on a GPU be made in TF32, or not, which is the default.

    TF32 rounds what is multiplied to 10 bits behind the first, three decimal digits, and adds in float32; tensor cores
    are then several times as fast.  It changes nothing on the CPU.

    Args:
        enabled: True or False.

    Raises:
        TypeError: for anything else.

    >>> from minikeras import config
    >>> config.set_tf32(False)
    >>> config.tf32()
    False
    """
    global _tf32, changes
    if not isinstance(enabled, bool):
        raise TypeError(f"enabled must be True or False, got {enabled!r}.")
    changes += 1
    _tf32 = enabled


def backend() -> str:
    """The name of the computing backend; always `"minikeras"`.

    >>> import minikeras as keras
    >>> keras.backend.backend()
    'minikeras'
    """
    return "minikeras"


def device() -> str:
    """The requested device: `"cpu"`, `"gpu"`, `"numpy"` or `"auto"` (a GPU where CuPy finds one, else the CPU).

    The environment variable `MINIKERAS_DEVICE` sets the initial value.
    """
    return _device


def set_device(name: str) -> None:
    """Choose where arrays live and kernels run: `"cpu"`, `"gpu"`, `"numpy"` or `"auto"`.

    `"numpy"` is the CPU without machine code: every kernel in NumPy's own operations, slower, and the same wherever
    NumPy runs.  It takes the place of `"cpu"`, with a warning, where there is neither a compiler nor an archive of
    kernels (see `set_kernels`).  Call this before building a model: existing variables stay where they are.

    Raises:
        ValueError: for an unknown name.
        RuntimeError: for `"gpu"` on a machine without CuPy or without a CUDA device; the setting is unchanged.
    """
    global _device
    name = str(name).strip().lower()
    if name not in _DEVICES:
        raise ValueError(f"device must be one of {_DEVICES}, got {name!r}.")
    if name == "gpu" and not _device_listeners:
        cupy_and_device()  # the kernels will look for themselves once they are loaded; a missing GPU is reported here
    for listener in _device_listeners:
        listener(name)
    _device = name


def kernels() -> str:
    """The archive of machine code that was asked for; empty where none was, `"none"` where none is to be used.

    The environment variable `MINIKERAS_KERNELS` sets the initial value.

    >>> from minikeras import config
    >>> config.kernels()
    ''
    """
    return _kernels


def set_kernels(path: str | os.PathLike) -> None:
    """Take the machine code of the CPU's kernels from an archive, so that neither LLVM nor Numba is needed.

    `python -m minikeras warmup --output kernels.zip` makes it.  Without one, `kernels.zip` in the package is used
    where it exists.  Machine code is run as it is: trust an archive like a library.  Call this before anything is
    computed.

    Args:
        path: the archive; `"none"` for none, the package's neither; `""` for the package's if there is one.

    Raises:
        RuntimeError: it cannot be used on this machine, or machine code has been loaded already; the setting is
            unchanged.

    >>> from minikeras import config
    >>> config.set_kernels("kernels.zip")  # doctest: +SKIP
    """
    global _kernels
    before, _kernels = _kernels, os.fspath(path)
    try:
        for listener in _kernels_listeners:
            listener()
    except RuntimeError:
        _kernels = before
        raise


def on_kernels_change(listener: Callable[[], None]) -> None:
    """Call `listener()` at every `set_kernels`; it may refuse by raising a RuntimeError."""
    _kernels_listeners.append(listener)


def gpu_memory_limit() -> int | str | None:
    """How much of a GPU's memory arrays may take: bytes, a share such as `"50%"`, or None for what there is.

    The environment variable `MINIKERAS_GPU_MEMORY_LIMIT` sets the initial value.

    >>> from minikeras import config
    >>> config.gpu_memory_limit() is None
    True
    """
    return _gpu_memory_limit


def set_gpu_memory_limit(limit: int | str | None) -> None:
    """Limit the memory that arrays on a GPU may take, so that several processes can share it.

    Without a limit nothing is taken in advance either: memory is asked for when it is needed, and kept for later use.
    What is beyond the limit is refused with a MemoryError.  It can be set before or after the GPU is first used.

    Args:
        limit: bytes, a share of the GPU's memory such as `"50%"`, or None for none.

    Raises:
        ValueError: for anything else; the setting is unchanged.

    >>> from minikeras import config
    >>> config.set_gpu_memory_limit("50%")
    >>> config.gpu_memory_limit()
    '50%'
    >>> config.set_gpu_memory_limit(None)
    """
    global _gpu_memory_limit
    _gpu_memory_limit = _share_of_memory(limit, "limit")
    for listener in _gpu_memory_listeners:
        listener()


def on_gpu_memory_limit_change(listener: Callable[[], None]) -> None:
    """Call `listener()` after every `set_gpu_memory_limit`."""
    _gpu_memory_listeners.append(listener)


class device_scope:
    """Within this block arrays are made, and kernels run, on a device: `with keras.device("cpu:0"):`.

    Args:
        device_name: `"cpu"` or `"gpu"` (also `"cuda"`), alone or with the number 0 behind a colon.

    Raises:
        ValueError: for another device.
        RuntimeError: on entering, for a GPU that is not there.

    >>> import minikeras
    >>> with minikeras.device("cpu:0"):
    ...     minikeras.config.device()
    'cpu'
    """

    def __init__(self, device_name: str):
        kind, _, number = str(device_name).strip().lower().partition(":")
        self._name = "gpu" if kind == "cuda" else kind
        if self._name not in ("cpu", "gpu") or number not in ("", "0"):
            raise ValueError(f"A device is 'cpu' or 'gpu', with ':0' or without a number, got {device_name!r}.")

    def __enter__(self) -> None:
        self._outer = _device
        set_device("numpy" if (self._name, _device) == ("cpu", "numpy") else self._name)  # which is on the CPU too

    def __exit__(self, *error: object) -> None:
        set_device(self._outer)


_BACKENDS = ("tensorflow", "jax", "torch", "numpy", "openvino")  # Keras's


def set_backend(backend: str) -> None:
    """Accepted with a warning: minikeras computes everything itself.

    Raises:
        ValueError: for what is no backend of Keras either.

    >>> import minikeras as keras
    >>> keras.config.set_backend("jax")  # doctest: +SKIP
    """
    if backend not in _BACKENDS:
        raise ValueError(f"Keras's backends are {_BACKENDS}, got {backend!r}; minikeras needs none, leave this out.")
    warnings.warn(
        f"minikeras computes by itself, on NumPy or CuPy, so set_backend({backend!r}) changes nothing; leave it out.",
        stacklevel=2,
    )


def enable_unsafe_deserialization() -> None:
    """Accepted with a warning: code from files never runs in minikeras, whatever is asked for.

    >>> import minikeras as keras
    >>> keras.config.enable_unsafe_deserialization()  # doctest: +SKIP
    """
    warnings.warn(
        "Code from files never runs in minikeras, so enable_unsafe_deserialization() changes nothing; pass functions "
        "that a file names to load_model() as custom_objects.",
        stacklevel=2,
    )


def gpu_is_there() -> bool:
    """Whether there is CuPy and a CUDA device; importing CuPy takes long, the driver is looked for at once."""
    if importlib.util.find_spec("cupy") is None or not driver_is_there():
        return False
    try:
        return importlib.import_module("cupy").cuda.runtime.getDeviceCount() > 0
    except Exception:  # a broken driver raises several types; "auto" then means the CPU
        return False


def driver_is_there() -> bool:
    """Whether the library loads that every CUDA driver brings."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def cupy_and_device() -> Any:
    """The module CuPy, on a machine with a CUDA device.

    Raises:
        RuntimeError: where either is missing.
    """
    if importlib.util.find_spec("cupy") is None:
        raise RuntimeError(
            "The device 'gpu' was asked for, but CuPy is not installed; run pip install 'minikeras[gpu]' "
            "or choose the device 'cpu'."
        )
    if not gpu_is_there():
        raise RuntimeError(
            "The device 'gpu' was asked for, but no CUDA device was found; check the driver or choose the device 'cpu'."
        )
    return importlib.import_module("cupy")


def on_device_change(listener: Callable[[str], None]) -> None:
    """Call `listener(name)` at every `set_device`; it may refuse by raising."""
    _device_listeners.append(listener)


def enable_interactive_logging() -> None:
    """Show progress and messages on standard output, as is the default.

    >>> import minikeras as keras
    >>> keras.config.enable_interactive_logging()
    >>> keras.config.is_interactive_logging_enabled()
    True
    """
    global _interactive_logging
    _interactive_logging = True


def disable_interactive_logging() -> None:
    """Send progress and messages to the logger `"minikeras"` of Python's `logging`, at level INFO, line by line.

    >>> import minikeras as keras
    >>> keras.config.disable_interactive_logging()
    >>> keras.config.is_interactive_logging_enabled()
    False
    >>> keras.config.enable_interactive_logging()
    """
    global _interactive_logging
    _interactive_logging = False


def is_interactive_logging_enabled() -> bool:
    """Whether progress and messages go to standard output, not to Python's `logging`.

    >>> import minikeras as keras
    >>> keras.config.is_interactive_logging_enabled()
    True
    """
    return _interactive_logging


def enable_traceback_filtering() -> None:
    """Leave minikeras's own lines out of tracebacks, as is the default: an error ends at the user's line.

    >>> import minikeras as keras
    >>> keras.config.enable_traceback_filtering()
    >>> keras.config.is_traceback_filtering_enabled()
    True
    """
    global _traceback_filtering
    _traceback_filtering = True


def disable_traceback_filtering() -> None:
    """Show whole tracebacks, minikeras's own lines included.

    The environment variable `MINIKERAS_TRACEBACK_FILTERING=0` does it from the start.

    >>> import minikeras as keras
    >>> keras.config.disable_traceback_filtering()
    >>> keras.config.is_traceback_filtering_enabled()
    False
    >>> keras.config.enable_traceback_filtering()
    """
    global _traceback_filtering
    _traceback_filtering = False


def is_traceback_filtering_enabled() -> bool:
    """Whether minikeras's own lines are left out of tracebacks.

    >>> import minikeras as keras
    >>> keras.config.is_traceback_filtering_enabled()
    True
    """
    return _traceback_filtering


def keras_home() -> Path:
    """Keras's own folder, whose files are found too: `$KERAS_HOME`, or else `~/.keras`."""
    own = os.environ.get("KERAS_HOME")
    return Path(own).expanduser() if own else Path.home() / ".keras"


def dataset_folders() -> list[Path]:
    """Folders searched for datasets, in order: `$MINIKERAS_DATASETS`, `~/.minikeras/datasets`, `~/.keras/datasets`.

    Where `$KERAS_HOME` is set, it takes the place of `~/.keras`.
    """
    folders = [Path.home() / ".minikeras" / "datasets", keras_home() / "datasets"]
    own = os.environ.get("MINIKERAS_DATASETS")
    return [Path(own).expanduser(), *folders] if own else folders


class DTypePolicy:
    """The number types of a layer: `compute_dtype` for its mathematics, `variable_dtype` for its weights.

    Args:
        name: a number type, which both then are; or `"mixed_bfloat16"`, `"mixed_float16"` for mathematics in that type
            with weights in float32.  Default the policy that is set, `config.dtype_policy()`.

    Raises:
        TypeError: for a name that is no string.
        ValueError: for another name.

    >>> from minikeras import DTypePolicy
    >>> policy = DTypePolicy("mixed_bfloat16")
    >>> policy.compute_dtype, policy.variable_dtype
    ('bfloat16', 'float32')
    """

    def __init__(self, name: str | None = None):
        name = dtype_policy().name if name is None else name
        if not isinstance(name, str):
            raise TypeError(f"A dtype policy has a name such as 'mixed_bfloat16', got {name!r}; give a string.")
        self._name = name
        mixed = name in ("mixed_float16", "mixed_bfloat16")
        try:
            self._compute_dtype = standardize_dtype(name.removeprefix("mixed_") if mixed else name)
        except ValueError:
            raise ValueError(
                f"A dtype policy is the name of a number type such as 'float32', or 'mixed_bfloat16' or "
                f"'mixed_float16', got {name!r}."
            ) from None
        self._variable_dtype = "float32" if mixed else self._compute_dtype

    @property
    def name(self) -> str:
        return self._name

    @property
    def compute_dtype(self) -> str:
        return self._compute_dtype

    @property
    def variable_dtype(self) -> str:
        return self._variable_dtype

    @property
    def quantization_mode(self) -> None:
        """None: nothing is quantized here."""
        return None

    def get_config(self) -> dict[str, Any]:
        return {"name": self._name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DTypePolicy) and other._name == self._name

    def __hash__(self) -> int:
        return hash(self._name)

    def __repr__(self) -> str:
        return f'<DTypePolicy "{self._name}">'


class FloatDTypePolicy(DTypePolicy):
    """An older name of `DTypePolicy`, which files have.

    >>> import minikeras as keras
    >>> keras.FloatDTypePolicy("float32").name
    'float32'
    """


_dtype_policy: DTypePolicy | None = None


def dtype_policy() -> DTypePolicy:
    """The number types of layers that are told nothing else: those of `floatx()` unless set.

    >>> from minikeras import config
    >>> config.dtype_policy()
    <DTypePolicy "float32">
    """
    return DTypePolicy(_floatx) if _dtype_policy is None else _dtype_policy


def set_dtype_policy(policy: str | DTypePolicy) -> None:
    """Set the number types of layers made from now on, such as `"mixed_bfloat16"`; `clear_session` takes it back.

    Args:
        policy: a name as `DTypePolicy` takes it, or a policy.

    Raises:
        ValueError: for anything else.

    >>> from minikeras import config, layers, utils
    >>> config.set_dtype_policy("mixed_bfloat16")
    >>> layers.Dense(2).compute_dtype
    'bfloat16'
    >>> utils.clear_session()
    """
    global _dtype_policy
    if not isinstance(policy, (str, DTypePolicy)):
        raise ValueError(f"A dtype policy is a DTypePolicy or its name, such as 'mixed_bfloat16', got {policy!r}.")
    _dtype_policy = DTypePolicy(policy) if isinstance(policy, str) else policy


def reset_dtype_policy() -> None:
    """Let layers have the types of `floatx()` again (`clear_session`)."""
    global _dtype_policy
    _dtype_policy = None


_HIDDEN = "cupy_and_device dataset_folders device_scope gpu_is_there keras_home on_device_change on_kernels_change"
_HIDDEN += " on_gpu_memory_limit_change driver_is_there"
offer_names(__name__, hidden=f"{_HIDDEN} result_type FloatDTypePolicy reset_dtype_policy standardize_data_format")
