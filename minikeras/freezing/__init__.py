"""What PyInstaller has to know of minikeras: it finds `hook-minikeras.py` here by the entry point `pyinstaller40`."""

from __future__ import annotations

import os


def hook_folders() -> list[str]:
    """Where PyInstaller finds hooks.

    >>> from minikeras.freezing import hook_folders
    >>> [folder.endswith("freezing") for folder in hook_folders()]
    [True]
    """
    return [os.path.dirname(__file__)]
