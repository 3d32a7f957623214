"""PyInstaller's hook: all modules, which are imported by name, the lists beside them, and the kernels' machine code.

With that a frozen program needs neither llvmlite nor Numba, and they are left out unless it imports them itself.
"""

import importlib.util
import os
import shutil
import warnings

from PyInstaller.config import CONF
from PyInstaller.utils.hooks import collect_data_files, collect_submodules

from minikeras import __main__, config
from minikeras.kernels.cpu.compiler import archive, loader

hiddenimports = [*collect_submodules("minikeras"), "h5py", "ml_dtypes"]
datas = collect_data_files("minikeras")  # with `kernels.zip` where the package has it
has_archive, made = archive.BESIDE.is_file(), os.path.join(CONF["workpath"], "kernels.zip")
if config.kernels() not in ("", "none"):
    shutil.copyfile(archive.Archive(config.kernels()).path, made)
    datas = [(source, folder) for source, folder in datas if os.path.basename(source) != "kernels.zip"]
    datas, has_archive = [*datas, (made, "minikeras")], True
elif not has_archive and loader.OWN and importlib.util.find_spec("llvmlite"):
    if __main__.main(["warmup", "--output", made]):
        raise SystemExit("The machine code of minikeras's kernels could not be made.")
    datas, has_archive = [*datas, (made, "minikeras")], True
if has_archive:
    excludedimports = ["llvmlite", "numba"]
else:  # the program compiles them, of their sources
    module_collection_mode = {"minikeras.kernels": "pyz+py"}
    hiddenimports += [name for name in ("llvmlite", "numba") if importlib.util.find_spec(name)]
    if "llvmlite" not in hiddenimports:
        warnings.warn("The program will have no machine code, so that minikeras computes with NumPy.", stacklevel=1)
