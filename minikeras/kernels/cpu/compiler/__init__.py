"""Kernels in machine code: functions in a dialect of Python, cut into parts that a team of threads shares.

A kernel's work is a *part*: a Python function with named arguments that the team calls for each of so many parts, by
several threads at once.  Annotated arguments arrive as numbers or as pointers that are indexed, others as int64, which
an address is too (0 where None is given).  A part is compiled when it is first run, and its machine code is kept in a
file, so declaring one costs nothing.  A whole kernel, its part and its override:

    import numpy as np

    from minikeras.kernels.cpu.compiler import Floats, inner, part, parts_for, share_of_lines
    from minikeras.kernels.table import contiguous_float32, override

    ZERO = np.float32(0)  # numbers of a loop have the array's type

    @inner  # compiled into what calls it
    def clipped(value, least, most):
        return least if value < least else most if value > most else value

    @part
    def _hard_tanh(part, parts, size, x: Floats, out: Floats, slope: np.float32):
        first, end = share_of_lines(part, parts, size)  # cut at the same places for any number of threads
        for i in range(first, end):
            out[i] = clipped(x[i] * slope, np.float32(-1), np.float32(1))

    @override("hard_tanh", "cpu", when=contiguous_float32("x"))
    def hard_tanh(k, x, slope):
        out = k.empty(x.shape, x.dtype)
        _hard_tanh.run(parts_for(x.size), size=x.size, x=x, out=out, slope=slope)
        return out

The dialect is Numba's: numbers, pointers, `for` over `range`, `while`, `if`, tuples from functions; float32 meets only
float32.  Plain loops become vector code; sums do where `@part(fastmath=FAST)` lets them change their order.

Where vectors have to be held by hand, a function writes LLVM code: `@instruction` for use in others, `@emitted_part` as
a whole.  Its first argument is the builder (`llvm.Builder`), which reads and writes numbers and vectors (`b.read`,
`b.write`, `b.spread`, `b.fma`), loops (`with b.loop(count) as loop`) and goes over rows of any length in vectors, a
mask for the last (`b.over_row`):

    @instruction
    def sum_of_row(b, row, count) -> np.float32:
        def body(vectors, carried):
            return [None], [b.fadd(vectors[0], carried[0])]

        lanes = host.LANES
        total, = b.over_row(count, [(row, 0.0)], [b.constant(0.0, "float32", lanes)], body, lanes)
        return b.across(total, b.fadd)

The files: kinds (annotations), jit (what is compiled, when), translate (the dialect to LLVM code), llvm (the builder,
machine code), fallback (Numba), store (files of machine code), host (the processor's vectors), machine and elementary
(instructions and functions), team (threads) and parts.
"""

from minikeras.kernels.cpu.compiler import host, store, team
from minikeras.kernels.cpu.compiler.elementary import exp, exponential, sigmoid, tanh
from minikeras.kernels.cpu.compiler.fallback import FAST, NumbaKernel
from minikeras.kernels.cpu.compiler.jit import CFunction, compiled, emitted, inner, instruction
from minikeras.kernels.cpu.compiler.kinds import Doubles, Floats, Numbers, Octets, Words
from minikeras.kernels.cpu.compiler.machine import (
    doubles,
    floats,
    numbers,
    octets,
    prefetch,
    prefetch_line,
    stack_scratch,
    words,
)
from minikeras.kernels.cpu.compiler.parts import (
    Part,
    Plan,
    emitted_part,
    own_scratch,
    part,
    parts_for,
    scratch,
    share,
    share_of_lines,
    team_size,
)

__all__ = [
    "FAST", "CFunction", "Doubles", "Floats", "NumbaKernel", "Numbers", "Octets", "Part", "Plan", "Words",
    "compiled", "doubles", "emitted", "emitted_part", "exp", "exponential", "floats", "host", "inner",
    "instruction", "numbers", "octets", "own_scratch", "part", "parts_for", "prefetch", "prefetch_line", "scratch",
    "share", "share_of_lines", "sigmoid", "stack_scratch", "store", "tanh", "team", "team_size", "words",
]  # fmt: skip
