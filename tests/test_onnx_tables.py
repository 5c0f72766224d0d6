"""Models of tables in ONNX: the preprocessing that stands in the file does what nissl predict does."""

import json

import numpy as np
import onnx
import pandas as pd
import pytest
from command import call, fails
from hypothesis import given, settings
from hypothesis import strategies as st
from test_onnx import session

import nissl as ns
from nissl import nn, tables
from nissl.errors import OptionError
from nissl.exchange.onnx import make_table_onnx
from nissl.exchange.onnx_nodes import Nodes
from nissl.exchange.onnx_tables import Number, calendar

ROWS = 90


def passengers(hours=False):
    """Return rows with a column of each kind, and missing cells in some."""
    random = np.random.default_rng(0)
    i = np.arange(ROWS)
    days = pd.Timestamp("1968-02-25") + pd.to_timedelta(random.integers(0, 5000, ROWS), unit="D")
    times = days + pd.to_timedelta(random.integers(0, 86400, ROWS), unit="s") if hours else days
    frame = pd.DataFrame(
        {
            "age": np.where(i % 7 == 3, np.nan, random.normal(30, 10, ROWS).round(1)),
            "class": random.integers(1, 4, ROWS),
            "port": pd.Series(random.choice(["Cherbourg", "Queenstown", "Southampton"], ROWS)).where(i % 11 != 5),
            "deck": random.choice([f"deck {k}" for k in range(3)], ROWS),
            "alone": random.choice(["yes", "no"], ROWS),
            "boarded": pd.Series(times.strftime("%Y-%m-%d %H:%M:%S" if hours else "%Y-%m-%d")).where(i % 13 != 1),
        }
    )
    frame["survived"] = np.where((frame["class"] + random.random(ROWS)) < 2.2, "yes", "no")
    frame["fare"] = 10_000 - 20 * frame["class"] + random.random(ROWS).round(2)
    return frame


def model_for(frame, target, **options):
    prepare = tables.Preprocessor.fit(tables.from_frame(frame, target, **options))
    ns.manual_seed(0)
    network = nn.Sequential(nn.Linear(prepare.width, 8), nn.ReLU(), nn.Linear(8, prepare.outputs))
    return tables.TableModel(network, prepare)


def inputs_for(model, frame):
    """Return the columns as the ONNX model takes them."""
    given = {}
    for column in model.preprocessor.columns:
        cells = frame[column.name]
        if column.kind == "number":
            values = cells.to_numpy(float)
        elif column.kind == "date":
            times = np.array(["NaT" if pd.isna(cell) else cell for cell in cells], "datetime64[s]")
            values = (times - np.datetime64(0, "s")) / np.timedelta64(1, "D")
        else:
            values = np.array(["" if pd.isna(cell) else str(cell) for cell in cells], object)
        given[column.name] = np.asarray(values)[:, None]
    return given


def check(model, frame):
    exported = session(make_table_onnx(model))
    for count in (1, 2, 7, len(frame)):
        rows = frame[:count]
        (found,) = exported.run(None, inputs_for(model, rows))
        expected = model.predict(rows)[:, None] if model.target.task == "regression" else model.predict_proba(rows)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("hours", [False, True])
@pytest.mark.parametrize("target", ["survived", "fare"])
def test_a_model_of_a_table_gives_the_same(target, hours):
    frame = passengers(hours).drop(columns="fare" if target == "survived" else "survived")
    model = model_for(frame, target)
    assert {column.kind for column in model.preprocessor.columns} == set(tables.columns.KINDS)
    check(model, frame)


def test_what_is_unknown_missing_or_written_otherwise_is_taken_as_by_predict():
    frame = passengers()
    model = model_for(frame, "survived")
    other = frame.assign(
        age=1e5,
        deck=["deck 9", None, "NA", ""] * (ROWS // 4) + ["deck 1", "Deck 1"],
        alone=["Y", "FALSE", "true", "perhaps", None, "nO"] * (ROWS // 6),
        boarded=["2000-02-29", None, "1900-03-01", "2100-12-31", "1582-10-15"] * (ROWS // 5),
    )
    check(model, other)


def test_rare_categories_and_those_of_numbers():
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "town": [f"town {k}" for k in random.geometric(0.05, 600)],  # more than have columns of their own
            "code": random.integers(0, 4, 600),
            "y": random.normal(size=600),
        }
    )
    model = model_for(frame, "y", category=["code"])
    assert any(model.preprocessor.others)
    check(model, frame.assign(town=[*frame["town"][1:], "elsewhere"]))


def test_whole_numbers_that_are_categories_may_be_written_as_floats():
    frame = pd.DataFrame({"code": [3.0, 14.0, None, -1.0, 0.5] * 12, "y": np.arange(60) ** 2 % 7 / 3})
    model = model_for(frame, "y", category=["code"])
    assert model.preprocessor.levels == (("", "-1", "0.5", "14", "3"),)
    assert set(inputs_for(model, frame)["code"].ravel()) == {"", "-1.0", "0.5", "14.0", "3.0"}
    check(model, frame)


def test_codes_that_could_say_yes_and_no_are_categories_there_too():
    frame = pd.DataFrame({"code": ["T", "Y", "N", "F", None] * 12, "y": np.arange(60) ** 2 % 7 / 3})
    model = model_for(frame, "y")
    assert model.preprocessor.levels == (("", "F", "N", "T", "Y"),)
    check(model, frame.assign(code=["T", "Y", "t", "yes", "F"] * 12))


@settings(max_examples=200, deadline=None)
@given(st.dates(), st.integers(0, 86399))
def test_dates_have_the_parts_that_thecalendar_says(date, seconds):
    nodes = Nodes()
    parts = calendar(Number(nodes, "days"))
    # The nodes are few and plain, so they are run here by NumPy: 200 sessions would take long.
    values = {"days": np.float64((date - pd.Timestamp(0).date()).days + seconds / 86400)}
    values |= {name: onnx.numpy_helper.to_array(tensor) for name, tensor in nodes.initializers.items()}
    ops = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Floor": np.floor}
    for node in nodes.nodes:
        values[node.output[0]] = ops[node.op_type](*(values[name] for name in node.input))
    found = {part: values[number.name] for part, number in parts.items()}
    assert (found["day"], found["month"], found["weekday"]) == (date.day, date.month, date.isoweekday())
    assert found["hour"] == pytest.approx(seconds / 3600, abs=1e-4)


def test_inputs_and_output_say_what_they_are():
    document = make_table_onnx(model_for(passengers().drop(columns="fare"), "survived"))
    docs = {given.name: given.doc_string for given in document.graph.input}
    assert docs["age"] == "a number, NaN where it is missing"
    assert docs["port"] == "category, as text; '' where it is missing"
    assert docs["boarded"].startswith("a date as days since 1970-01-01")
    assert [output.name for output in document.graph.output] == ["survived"]
    found = {entry.key: entry.value for entry in document.metadata_props}
    assert json.loads(found["class names"]) == ["no", "yes"]
    assert {tensor.name for tensor in document.graph.initializer} >= {"0.weight", "medians", "means", "scales"}


def test_a_table_model_is_exported_from_python_and_by_the_command(tmp_path):
    frame = passengers().drop(columns="survived")
    model = model_for(frame, "fare")
    model.save(tmp_path / "m.safetensors", notes={"data set": "passengers.csv"})
    ns.export_onnx(model, tmp_path / "python.onnx")
    status, out, err = call("export", tmp_path / "m.safetensors")
    assert (status, err) == (0, "")
    assert "age float64 (batch, 1), class float64 (batch, 1), port text (batch, 1)" in out
    assert " -> fare float64 (batch, 1), opset 18" in out
    fails(2, "MODEL predicts numbers", "export", tmp_path / "m.safetensors", "--probabilities")
    fails(2, "MODEL was trained on a table", "export", tmp_path / "m.safetensors", "--input-shape", 3)
    answers = [
        session(str(tmp_path / name)).run(None, inputs_for(model, frame))[0] for name in ("python.onnx", "m.onnx")
    ]
    assert np.array_equal(*answers)
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert metadata["data set"] == "passengers.csv"
    assert "table" not in metadata
    with pytest.raises(OptionError, match="inputs of a model of a table are its columns"):
        ns.export_onnx(model, tmp_path / "m.onnx", input_shape=(3,))


def test_columns_may_have_any_name():
    frame = passengers().drop(columns="survived")
    renamed = frame.rename(columns={"age": "x", "port": "y", "class": "cast_20", "deck": "größe (m²)"})
    check(model_for(renamed, "fare"), renamed)


@pytest.mark.parametrize("target", ["fare", "means"])
def test_columns_may_have_the_names_of_constants(target):
    names = {"age": "medians", "class": "scales", "deck": "preprocessing.medians", "fare": target}
    frame = passengers().drop(columns="survived").rename(columns=names)
    model = model_for(frame, target)
    check(model, frame)
    found = {tensor.name for tensor in make_table_onnx(model).graph.initializer}
    assert found >= {"preprocessing.preprocessing.medians", "preprocessing.scales"}


def test_columns_may_have_the_names_of_nodes_of_columns_before_them():
    frame = passengers().drop(columns=["survived", "port", "alone"])
    frame = frame[["boarded", "age", "class", "deck", "fare"]]
    made = [node.output[0] for node in make_table_onnx(model_for(frame, "fare")).graph.node]
    renamed = frame.rename(columns={"age": made[0], "class": made[1], "deck": made[2]})
    check(model_for(renamed, "fare"), renamed)


def test_a_column_with_the_name_of_a_parameter_is_refused_with_advice_that_helps():
    frame = passengers().drop(columns="survived").rename(columns={"age": "0.weight"})
    model = model_for(frame, "fare")
    with pytest.raises(OptionError, match=r"'0\.weight' has the name of .*nn\.Sequential\(model\.network"):
        make_table_onnx(model)
    check(tables.TableModel(nn.Sequential(model.network), model.preprocessor), frame)
    with pytest.raises(OptionError, match=r"'class' has the name of the output .* output_name"):
        make_table_onnx(model_for(passengers().drop(columns="fare"), "survived"), output_name="class")
