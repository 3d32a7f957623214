"""What files of weights are written from: arrays, one object after the other; and HDF5 made of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minikeras.saving.hdf5_arrays import new_file, write_array

State = Iterable[tuple[str, "Group"]]  # the path of each group, and the group


class Group(dict[str, Any]):
    """The arrays of one object by name, as `save_own_variables` gives them; `name` is what the object is called."""

    name: str | None = None


def write_hdf5(file: Any, state: State) -> None:
    """Write arrays to a new HDF5 file, at the paths of their groups."""
    with new_file(file) as root:
        for place, group in state:
            written = root.create_group(place)
            if group.name is not None:
                written.attrs["name"] = group.name
            for name, value in group.items():
                write_array(written, name, value)
