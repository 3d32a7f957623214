"""`python -m minikeras`: `info` and `convert` for files, `warmup` to compile every kernel ahead of its first use."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command of the command line."""
    from minikeras.saving import command_line

    parser = argparse.ArgumentParser(prog="python -m minikeras", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("warmup", help="compile all CPU kernels now instead of when needed")
    command_line.add_commands(commands)
    given = parser.parse_args(arguments)
    return warmup() if given.command == "warmup" else command_line.run(given)


def warmup() -> int:
    """Compile what is not compiled yet; 1 if it cannot be kept."""
    from minikeras.kernels.cpu.warmup import folder_of_code, kernels

    start = time.perf_counter()
    functions = kernels()
    for number, function in enumerate(functions, 1):
        begin = time.perf_counter()
        assert function.address
        took = time.perf_counter() - begin
        print(f"[{number:3}/{len(functions)}] {function.place:45} {1000 * took:6.0f} ms", flush=True)
    folder = folder_of_code()
    seconds = time.perf_counter() - start
    if folder is None:
        print(
            "The machine code could not be kept, so every process compiles anew: no folder is writable; set "
            "NUMBA_CACHE_DIR to one that is.",
            file=sys.stderr,
        )
        return 1
    print(f"{len(functions)} kernels are ready in {folder} after {seconds:.1f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
