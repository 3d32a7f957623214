"""What a file is, told by its content, whatever its name; and what to do about those that hold nothing readable."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from minikeras.saving.paths import MissingFileError
from minikeras.utils.bounded import DAMAGE, Zip

ARCHIVE, FOLDER, HDF5, NPZ, TEXT = "archive", "folder", "hdf5", "npz", "text"  # what may be read

CONFIG, METADATA, ASSETS = "config.json", "metadata.json", "assets/"
WEIGHTS, NPZ_WEIGHTS = "model.weights.h5", "model.weights.npz"
_HEAD = 2056  # bytes at the beginning that tell what a file is
_HDF5 = re.compile(rb"(?:|.{512}|.{1024}|.{2048})\x89HDF\r\n\x1a\n", re.DOTALL)  # after a block of the user's

_SAVED_MODEL = (
    "a TensorFlow SavedModel, which holds code; open it with Keras 2 or tf_keras and save it as .keras or .h5"
)
_CHECKPOINT = "a checkpoint of TensorFlow; load it into its model there and save the weights as .weights.h5"
_ORBAX = "a checkpoint of Orbax; load it into its model in Keras and save that as .keras"
_PACKED = "packed; unpack it first and load what is in it"
_CODE = "{} which can run code and is not opened; open it where it was made and save the model as .keras"
_LIBRARY = "a model of {}; open it with that library and give its arrays to model.set_weights()"
_WEB_PAGE = "a web page, as failed downloads leave it; download the file itself (its raw address) again"
_UNKNOWN = "damaged or of no kind that holds a model or weights; write, copy or download it again"

# How other files begin, and what they are.
_FOREIGN = {
    rb"version https://git-lfs": "a pointer of Git LFS, not the file that it stands for; fetch that by 'git lfs pull'",
    rb"(?:\.\./)*(?:\.git/|/)annex/objects/": "a pointer of git-annex; fetch the file with 'git annex get'",
    rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|\?xml|head|!--)": _WEB_PAGE,
    rb"\x1f\x8b|BZh[1-9]|\xfd7zXZ|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd|.{257}ustar": _PACKED,
    rb"\x80[\x02-\x05]": _CODE.format("a pickle, perhaps of PyTorch,"),
    rb".{4}TFL3": _LIBRARY.format("TensorFlow Lite"),
    rb"\x08\x01\x12": _SAVED_MODEL,
    rb"\x08[\x02-\x20][\x12:]": _LIBRARY.format("ONNX"),
    rb".{8}\{\"": _LIBRARY.format("safetensors"),
    rb"GGUF": _LIBRARY.format("GGUF"),
    rb"\x93NUMPY": "a single NumPy array; read it with numpy.load() and assign it",
    rb"model_checkpoint_path:": _CHECKPOINT,
    rb"(?:backend|class_name|config|keras_version):": "YAML, which is never read; describe the model with to_json()",
}
# Files that tell what a folder or an archive is, and endings that tell it where the content does not.
_MEMBERS = {"saved_model.pb": _SAVED_MODEL, "saved_model.pbtxt": _SAVED_MODEL, "keras_metadata.pb": _SAVED_MODEL}
_MEMBERS |= {"checkpoint": _CHECKPOINT, "_CHECKPOINT_METADATA": _ORBAX, "data.pkl": _CODE.format("a file of PyTorch,")}
_ENDINGS = {".pb": _SAVED_MODEL, ".index": _CHECKPOINT, ".onnx": _LIBRARY.format("ONNX")}


def kind_of(path: Path) -> str:
    """Which of the kinds of files above lies at a path.

    Raises:
        MissingFileError: where there is nothing.
        ValueError: for a file or folder of another kind; it says which, and what to do.
    """
    if path.is_dir():
        return _kind_of_folder(path)
    if not path.is_file():
        near = sorted(one.name for one in path.parent.glob(f"{glob.escape(path.name)}.*"))
        if f"{path.name}.index" in near:
            raise ValueError(f"{str(path)!r} is {_CHECKPOINT}.")
        remedy = f"is it {near[0]!r}?" if near else "check the path."
        raise MissingFileError(f"There is no file {str(path)!r}; {remedy}")
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    if head.startswith(b"PK"):  # first, as a member that is HDF5 may begin anywhere
        return _kind_of_archive(path)
    if _HDF5.match(head):
        return HDF5
    if re.match(rb"(?:\xef\xbb\xbf)?\s*[{\[]", head):
        return TEXT
    found = (text for pattern, text in _FOREIGN.items() if re.match(pattern, head, re.DOTALL | re.IGNORECASE))
    known = next(found, _ENDINGS.get(path.suffix, _UNKNOWN))
    raise ValueError(f"{str(path)!r} is {known if head else 'empty; write, copy or download it again'}.")


def _kind_of_folder(path: Path) -> str:
    if (path / CONFIG).is_file():
        return FOLDER
    other = f"a folder without {CONFIG}, so no model; pass the path of a file, or of a folder that holds a model"
    raise _refusal(path, {name for name in _MEMBERS if (path / name).exists()}, other)


def _kind_of_archive(path: Path) -> str:
    try:
        with Zip(path) as archive:
            names = archive.namelist()
    except DAMAGE as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}; write, copy or download it again.") from error
    if CONFIG in names:
        return ARCHIVE
    if names and all(name.endswith(".npy") for name in names):
        return NPZ
    other = (
        f"not a model file: an archive of {sorted(names)[:3]!r:.80} without {CONFIG}; unpack it and load what is in it"
    )
    raise _refusal(path, {name.rpartition("/")[2] for name in names}, other)


def _refusal(path: Path, members: set[str], other: str) -> ValueError:
    known = next((text for name, text in _MEMBERS.items() if name in members), other)
    return ValueError(f"{str(path)!r} is {known}.")
