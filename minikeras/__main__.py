"""`python -m minikeras`: `doctor` checks this machine, `warmup` compiles every kernel ahead of its first use.

`info` tells what a file holds, `convert` writes it in another format.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from minikeras import config


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command of the command line."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["warmup"]:
        if find_spec("llvmlite") is None:
            print("llvmlite is missing, which compiles kernels; run pip install numba.", file=sys.stderr)
            return 1
        if any(word.startswith("--output") for word in words):
            config.set_kernels("none")  # an older archive is not in the way of a new one
    if words[:1] == ["doctor"]:
        config.set_device("numpy")  # it chooses for itself, and wants nothing checked or left out before
    from minikeras.saving import command_line

    parser = argparse.ArgumentParser(prog="python -m minikeras", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("warmup", help="compile all CPU kernels now instead of when needed")
    command.add_argument("--output", type=Path, metavar="FILE", help="into an archive, for machines without a compiler")
    command.add_argument(
        "--processor", action="append", metavar="FAMILY", help="for which the archive is, as often as needed: "
        "x86-64-v2, x86-64-v3, x86-64-v4 or native (default the second and the third)",
    )  # fmt: skip
    command = commands.add_parser("doctor", help="check that this machine computes what it should, for bug reports")
    command.add_argument("--reset", action="store_true", help="forget what was turned off on GPUs, and check nothing")
    command_line.add_commands(commands)
    given = parser.parse_args(words)
    if given.command == "doctor":
        return doctor(given.reset)
    if given.command != "warmup":
        return command_line.run(given)
    if given.output is None and given.processor:
        parser.error("--processor says what an archive is for; name that too, with --output kernels.zip")
    return warmup() if given.output is None else archive(given.output, given.processor)


def doctor(reset: bool) -> int:
    """Check this machine; 1 if anything failed."""
    from minikeras.doctor.examination import examine
    from minikeras.kernels.cuda import turned_off

    if reset:
        print(
            "What was turned off is forgotten; the next use of a GPU checks it."
            if turned_off.forget()
            else "Nothing was turned off."
        )
        return 0
    return examine(lambda line: print(line, flush=True), config.cupy_and_device() if config.gpu_is_there() else None)


def warmup() -> int:
    """Compile what is not compiled yet; 1 if it cannot be kept."""
    from minikeras.kernels.cpu.compiler import archive
    from minikeras.kernels.cpu.warmup import folder_of_code, kernels

    start = time.perf_counter()
    functions = kernels()
    for number, function in enumerate(functions, 1):
        begin = time.perf_counter()
        assert function.address
        took = time.perf_counter() - begin
        print(f"[{number:3}/{len(functions)}] {function.place:45} {1000 * took:6.0f} ms", flush=True)
    kept = archive.active()
    folder = folder_of_code() if kept is None else kept.path
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


def archive(path: Path, processors: Sequence[str] | None) -> int:
    """Write the machine code of all kernels into an archive; 1 if it cannot be made here."""
    from minikeras.kernels.cpu.compiler import archive, loader, processor
    from minikeras.kernels.cpu.warmup import codes

    names = list(dict.fromkeys(processors or processor.USUAL or ["native"]))
    unknown = [name for name in names if name != "native" and name not in processor.FAMILIES]
    if unknown or not loader.OWN:
        known = ", ".join((*processor.FAMILIES, "native"))
        print(
            f"There is no family of processors {unknown[0]!r} here; choose from {known}."
            if loader.OWN
            else f"Archives of machine code are for Linux on x86-64, and this is {processor.SYSTEM}.",
            file=sys.stderr,
        )
        return 1
    made: dict[processor.Target, dict[str, bytes]] = {}
    start = time.perf_counter()
    for target, function, code in codes(names):
        made.setdefault(target, {})[function.symbol] = code
        print(f"{target.name} {function.place}", flush=True)
    archive.write(path, made)
    seconds, size = time.perf_counter() - start, path.stat().st_size / 1000
    count = max(map(len, made.values()))
    print(f"{count} kernels for {', '.join(names)} are in {path}, {size:.0f} kB, after {seconds:.1f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
