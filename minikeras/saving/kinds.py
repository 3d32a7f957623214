"""What a file is, told by its content, whatever its name; and what to do about those that hold nothing readable."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

ARCHIVE, FOLDER, HDF5, NPZ, TEXT = "archive", "folder", "hdf5", "npz", "text"  # what may be read

CONFIG, METADATA, ASSETS = "config.json", "metadata.json", "assets/"
WEIGHTS, NPZ_WEIGHTS = "model.weights.h5", "model.weights.npz"
_HEAD = 512  # bytes at the beginning that tell what a file is
_HDF5 = b"\x89HDF\r\n\x1a\n"
_BLOCKS = (512, 1024, 2048)  # where HDF5 may begin, after a block of the user's

_SAVED_MODEL = (
    "a TensorFlow SavedModel, which holds code; open it where it was made, with Keras 2 or tf_keras, and save"
)
_SAVED_MODEL += " it as .keras or .h5"
_CHECKPOINT = "a checkpoint of TensorFlow; load it into its model there and save the weights as .weights.h5"
_PACKED = "packed; unpack it first and load what is in it"
_ELSEWHERE = "open it with that library, and give its arrays to model.set_weights()"

# What the first bytes of other files look like, and what is to be said after "is".
_FOREIGN: tuple[tuple[bytes, str], ...] = tuple(
    (pattern, sentence)
    for patterns, sentence in {
        (rb"version https://git-lfs",): (
            "a pointer of Git LFS, not the file that it stands for; fetch that with 'git lfs pull'"
        ),
        (rb"(?:\.\./)*(?:\.git/|/)annex/objects/",): "a pointer of git-annex; fetch the file with 'git annex get'",
        (rb"\s*(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|\?xml|head|!--)",): (
            "a web page, as failed downloads leave it; download the file itself (its raw address) again"
        ),
        (rb"\x1f\x8b", rb"BZh[1-9]", rb"\xfd7zXZ", rb"7z\xbc\xaf", rb"Rar!", rb"\x28\xb5\x2f\xfd", rb".{257}ustar"): (
            _PACKED
        ),
        (rb"\x80[\x02-\x05]",): (
            "a pickle (or an older file of PyTorch), which can run code and is not opened; open it where it was made "
            "and save the model as .keras"
        ),
        (rb".{4}TFL3",): f"a model of TensorFlow Lite; {_ELSEWHERE}",
        (rb"\x08\x01\x12",): _SAVED_MODEL,
        (rb"\x08[\x02-\x20](?:\x12|:)",): f"a model of ONNX; {_ELSEWHERE}",
        (rb".{8}\{\"",): f"a safetensors file; {_ELSEWHERE}",
        (rb"GGUF",): f"a GGUF file; {_ELSEWHERE}",
        (rb"\x93NUMPY",): "a single NumPy array; read it with numpy.load() and assign it",
        (rb"model_checkpoint_path:",): _CHECKPOINT,
        (rb"(?:backend|class_name|config|keras_version):",): (
            "an architecture as YAML, which is never read; write it anew with to_json()"
        ),
    }.items()
    for pattern in patterns
)

_HINTS = {"saved_model.pb": _SAVED_MODEL, "saved_model.pbtxt": _SAVED_MODEL, "keras_metadata.pb": _SAVED_MODEL}
_HINTS |= {
    "checkpoint": _CHECKPOINT,
    "_CHECKPOINT_METADATA": "a checkpoint of Orbax; load it in Keras and save it anew",
}
_ENDINGS = {".pb": _SAVED_MODEL, ".index": _CHECKPOINT, ".onnx": f"a model of ONNX; {_ELSEWHERE}"}


def kind_of(path: Path) -> str:
    """Which of the kinds of files above lies at a path.

    Raises:
        FileNotFoundError: where there is nothing.
        ValueError: for a file or folder of another kind; it says which, and what to do.
    """
    if path.is_dir():
        return _kind_of_folder(path)
    if not path.is_file():
        if path.with_name(f"{path.name}.index").is_file():
            raise ValueError(f"{str(path)!r} is {_CHECKPOINT}.")
        near = sorted(one.name for one in path.parent.glob(f"{re.sub('[][*?]', '?', path.name)}.*") if one.is_file())
        hint = f"did you mean {near[0]!r}?" if near else "check the path."
        raise FileNotFoundError(f"There is no file {str(path)!r}; {hint}")
    with open(path, "rb") as file:
        head = file.read(_HEAD)
        starts = [head[:8]]
        for place in _BLOCKS:
            file.seek(place)
            starts.append(file.read(8))
    if not head:
        raise ValueError(f"{str(path)!r} is empty; write, copy or download it again.")
    if _HDF5 in starts:
        return HDF5
    if head.startswith(b"PK"):
        return _kind_of_archive(path)
    if re.match(rb"(?:\xef\xbb\xbf)?\s*[{\[]", head):
        return TEXT
    found = (sentence for pattern, sentence in _FOREIGN if re.match(pattern, head, re.DOTALL | re.IGNORECASE))
    known = next(found, None) or _ENDINGS.get(path.suffix)
    if known is None:
        known = "damaged or of no kind that holds a model or weights; write, copy or download it again"
    raise ValueError(f"{str(path)!r} is {known}.")


def _kind_of_folder(path: Path) -> str:
    if (path / CONFIG).is_file():
        return FOLDER
    hint = next((hint for name, hint in _HINTS.items() if (path / name).exists()), None)
    if hint is None:
        hint = f"a folder without {CONFIG}, so no model; pass the path of a file, or of a folder that holds a model"
    raise ValueError(f"{str(path)!r} is {hint}.")


def _kind_of_archive(path: Path) -> str:
    names = members_of(path)
    if CONFIG in names:
        return ARCHIVE
    if names and all(name.endswith(".npy") for name in names):
        return NPZ
    files = {name.rpartition("/")[2] for name in names}
    hint = next((hint for name, hint in _HINTS.items() if name in files), None)
    if hint is None and "data.pkl" in files:
        hint = "a file of PyTorch, whose pickle can run code; save the model's arrays there and use model.set_weights()"
    if hint is None and CONFIG in files:
        hint = "an archive of a folder with a model in it; unpack it and load that folder"
    if hint is None:
        hint = f"not a model file: an archive of {sorted(names)[:3]} without {CONFIG}; unpack it and load what is in it"
    raise ValueError(f"{str(path)!r} is {hint}.")


def members_of(path: Any) -> list[str]:
    """The names in a zip archive.

    Raises:
        ValueError: for a damaged one.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}; write, copy or download it again.") from error
