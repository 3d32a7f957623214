"""Folders for the tests of datasets, and the files that these tests write."""

from __future__ import annotations

import pytest


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The user's dataset folder; the home folder is empty."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.setenv("MINIKERAS_DATASETS", str(tmp_path / "own"))
    (tmp_path / "own").mkdir()
    return tmp_path / "own"


@pytest.fixture
def kept(own):
    """Where downloads are kept."""
    return own.parent / "home" / ".minikeras" / "datasets"


class Trap:
    """Unpickled without care, it makes a folder."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        import os

        return os.mkdir, (self.folder,)


@pytest.fixture
def trap(tmp_path):
    return Trap(tmp_path / "sprung")
