"""Coverage-guided fuzzing of all that reads files, by atheris.

    python tests/fuzz/fuzz_readers.py            # each reader so many files, the same ones each time, as in CI
    python tests/fuzz/fuzz_readers.py tar 300    # one for so many seconds

What is found is printed, and the bytes that led to it are kept among the temporary files, in `minikeras-fuzz`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

FILES, MEGABYTES, LONGEST_RUN = 2000, 2048, 60  # for each reader; of memory; seconds that one file may take


def main() -> int:
    names = sys.argv[1:2] or None
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    if len(sys.argv) > 3 and sys.argv[3] == "inside":
        fuzz(sys.argv[1], seconds)
        return 0
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from fuzz.readers import READERS

    failed = []
    for name in names or READERS:
        with tempfile.TemporaryDirectory() as folder:
            ran = subprocess.run(
                [sys.executable, __file__, name, str(seconds), "inside"],
                cwd=folder, capture_output=True, text=True, errors="replace",
            )  # fmt: skip
            runs = [line for line in ran.stderr.splitlines() if line.startswith(("stat::number", "Done "))]
            print(f"{name}: {runs[-1] if runs else 'ended early'}", flush=True)
            kept = Path(tempfile.gettempdir(), "minikeras-fuzz")
            for found in Path(folder).glob("*-*"):  # crash-..., timeout-..., oom-...
                kept.mkdir(exist_ok=True)
                shutil.copy(found, kept / f"{name}-{found.name}")
                print(f"{name}: the bytes are in {kept / f'{name}-{found.name}'}")
            if ran.returncode:
                failed.append(name)
                print(ran.stdout[-4000:], ran.stderr[-2000:])
    return len(failed)


def fuzz(name: str, seconds: int) -> None:
    import atheris

    sys.path.insert(0, str(Path(__file__).parent.parent))
    with atheris.instrument_imports(include=["minikeras.saving", "minikeras.datasets", "minikeras.utils", "zipfile"]):
        from fuzz import readers
    warnings.simplefilter("ignore")
    corpus = Path("corpus")
    corpus.mkdir()
    for index, content in enumerate(readers.READERS[name][1]()):
        (corpus / str(index)).write_bytes(content)
    place = Path("files").resolve()
    place.mkdir()
    options = [f"-rss_limit_mb={MEGABYTES}", f"-timeout={LONGEST_RUN}", "-max_len=100000"]
    options += [f"-max_total_time={seconds}"] if seconds else [f"-runs={FILES}", "-seed=1"]

    def one(content: bytes) -> None:
        readers.check(name, content, place)

    def mutate(content: bytes, most: int, seed: int) -> bytes:
        """Change the bytes, or those of a member with a right sum."""
        if name not in ("keras", "npz", "texts", "zip") or seed % 2:
            return atheris.Mutate(content, most)
        try:
            return readers.rezipped(content, lambda _, old: atheris.Mutate(old, len(old) + 64) if seed % 3 else old)
        except Exception:
            return atheris.Mutate(content, most)

    atheris.Setup([sys.argv[0], *options, str(corpus)], one, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
