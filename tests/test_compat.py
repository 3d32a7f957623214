"""The page that says which names of Keras are here is what would be written now."""

from pathlib import Path

import pytest

from minikeras import compat


def test_the_page_is_not_stale(monkeypatch):
    monkeypatch.setattr(compat, "ROOT", Path(__file__).parent.parent)  # the package may be an installed one
    assert compat.main(["--check"]) == 0, "run `python -m minikeras.compat`"


def test_a_name_counts_where_its_module_uses_it():
    program = "import keras\nK.mean(x)\nkeras.layers.Dense(1)\nfrom keras.ops import add\nCASES = {'relu': 1}\n"
    words = compat.words_of(program, "test_activations_parity.py")
    assert {"K.mean", "layers.Dense", "ops.add", "activations.relu"} <= words
    assert "ops.mean" not in words and "layers.relu" not in words


def test_a_changed_page_is_stale(tmp_path: Path, monkeypatch, capsys):
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "compatibility.md"
    monkeypatch.setattr(compat, "ROOT", tmp_path)
    page.write_text("# By hand\n")
    with pytest.raises(ValueError, match="has no line"):
        compat.main([])
    page.write_text(f"# By hand\n\n{compat.MARK}\n")
    assert compat.main(["--check"]) == 1
    assert compat.main([]) == 0 == compat.main(["--check"])
    assert page.read_text().startswith("# By hand\n")
    assert "| `Dense` | yes |" in page.read_text()
    page.unlink()
    assert compat.main([]) == 1
    assert "checkout" in capsys.readouterr().err
