"""How things show themselves in a notebook: one is run in a kernel, as Jupyter does it."""

import base64
import re
from html import escape

import nbclient
import nbformat
import numpy as np
import pandas as pd
import pytest

import nissl as ns
from nissl import nn, notebook, plots

CELLS = {
    "tensor": "import nissl as ns\nfrom nissl import nn\nx = ns.tensor([[1.0, -2.0]], requires_grad=True)\nx",
    "model": "model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))\nmodel",
    "history": """import numpy as np
ns.manual_seed(0)
points = np.random.default_rng(0).random((60, 2))
data = points, (points.sum(axis=1) > 1).astype(int)
ns.fit(model, data, validation=data, epochs=30, batch_size=10, engine="numpy", seed=0)""",
    "quiet": 'ns.fit(model, data, epochs=1, engine="numpy", progress=False).rows[0]["loss"] > 0',
    "evaluation": "ns.evaluate(model, data)",
    "graph": "from nissl import plots\nplots.computational_graph((x * x).sum())",
}


@pytest.fixture(scope="module")
def shown():
    """Return what each cell showed: its outputs, by kind."""
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS.values()]
    document = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(document, timeout=120, kernel_name="python3").execute()
    return {
        name: [output.data if "data" in output else output for output in cell.outputs]
        for name, cell in zip(CELLS, document.cells, strict=True)
    }


def picture_in(html):
    return base64.b64decode(re.search('src="data:image/png;base64,([^"]+)"', html)[1])


def test_a_notebook_shows_tables_pictures_and_a_bar(shown):
    ((tensor,), (model,), (graph,)) = (shown[name] for name in ("tensor", "model", "graph"))
    assert tensor["text/html"] == (
        "<table><tr><td>1</td><td>-2</td></tr></table><p>tensor 1×2 float32, requires_grad=True</p>"
    )
    assert "<td>Linear(2, 3)</td><td>2×3 3</td><td>9</td>" in model["text/html"]
    assert graph["image/svg+xml"].startswith("<?xml")
    bar, history = shown["history"]
    lines = re.search("<pre>(.*)</pre>", bar["text/html"], re.DOTALL)[1].splitlines()
    assert [line.split()[1] for line in lines] == [f"{i}/30" for i in range(11, 31)]  # the last twenty
    assert "<progress" not in bar["text/html"]  # it is over
    assert picture_in(history["text/html"]).startswith(b"\x89PNG")
    assert "epoch 30: loss" in history["text/html"]
    (evaluation,) = shown["evaluation"]
    assert picture_in(evaluation["text/html"]).startswith(b"\x89PNG")
    assert "accuracy" in evaluation["text/html"]


def test_a_quiet_training_shows_no_bar(shown):
    (found,) = shown["quiet"]
    assert found == {"text/plain": "True"}


def test_this_is_no_notebook():
    assert not notebook.is_notebook()


def test_a_long_array_leaves_out_its_middle():
    found = ns.tensor(np.arange(260.0).reshape(20, 13))._repr_html_()
    rows = [re.findall("<td>(.*?)</td>", row) for row in re.findall("<tr>(.*?)</tr>", found)]
    assert [row[0] for row in rows] == [
        "0",
        "13",
        "26",
        "39",
        "52",
        "65",
        "…",
        "182",
        "195",
        "208",
        "221",
        "234",
        "247",
    ]
    assert rows[0] == ["0", "1", "2", "3", "4", "5", "…", "7", "8", "9", "10", "11", "12"]
    assert ns.tensor(np.arange(12))._repr_html_().count("<td>") == 12


@pytest.mark.parametrize("value", [ns.tensor(2.0), ns.zeros((2, 2, 2)), ns.zeros((0, 3)), ns.zeros(0)])
def test_what_no_table_can_hold_is_text(value):
    assert value._repr_html_() == notebook.text(repr(value))


def test_names_are_no_html():
    evaluation = ns.evaluate(nn.Linear(2, 1), (np.eye(2), np.ones((2, 1))), metrics={"<b>": lambda y, t: 1.0})
    assert "&lt;b&gt; 1.0000" in evaluation._repr_html_()
    assert (
        ns.fit(nn.Linear(2, 1), (np.eye(2), np.ones((2, 1))), epochs=1, engine="numpy")._repr_html_().count("<img") == 1
    )


@pytest.mark.parametrize(("values", "picture"), [(["a&b", "<c>"], "confusion_matrix"), ([0.5, 2e4], "predictions")])
def test_tables_and_their_evaluations_are_tables_of_html(values, picture, monkeypatch):
    frame = pd.DataFrame({"<b>x</b>": [i % 7 for i in range(40)], "k": values * 20})
    table = ns.tables.from_frame(frame, target="k")
    assert repr(table) == str(table)  # at the prompt too, not all rows
    html = table._repr_html_()
    assert "<td>&lt;b&gt;x&lt;/b&gt;</td><td>number</td><td>0 to 6</td>" in html
    assert "<b>" not in html
    assert all(escape(line) in html for line in (table.about_target, *table.remarks))

    prepare = ns.tables.Preprocessor.fit(table)
    ns.manual_seed(0)
    model = ns.tables.TableModel(nn.Sequential(nn.Linear(prepare.width, prepare.outputs)), prepare)
    evaluation = model.evaluate(table)
    drawn, draw = [], getattr(plots, picture)
    monkeypatch.setattr(
        plots, picture, lambda *values, **labels: drawn.append((values, labels)) or draw(*values, **labels)
    )
    html = evaluation._repr_html_()
    cells = re.findall("<td>(.*?)</td>", html)
    assert [re.split("  +", line.strip()) for line in str(evaluation).splitlines()[1:]] == [
        cells[i : i + 3] for i in range(0, len(cells), 3)
    ]
    assert html.count("<img") == 1
    assert "40 rows" in html
    ((arrays, labels),) = drawn
    assert labels == {"label": "k"} if picture == "predictions" else arrays[1] == ("<c>", "a&b")
