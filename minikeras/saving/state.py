"""What files of weights are written from: arrays, one object after the other; and HDF5 made of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

State = Iterable[tuple[str, "Group"]]  # the path of each group, and the group


class Group(dict[str, Any]):
    """The arrays of one object by name, as `save_own_variables` gives them; `name` is what the object is called."""

    name: str | None = None


def write_hdf5(file: Any, state: State) -> None:
    """Write arrays to a new HDF5 file, at the paths of their groups."""
    import h5py

    with h5py.File(file, "w") as root:
        for place, group in state:
            written = root.create_group(place)
            if group.name is not None:
                written.attrs["name"] = group.name
            for name, value in group.items():
                write_array(written, name, value)


def write_array(group: Any, name: str, value: Any) -> None:
    """Write an array into a group of an HDF5 file."""
    array = np.asarray(value)
    group[name] = array
    if array.dtype.name == "bfloat16":  # for HDF5 two bytes that mean nothing
        group[name].attrs["dtype"] = "bfloat16"
