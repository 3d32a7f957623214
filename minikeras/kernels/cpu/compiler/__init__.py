"""Kernels in machine code: functions in a dialect of Python, cut into parts that a team of threads shares.

A kernel's work is a *part*: a Python function with named arguments that the team calls for each of so many parts, by
several threads at once.  Annotated arguments arrive as numbers or as pointers that are indexed, others as int64, which
an address is too (0 where None is given).  A part is compiled when it is first run, and its machine code is kept in a
file, so declaring one costs nothing.  Two whole kernels, `slope * x` between -1 and 1, and the sums of a matrix's rows:

    import numpy as np

    from minikeras.kernels.cpu.compiler import Floats, host, inner, instruction, part, parts_for, share, share_of_lines
    from minikeras.kernels.table import contiguous_float32, kernel, override

    ONE = np.float32(1)  # numbers of a loop have the array's type

    @kernel  # for every device, in plain array code
    def hard_tanh(k, x, slope):
        return k.xp.clip(x * x.dtype.type(slope), -1, 1)

    @inner  # compiled into what calls it
    def clipped(value):
        return -ONE if value < -ONE else ONE if value > ONE else value

    @part
    def _hard_tanh(part, parts, size, x: Floats, out: Floats, slope: np.float32):
        first, end = share_of_lines(part, parts, size)  # cut at the same places for any number of threads
        for i in range(first, end):  # becomes vector code
            out[i] = clipped(x[i] * slope)

    @override(hard_tanh, "cpu", when=contiguous_float32("x"))
    def hard_tanh_on_the_cpu(k, x, slope):
        out = k.empty(x.shape, x.dtype)
        _hard_tanh.run(parts_for(x.size), size=x.size, x=x, out=out, slope=slope)
        return out

    @kernel
    def row_sums(k, x):
        return x.sum(axis=1)

    @instruction  # written in LLVM code, where vectors are to be held by hand
    def sum_of_row(b, row, count) -> np.float32:
        def body(vectors, carried):  # a round gets the vectors of its rows and what the one before it carried
            return [None], [b.fadd(carried[0], vectors[0])]  # the row stays; the sum goes on

        zeros = b.constant(0.0, "float32", host.LANES)
        (total,) = b.over_row(count, [(row, 0.0)], [zeros], body, host.LANES)  # 0 is read after the last number
        return b.across(total, b.fadd)

    @part
    def _row_sums(part, parts, rows, columns, x, out: Floats):
        first, end = share(part, parts, rows)
        for row in range(first, end):
            out[row] = sum_of_row(x + 4 * row * columns, columns)

    @override(row_sums, "cpu", when=(contiguous_float32("x"), lambda x: x.ndim == 2))
    def row_sums_on_the_cpu(k, x):
        rows, columns = x.shape
        out = k.empty((rows,), x.dtype)
        _row_sums.run(min(parts_for(x.size), rows), rows=rows, columns=columns, x=x, out=out)
        return out

The dialect is Numba's: numbers, pointers, `for` over `range`, `while`, `if`, several results of a function; float32
meets only float32.  `@part(fastmath=FAST)` lets sums of plain loops change their order and so become vector code.  The
builder `b` (`llvm.Builder`) is llvmlite's, with words for memory (`b.read`, `b.write`), vectors (`b.spread`, `b.fma`,
`b.across`) and loops (`with b.loop(count) as loop`, `b.over_row`); `@emitted_part` is a part of such code as a whole.
Where several calls have the same shapes, a `Plan` keeps what does not change; memory for each worker is `scratch`.

The files: kinds (annotations), jit (what is compiled, and when), translate (the dialect to LLVM code), llvm (the
builder and machine code), fallback (Numba), store and archive (files of machine code), loader (which makes it run),
processor (what there is), host (what is compiled for, and its vectors), machine and elementary (instructions and
functions), team (threads), parts.
"""

# ruff: noqa: F401
from minikeras.kernels.cpu.compiler import archive, host, loader, processor, store, team
from minikeras.kernels.cpu.compiler.elementary import (
    add_up_rows,
    erf,
    exp,
    exp_of_falling,
    expm1,
    expm1_of_falling,
    exponential,
    fma,
    log,
    log1p,
    log1p_of_share,
    logistic,
    normal,
    sigmoid,
    tanh,
)
from minikeras.kernels.cpu.compiler.fallback import FAST
from minikeras.kernels.cpu.compiler.jit import CFunction, compiled, emitted, inner, instruction
from minikeras.kernels.cpu.compiler.kinds import Doubles, Floats, Numbers, Octets, Words
from minikeras.kernels.cpu.compiler.machine import add as add_in_one_step
from minikeras.kernels.cpu.compiler.machine import (
    allow_denormals,
    doubles,
    floats,
    numbers,
    octets,
    prefetch,
    prefetch_line,
    restore_denormals,
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
    specialised,
    team_size,
)
