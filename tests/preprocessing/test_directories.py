"""Class folders: order, odd names, symbolic links."""

from __future__ import annotations

import os

import numpy as np
import pytest

from minikeras.preprocessing.directories import class_files, files_below


def _tree(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def _relative(paths, root):
    return [os.path.relpath(path, root) for path in paths]


def test_classes_and_files_are_sorted_and_found_at_any_depth(tmp_path):
    _tree(tmp_path, "dog/b.png", "dog/a.PNG", "dog/deep/er/a.jpg", "cat/z.jpeg", "cat/notes.txt", "stray.png")
    paths, labels, names = class_files(tmp_path)
    assert names == ["cat", "dog"]
    assert _relative(paths, tmp_path) == ["cat/z.jpeg", "dog/a.PNG", "dog/b.png", "dog/deep/er/a.jpg"]
    np.testing.assert_array_equal(labels, np.array([0, 1, 1, 1], np.int32))
    assert labels.dtype == np.int32


def test_given_classes_set_the_order_of_labels(tmp_path):
    _tree(tmp_path, "a/1.png", "b/2.png", "c/3.png")
    paths, labels, names = class_files(tmp_path, classes=("c", "a"))
    assert (names, _relative(paths, tmp_path), labels.tolist()) == (["c", "a"], ["c/3.png", "a/1.png"], [0, 1])
    with pytest.raises(ValueError, match=r"got class 'd' without one; the folders are \['a', 'b', 'c'\]"):
        class_files(tmp_path, classes=["a", "d"])


def test_hidden_folders_are_no_classes_and_empty_ones_are(tmp_path):
    _tree(tmp_path, ".checkpoints/a.png", "full/a.png")
    (tmp_path / "empty").mkdir()
    paths, labels, names = class_files(tmp_path)
    assert (names, _relative(paths, tmp_path), labels.tolist()) == (["empty", "full"], ["full/a.png"], [1])


def test_odd_names(tmp_path):
    odd = ["with space/a b.png", "größe/ü.png", "new\nline/x\ny.png", "-rf/--help.png", "100%/{0}.png"]
    _tree(tmp_path, *odd)
    paths, _, names = class_files(str(tmp_path) + "/")
    assert sorted(_relative(paths, tmp_path)) == sorted(odd)
    assert names == sorted(name.split("/")[0] for name in odd)
    assert all(os.path.isfile(path) for path in paths)


def test_other_extensions(tmp_path):
    _tree(tmp_path, "a/x.txt", "a/y.png")
    assert _relative(class_files(tmp_path, extensions=[".txt"])[0], tmp_path) == ["a/x.txt"]


def test_no_folder_is_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no folder '.*nowhere'; check the path"):
        class_files(tmp_path / "nowhere")


def test_links_inside_the_tree(tmp_path):
    _tree(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "a" / "copy.png").symlink_to(tmp_path / "b" / "2.png")
    (tmp_path / "a" / "folder").symlink_to(tmp_path / "b")
    assert _relative(files_below(tmp_path / "a", tree=tmp_path), tmp_path) == ["a/1.png", "a/copy.png"]
    followed = class_files(tmp_path, follow_links=True)[0]
    assert _relative(followed, tmp_path) == ["a/1.png", "a/copy.png", "a/folder/2.png", "b/2.png"]


def test_a_link_to_a_folder_around_it_is_not_walked_for_ever(tmp_path):
    _tree(tmp_path, "a/1.png")
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a")
    assert _relative(class_files(tmp_path, follow_links=True)[0], tmp_path) == ["a/1.png"]


@pytest.mark.parametrize("kind", ["file", "folder", "class"])
def test_links_out_of_the_tree_are_left_out_or_refused(tmp_path, kind):
    inside = _tree(tmp_path / "inside", "a/1.png")
    _tree(tmp_path / "outside", "secret.png")
    link = inside / {"file": "a/out.png", "folder": "a/out", "class": "out"}[kind]
    link.symlink_to(tmp_path / "outside" / ("secret.png" if kind == "file" else ""))
    if kind == "folder":
        found = class_files(inside)
    else:
        with pytest.warns(UserWarning, match="1 symbolic links that lead out of"):
            found = class_files(inside)
    assert (_relative(found[0], inside), found[2]) == (["a/1.png"], ["a"])
    with pytest.raises(ValueError, match=rf"The symbolic link '{link}' leads out of '.*inside', to '.*outside"):
        class_files(inside, follow_links=True)


def test_a_tree_reached_through_a_link_is_a_tree(tmp_path):
    _tree(tmp_path / "real", "a/1.png")
    (tmp_path / "alias").symlink_to(tmp_path / "real")
    assert class_files(tmp_path / "alias", follow_links=True)[0] == [str(tmp_path / "alias" / "a" / "1.png")]
