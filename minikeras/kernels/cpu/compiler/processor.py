"""The processor of this host, and the families of processors that machine code is made for.

Under Linux the kernel says what the processor has, so that kept machine code is found and checked without LLVM.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple

SYSTEM = f"{sys.platform} {os.uname().machine if hasattr(os, 'uname') else os.environ.get('PROCESSOR_ARCHITECTURE')}"


class Target(NamedTuple):
    """What machine code is made for.

    Attributes:
        name: a family, or `"native"`: this processor, with all it has.
        features: what a processor must have to run it, by LLVM's names.
    """

    name: str
    features: frozenset[str]


# What LLVM may use of its own accord, by its names, and what Linux calls it where that is something else.
_FEATURES = {
    "linux x86_64": "sse3=pni ssse3 sse4.1=sse4_1 sse4.2=sse4_2 crc32=sse4_2 popcnt cx16 sahf=lahf_lm xsave avx avx2 "
    "f16c fma bmi=bmi1 bmi2 lzcnt=abm movbe adx aes pclmul=pclmulqdq sha=sha_ni gfni vaes vpclmulqdq sse4a fma4 xop "
    "tbm prfchw=3dnowprefetch avxvnni=avx_vnni avxifma=avx_ifma avx512f avx512cd avx512bw avx512dq avx512vl avx512ifma "
    "avx512vbmi avx512vbmi2=avx512_vbmi2 avx512vnni=avx512_vnni avx512bitalg=avx512_bitalg avx512bf16=avx512_bf16 "
    "avx512vpopcntdq=avx512_vpopcntdq avx512fp16=avx512_fp16 avx512vp2intersect=avx512_vp2intersect",
}
_V2 = "sse3 ssse3 sse4.1 sse4.2 crc32 popcnt cx16 sahf"
_V3 = f"{_V2} xsave avx avx2 f16c fma bmi bmi2 lzcnt movbe"
_V4 = f"{_V3} avx512f avx512cd avx512bw avx512dq avx512vl"
# the levels of the x86-64 psABI, by the names that LLVM has for them
_FAMILIES = {"linux x86_64": {"x86-64-v2": _V2, "x86-64-v3": _V3, "x86-64-v4": _V4}}
FAMILIES = {name: Target(name, frozenset(words.split())) for name, words in _FAMILIES.get(SYSTEM, {}).items()}
USUAL = [name for name in ("x86-64-v3", "x86-64-v4") if name in FAMILIES]  # nearly all machines since 2015

_MODEL = ("vendor_id", "cpu family", "model", "model name")


@lru_cache(maxsize=1)
def _described() -> dict[str, str]:
    """What Linux says of the first core."""
    try:
        with open("/proc/cpuinfo", "rb", buffering=0) as file:
            text = b""
            while b"\n\n" not in text and (more := file.read(4096)):  # not of hundreds of cores
                text += more
    except OSError:
        return {}
    lines = text.partition(b"\n\n")[0].decode("utf-8", "replace").splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


@lru_cache(maxsize=1)
def features() -> frozenset[str]:
    """What this processor has of what machine code may use, by LLVM's names."""
    flags = set(_described().get("flags", "").split())
    if SYSTEM not in _FEATURES or not flags:
        if find_spec("llvmlite") is None:
            return frozenset()  # nobody knows, so nothing is relied on
        return frozenset(name for name, there in _llvm().get_host_cpu_features().items() if there)
    pairs = (word.partition("=") for word in _FEATURES[SYSTEM].split())
    return frozenset(name for name, _, flag in pairs if (flag or name) in flags)


@lru_cache(maxsize=1)
def model() -> str:
    """The kind of processor in words: machine code may be tuned for it."""
    known = _described()
    if SYSTEM in _FEATURES and "model name" in known:
        return " ".join(known.get(key, "") for key in _MODEL)
    return str(_llvm().get_host_cpu_name())


def _llvm() -> Any:
    from llvmlite import binding

    return binding
