"""`utils.plot_model` and `utils.model_to_dot`: the description of a drawing, and who makes a picture of it."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace

import pytest

from minikeras import Input, Model, Sequential, layers, ops, utils
from minikeras.utils import vis_utils


def description(tmp_path, model, **arguments):
    utils.plot_model(model, tmp_path / "model.dot", **arguments)
    return (tmp_path / "model.dot").read_text(encoding="utf-8")


def boxes(text):
    """The titles of the boxes by their numbers."""
    return {
        number: re.sub("<[^>]*>", "", title) for number, title in re.findall(r"^(\d+) .*?(<b>.*?)</font>", text, re.M)
    }


def edges(text):
    titles = boxes(text)
    return sorted((titles[a], titles[b]) for a, b in re.findall(r"^(\d+) -> (\d+) ", text, re.M))


def chain(name="chain"):
    return Sequential(
        [Input((4,)), layers.Dense(3, "relu", name=f"{name}_a"), layers.Dense(2, name=f"{name}_b")], name=name
    )


def branches():
    x = Input((4,), name="x")
    hidden = layers.Dense(4, name="hidden")
    return Model(x, [ops.exp(layers.Add(name="sum")([hidden(x), hidden(hidden(x))])), chain()(x)])


def test_a_chain(tmp_path):
    text = description(tmp_path, chain())
    assert list(boxes(text).values()) == ["Dense", "Dense"] and edges(text) == [("Dense", "Dense")]
    assert text.startswith('digraph {\nrankdir="TB"; concentrate=true; dpi=200; splines="ortho";\n')
    text = description(tmp_path, chain(), rankdir="LR", dpi=96, splines="curved")
    assert 'rankdir="LR"; concentrate=true; dpi=96; splines="curved";' in text


def test_branches_and_shared_layers(tmp_path):
    text = description(tmp_path, branches(), show_layer_names=True)
    assert edges(text) == [
        ("hidden (Dense)", "hidden (Dense)"), ("hidden (Dense)", "sum (Add)"), ("sum (Add)", "exp (Exp)"),
        ("x (InputLayer)", "chain (Sequential)"), ("x (InputLayer)", "hidden (Dense)"),
    ]  # fmt: skip


def test_models_in_models(tmp_path):
    x = Input((4,), name="outer")
    y = Input((4,), name="inner")
    inner = Model(y, chain()(layers.Dense(4, name="first")(y)), name='the "inner" one')
    outer = Model(x, layers.Dense(1, name="last")(inner(x)))
    text = description(tmp_path, outer, show_layer_names=True, expand_nested=True)
    assert edges(text) == [
        ("chain_a (Dense)", "chain_b (Dense)"), ("chain_b (Dense)", "last (Dense)"),
        ("first (Dense)", "chain_a (Dense)"), ("inner (InputLayer)", "first (Dense)"),
        ("outer (InputLayer)", "inner (InputLayer)"),
    ]  # fmt: skip
    assert text.count("subgraph cluster_") == 2 and 'label="the \\"inner\\" one";' in text
    plain = description(tmp_path, outer, show_layer_names=True)
    assert "the &quot;inner&quot; one (Functional)" in boxes(plain).values() and "subgraph" not in plain
    text = description(tmp_path, Sequential([chain("one"), chain("two")]), show_layer_names=True, expand_nested=True)
    assert ("one_b (Dense)", "two_a (Dense)") in edges(text) and len(edges(text)) == 3


def test_what_boxes_tell(tmp_path):
    model = chain()
    model.layers[1].trainable = False
    text = description(
        tmp_path, model, show_shapes=True, show_dtype=True, show_layer_activations=True, show_trainable=True
    )
    plain = re.sub("<[^>]*>", " ", text)
    for part in ("Input shape:  (None, 4)", "Output shape:  (None, 3)", "Output dtype:  float32", "Activation:  relu",
                 " Trainable ", "Non-trainable", "Activation:  linear"):  # fmt: skip
        assert part in plain, part
    assert 'colspan="4"' in text and "Input shape" not in re.sub("<[^>]*>", " ", description(tmp_path, model))


def test_a_model_without_a_graph_is_one_box(tmp_path):
    class Own(Model):
        def __init__(self):
            super().__init__(name="own <one>")
            self.dense = layers.Dense(2)

        def call(self, inputs):
            return self.dense(inputs)

    model = Own()
    with pytest.raises(ValueError, match="'own <one>' is not built"):
        description(tmp_path, model)
    model.build((None, 3))
    text = description(tmp_path, model, show_layer_names=True, show_shapes=True)
    assert list(boxes(text).values()) == ["own &lt;one&gt; (Own)"] and edges(text) == []


def test_graphviz_makes_the_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(vis_utils.shutil, "which", lambda name: None)
    with pytest.raises(ImportError, match=r"needs Graphviz .* pass to_file='model\.dot'"):
        utils.plot_model(chain(), tmp_path / "model.png")
    program = tmp_path / "dot"
    program.write_text(
        f'#!{sys.executable}\nimport sys\nopen(sys.argv[3], "w").write(sys.argv[1] + sys.stdin.read())\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr(vis_utils.shutil, "which", lambda name: str(tmp_path / name))
    for name, format in (("model.svg", "svg"), ("model", "png"), ("model.pdf", "pdf")):
        utils.plot_model(chain(), str(tmp_path / name))
        assert (tmp_path / name).read_text().startswith(f"-T{format}digraph {{")
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no such format')\n")
    with pytest.raises(ValueError, match=r"could not write .*model\.xyz: no such format"):
        utils.plot_model(chain(), tmp_path / "model.xyz")


def test_a_notebook_without_graphviz_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(vis_utils.shutil, "which", lambda name: None)
    monkeypatch.setitem(sys.modules, "IPython.core.magics.namespace", SimpleNamespace())
    assert utils.plot_model(chain(), tmp_path / "model.png") is None
    assert "needs Graphviz" in capsys.readouterr().out


def test_pydot_makes_the_graph(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydot", None)
    with pytest.raises(ImportError, match="model_to_dot needs pydot; run pip install pydot"):
        utils.model_to_dot(chain())
    graph = SimpleNamespace(get_subgraphs=lambda: ["cluster"])
    given = []
    monkeypatch.setitem(
        sys.modules, "pydot", SimpleNamespace(graph_from_dot_data=lambda text: given.append(text) or [graph])
    )
    assert utils.model_to_dot(chain()) is graph and "chain_a" in given[0]
    assert utils.model_to_dot(chain(), subgraph=True) == "cluster" and 'label="chain";' in given[1]
    with pytest.raises(ValueError, match="has no option 'layer_range'"):
        utils.model_to_dot(chain(), layer_range=["a", "b"])
