"""CUDA C compiled by NVRTC, which needs neither driver nor device, and what each kernel uses."""

from __future__ import annotations

import ctypes
import functools
import re
from collections.abc import Sequence
from typing import Any


@functools.cache
def _library() -> Any:
    import importlib.util
    from pathlib import Path

    for package in ("nvidia.cu13", "nvidia.cuda_nvrtc"):
        try:
            found = importlib.util.find_spec(package)
        except ModuleNotFoundError:
            continue
        for folder in found.submodule_search_locations if found else ():
            for path in sorted(Path(folder).glob("lib/libnvrtc.so.1[0-9]")):
                return ctypes.CDLL(str(path))
    raise RuntimeError("NVRTC compiles CUDA C in the tests; run pip install nvidia-cuda-nvrtc.")


def compiled(code: str, options: Sequence[str], architecture: str) -> dict[str, dict[str, int]]:
    """Registers of a thread, bytes that it spills, and bytes of shared memory of a block, by the kernels' names.

    Raises:
        SyntaxError: it does not compile.
    """
    nvrtc, program, size = _library(), ctypes.c_void_p(), ctypes.c_size_t()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"source.cu", 0, None, None) == 0
    flags = [f"-arch={architecture}", "--ptxas-options=-v", *options]
    given = (ctypes.c_char_p * len(flags))(*[flag.encode() for flag in flags])
    failed = nvrtc.nvrtcCompileProgram(program, len(flags), given)
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    text = log.value.decode()
    if failed:
        raise SyntaxError(text)
    used: dict[str, dict[str, int]] = {}
    for name, part in re.findall(r"Compiling entry function '(\w+)'(.*?)(?=Compiling entry function|\Z)", text, re.S):
        number = lambda pattern, part=part: sum(map(int, re.findall(pattern, part)))
        used[name] = {
            "registers": number(r"Used (\d+) registers"),
            "spills": number(r"(\d+) bytes spill stores"),
            "shared": number(r"(\d+) bytes smem"),
        }
    return used
