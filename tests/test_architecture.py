"""The rooms of the house: what may import what, and what a bare import costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import minikeras
from benchmarks.house import circles

SOURCE = Path(minikeras.__file__).parent

# Each room may import from itself and from the rooms before it.
ROOMS = [
    "elsewhere",
    "lazy",
    "config",
    "dtype_policies",
    "tracebacks",
    "tree",
    "utils.suggest",
    "utils.console",
    "utils.checks",
    "utils.bounded",
    "limits",
    "declared",
    "kernels",
    "journal",
    "seeds",
    "autodiff",
    "ops",
    "random",
    "registry",
    "initializers",
    "activations",
    "regularizers",
    "constraints",
    "layers",
    "losses",
    "metrics",
    "optimizers",
    "callbacks",
    "training",
    "data",
    "models",
    "wrappers",
    "preprocessing",
    "datasets",
    "saving",
    "utils",
    "mixed_precision",
    "applications",
    "backend",
    "_legacy",
    "compat",
    "freezing",
    "doctor",
]

# The doors that lead down, opened only when somebody asks for what is behind them.
DOORS = {("models/model.py", "saving"), ("__init__.py", "*")}


def _room(module: str) -> str | None:
    """The room of a module such as `minikeras.kernels.arena`."""
    parts = module.split(".")[1:]
    for depth in (2, 1):
        if ".".join(parts[:depth]) in ROOMS:
            return ".".join(parts[:depth])
    return None


def _parsed(path: Path) -> ast.Module:
    """The code of a file without what only type checkers read."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body.clear()
    return tree


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(_parsed(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            if node.module == "minikeras":
                found.update(f"minikeras.{alias.name}" for alias in node.names)
            else:
                found.add(node.module)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Lazy":
            found.add(node.args[0].value)  # type: ignore[attr-defined]
    return {name for name in found if name.startswith("minikeras.")}


def test_each_room_imports_only_from_rooms_above_it():
    wrong = []
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        own = _room("minikeras." + name.removesuffix(".py").replace("/", ".").removesuffix(".__init__"))
        if own is None:
            assert name in ("__init__.py", "__main__.py"), f"{name} is in no room"
            continue
        for module in _imports(path):
            room = _room(module)
            if room is None:
                continue
            if ROOMS.index(room) > ROOMS.index(own) and (name, room) not in DOORS:
                wrong.append(f"{name} ({own}) imports {module}")
    assert not wrong, wrong


def test_no_files_import_each_other():
    """Also inside functions or by strings."""
    assert not circles()


# files that still import in functions, which `Lazy` is for; there are to be none but those whose names load lazily
LATE = {"__main__.py"}


def test_what_loads_at_first_need_is_lazy():
    late = set()
    for path in SOURCE.rglob("*.py"):
        tree = _parsed(path)
        nested = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
        for node in set(nested) - set(tree.body):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            if any(name.split(".")[0] == "minikeras" for name in names):
                late.add(path.relative_to(SOURCE).as_posix())
    assert late == LATE


def test_only_models_know_of_comparisons():
    """The trainer and the callbacks are what a comparison is made of."""
    knowing = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py") if _COMPARISON & _imports(path)}
    assert knowing == {"models/model.py", "training/comparison.py", "training/replica.py"}


_COMPARISON = {f"minikeras.training.{name}" for name in ("comparison", "replica", "entries")}


def test_the_kernels_know_no_tensors():
    for path in (SOURCE / "kernels").rglob("*.py"):
        assert not {m for m in _imports(path) if m.startswith(("minikeras.autodiff", "minikeras.layers"))}, path


CPU = SOURCE / "kernels" / "cpu"


def test_no_file_of_the_cpus_kernels_reaches_for_a_private_name_of_another():
    wrong = []
    for path in CPU.rglob("*.py"):
        tree, modules = ast.parse(path.read_text()), set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("minikeras.kernels.cpu"):
                wrong += [f"{path.name}: {alias.name}" for alias in node.names if alias.name.startswith("_")]
                modules.update(alias.asname or alias.name for alias in node.names)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
                wrong += [f"{path.name}: {ast.unparse(node)}"] if node.attr.startswith("_") else []
    assert not wrong, wrong


def test_the_compiler_knows_nothing_of_its_users_and_nobody_else_of_what_it_is_made_of():
    for path in CPU.rglob("*.py"):
        text, inside = path.read_text(), path.parent.name == "compiler"
        imported = {node.module for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)}
        imported |= {a.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for a in node.names}
        if inside:
            known = {name for name in imported if name.startswith("minikeras.")}
            assert known <= {"minikeras", "minikeras.kernels.arena", "minikeras.lazy"} | {
                name for name in known if name.startswith("minikeras.kernels.cpu.compiler")
            }, path
        else:
            assert not {name for name in imported if name.split(".")[0] in ("llvmlite", "numba")}, path
            assert "minikeras.kernels.cpu.compiler.llvm" not in imported, path


def test_every_override_lies_in_the_file_that_is_named_like_its_family():
    families = {path.stem for path in (SOURCE / "kernels" / "reference").glob("*.py")}
    assert {path.stem for path in CPU.glob("*.py")} - families == {
        "program",
        "recording",
        "refusals",
        "strided",
        "warmup",
    }


def _modules_after(code: str) -> set[str]:
    script = f"{code}\nimport sys; print(' '.join(sys.modules))"
    return set(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    )


def test_import_loads_numpy_at_most():
    heavy = {"numba", "h5py", "cupy", "scipy", "pandas", "PIL", "tensorflow", "torch", "jax"}
    loaded = _modules_after("import minikeras")
    assert not loaded & heavy
    assert "minikeras.layers" not in loaded
    loaded = _modules_after("from minikeras import Sequential, layers, losses, metrics, optimizers, ops, callbacks")
    assert not loaded & heavy


@pytest.mark.parametrize("made", ["Variable(1.0)", "optimizers.SGD().learning_rate", "optimizers.SGD().iterations"])
def test_whoever_has_a_variable_has_its_operators(made):
    assert "minikeras.ops" in _modules_after(f"import minikeras; 0.5 ** minikeras.{made}")


def test_declaring_the_cpus_kernels_loads_no_compiler():
    loaded = _modules_after("from minikeras import kernels; kernels.table_of('cpu')")
    assert "minikeras.kernels.cpu.tile.winograd" in loaded
    assert not [name for name in loaded if name.startswith(("llvmlite", "numba"))]


def test_training_an_mlp_compiles_nothing():
    loaded = _modules_after(
        "import numpy as np; from minikeras import Sequential, layers\n"
        "m = Sequential([layers.Dense(8, activation='relu'), layers.Dropout(.5),"
        " layers.Dense(3, activation='softmax')])\n"
        "m.compile('adam', 'sparse_categorical_crossentropy', metrics=['accuracy'])\n"
        "m.fit(np.zeros((64, 4)), np.zeros(64), verbose=0)"
    )
    assert "numba" not in loaded


def test_no_public_name_is_missing():
    for name in dir(minikeras):
        assert getattr(minikeras, name) is not None
