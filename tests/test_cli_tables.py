"""The command line on tables: training, prediction and evaluation of CSV files, and one clear line for each mistake."""

import csv
import gzip
import io
import os
import re
import signal
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command import call, fails
from PIL import Image
from sklearn import datasets as sklearn_datasets

import nissl as ns
from nissl import nn, tables, training
from nissl.cli import run

RUN_FILES = {"model.safetensors", "history.csv", "learning-curves.png", "importances.png", "checkpoint.safetensors"}
QUICK = ("--hidden", "8", "--epochs", "3", "--engine", "numpy")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_pictures(monkeypatch):
    monkeypatch.setattr("nissl.plots.save", lambda figure, path: None)


def pets(rows=60):
    """Return a table of pets: kilos and coat tell the kind, years are sometimes missing."""
    random = np.random.default_rng(0)
    kind = random.choice(["cat", "dog"], rows)
    return pd.DataFrame(
        {
            "kilos": np.where(kind == "cat", random.normal(4, 1, rows), random.normal(20, 5, rows)).round(2),
            "coat": random.choice(["black", "white", "brown"], rows),
            "born": [f"20{10 + i % 9}-0{1 + i % 8}-15" for i in range(rows)],
            "years": np.where(random.random(rows) < 0.1, np.nan, random.integers(0, 15, rows)),
            "kind": kind,
        }
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the path of a model of pets, trained a little."""
    folder = tmp_path_factory.mktemp("trained")
    pets().to_csv(folder / "pets.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nissl.plots.save", lambda figure, path: None)
        call("train", folder / "pets.csv", "--target", "kind", *QUICK, "--out", folder / "run")
    return folder / "run" / "model.safetensors"


@pytest.fixture(scope="module")
def trained_on_numbers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("numbers")
    pets().to_csv(folder / "pets.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nissl.plots.save", lambda figure, path: None)
        call("train", folder / "pets.csv", "--target", "kilos", *QUICK, "--out", folder / "run")
    return folder / "run" / "model.safetensors"


# Training


def test_train_on_classes_says_what_it_found_and_leaves_a_folder():
    pets(120).assign(same="x").to_csv("pets.csv", index=False)
    said = call("train", "pets.csv", "--target", "kind", "--epochs", 9, "--hidden", 8, "--out", "run")
    assert said.status == 0
    assert set(os.listdir("run")) == RUN_FILES | {"confusion-matrix.png"}
    for path in Path("run").glob("*.png"):
        with Image.open(path) as picture:
            assert min(picture.size) > 300
    assert re.search(r"^kilos +number +[\d.]+ to [\d.]+$", said.out, re.MULTILINE)
    assert re.search(r"^coat +category +3: ", said.out, re.MULTILINE)
    assert re.search(r"^born +date +2010-01-15 to", said.out, re.MULTILINE)
    assert re.search(r"^same +left out +only 'x'", said.out, re.MULTILINE)
    assert "target 'kind': 2 classes, cat (" in said.out
    assert "77 rows to train on, 19 to tell when to stop, 24 for the test" in said.out
    assert re.search(r"^balanced accuracy +\d+\.\d % +50\.0 %", said.out, re.MULTILINE)
    assert re.search("accuracy lost when a column is shuffled: kilos", said.out)
    assert all(line.startswith("epoch") for line in said.err.splitlines())


def test_train_on_numbers_leaves_their_scatter():
    pets().to_csv("pets.csv", index=False)
    said = call("train", "pets.csv", "--target", "kilos", *QUICK, "--out", "run")
    assert set(os.listdir("run")) == RUN_FILES | {"predictions.png"}
    assert "target 'kilos': a number, " in said.out
    assert "regression, since the target holds numbers" in said.out
    assert re.search(r"^RMSE +[\d.]+ +[\d.]+$", said.out, re.MULTILINE)


def test_json_has_the_keys_that_all_trainings_have(no_pictures):
    pets().to_csv("pets.csv", index=False)
    found = call("train", "pets.csv", "--target", "kind", *QUICK, "--json").json
    assert {"test_accuracy", "train_accuracy", "seconds", "epochs", "run", "task", "test", "baseline"} < set(found)
    assert found["test"]["accuracy"] == found["test_accuracy"]
    assert Path(found["run"]).match("runs/pets-*")
    assert set(found["importances"]) == {"kilos", "coat", "born", "years"}
    found = call("train", "pets.csv", "--target", "kilos", *QUICK, "--json").json
    assert {"test_r2", "train_r2", "seconds", "epochs", "run"} < set(found)
    losses = pd.read_csv(Path(found["run"], "history.csv"))["validation_loss"]
    assert found["model_epoch"] == losses.argmin() + 1


@pytest.mark.parametrize(("name", "least"), [("iris", 0.8), ("breast_cancer", 0.93), ("diabetes", 0.35)])
def test_known_tables_are_learned(no_pictures, name, least):
    data = getattr(sklearn_datasets, f"load_{name}")(as_frame=True)
    frame = data.frame.rename(columns={"target": "answer"})
    if name != "diabetes":
        frame["answer"] = np.array(data.target_names)[frame["answer"]]
    frame.to_csv(f"{name}.csv", index=False)
    found = call("train", f"{name}.csv", "--target", "answer", "--engine", "numpy", "--json").json
    assert found.get("test_accuracy", found.get("test_r2")) >= least
    assert found["epochs"] < 200


def test_options_of_columns_and_task(no_pictures):
    pets().assign(name=[f"Pet {i}" for i in range(60)]).to_csv("pets.csv", index=False)
    command = ["train", "pets.csv", "--target", "years", *QUICK, "--json"]
    fails(1, "'name' .identifier: 52 different.*--drop name", *command)
    options = ["--drop", "name", "--drop", "born", "--category", "kind", "--task", "regression", "--test-fraction", 0.5]
    found = call(*command, *options).json
    assert found["task"] == "regression"
    assert set(found["importances"]) == {"kilos", "coat", "kind"}


def test_what_to_say_instead_is_told_as_options():
    frame = pets().assign(row=range(60), area=[f"{i} m²" for i in range(60)])
    frame.assign(years=["unknown", *range(59)]).rename(columns={"row": "my row"}).to_csv("pets.csv", index=False)
    message = (
        "Leave them out: .*--drop 'my row' --drop area; .*--number .*'my row'; or take as categories: --category area$"
    )
    fails(1, message, "train", "pets.csv", "--target", "kind", *QUICK)
    message = "Or leave those rows out: --task regression; or take all as classes: --task classification$"
    fails(1, message, "train", "pets.csv", "--target", "years", *QUICK)


def test_a_small_table_is_trained_on_and_a_tiny_one_refused(no_pictures):
    pets(12).to_csv("small.csv", index=False)
    pets(9).to_csv("tiny.csv", index=False)
    said = call("train", "small.csv", "--target", "kind", *QUICK)
    assert said.status == 0, said.err
    assert "so few that the numbers below say little" in said.out
    fails(1, "9 rows with a target; a network needs 10", "train", "tiny.csv", "--target", "kind", *QUICK)


def test_without_validation_all_epochs_are_run(no_pictures):
    pets().to_csv("pets.csv", index=False)
    command = ["train", "pets.csv", "--target", "kind", *QUICK, "--validation-fraction", 0]
    assert "48 rows to train on, 12 for the test" in call(*command).out
    assert call(*command, "--json").json["epochs"] == 3


def test_train_says_when_the_model_gives_all_rows_one_class(no_pictures):
    pets().to_csv("pets.csv", index=False)
    command = ["train", "pets.csv", "--target", "kind", "--engine", "numpy", "--epochs", 20, "--validation-fraction", 0]
    said = call(*command, "--activation", "sigmoid", "--hidden", "16,16,16,16,16,16,16")  # through which nothing comes
    assert re.search(
        "\nnothing was learned: all training rows get about the same answer, the class '(cat|dog)'", said.err
    ), said
    assert "nothing was learned" not in call(*command).err


def test_train_says_of_how_many_rows_of_the_test_the_importances_are_and_draws_them_by_the_seed(
    no_pictures, monkeypatch
):
    pets().to_csv("pets.csv", index=False)
    command = ["train", "pets.csv", "--target", "kind", *QUICK]
    assert "\naccuracy lost when a column is shuffled: " in call(*command).out
    monkeypatch.setattr(tables.model, "ROWS_OF_IMPORTANCE", 9)
    seeds, importances = [], tables.TableModel.importances
    monkeypatch.setattr(
        tables.TableModel,
        "importances",
        lambda self, test, **options: seeds.append(options["seed"]) or importances(self, test, **options),
    )
    assert "\naccuracy lost when a column is shuffled, on 9 of these rows: " in call(*command, "--seed", 3).out
    assert seeds == [3]


@pytest.mark.parametrize("share", [0.5, 0.02])
def test_few_steps_on_data_of_little_use_are_no_failure_though_all_rows_get_one_class(no_pictures, share):
    random = np.random.default_rng(0)
    x = random.normal(size=(2000, 3))
    chance = 0.2 * x[:, 0] + random.normal(size=2000)
    kinds = np.where(chance > np.quantile(chance, 1 - share), "rare", "frequent")
    pd.DataFrame(x, columns=["a", "b", "c"]).assign(kind=kinds).to_csv("data.csv", index=False)
    said = call("train", "data.csv", "--target", "kind", "--engine", "numpy", "--epochs", 1, "--lr", 1e-4)
    assert said.status == 0
    assert said.err.count("\n") == 1, said.err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ("pets.csv", 2, "a table needs --target, the column to predict; pets.csv has 'kilos', 'coat'"),
        ("pets.csv --target kid", 1, "no column 'kid'; did you mean 'kind'"),
        ("gone.csv --target kind", 1, "gone.csv does not exist"),
        ("gone.csv", 1, "gone.csv does not exist"),
        ("./folder --target kind", 1, "folder is a folder"),
        ("pets.csv --target kind --task sorting", 2, "unknown task 'sorting'"),
        (
            "pets.csv --target kind --drop coat,kilos",
            1,
            "'coat,kilos'. Name each by itself: --drop coat --drop kilos$",
        ),
        ("pets.csv --target kind --drop kind", 1, "'kind' is named for target and for drop"),
        ("pets.csv --target kind --number coat", 1, "'coat' is no column of numbers"),
        ("pets.csv --target kind --test-fraction 1", 2, "--test-fraction"),
        ("pets.csv --target kind --patience 3 --validation-fraction 0", 2, "--patience looks at validation data"),
        ("one.csv --target kind", 1, "'kind' is 'cat' in every row"),
        ("xor --target kind", 2, "--target is for tables"),
        ("xor --drop kind", 2, "--drop is for tables"),
        ("xor --test-fraction 0.1", 2, "--test-fraction is for tables"),
        ("petz", 2, "unknown data set 'petz'"),
        ("pets --target kind", 2, "no data set 'pets'; for the table write pets.csv"),
    ],
)
def test_mistakes_are_one_line(arguments, status, message):
    pets().to_csv("pets.csv", index=False)
    pets().assign(kind="cat").to_csv("one.csv", index=False)
    Path("folder").mkdir()
    fails(status, message, "train", *arguments.split())
    assert set(os.listdir()) == {"pets.csv", "one.csv", "folder"}


def test_resume_goes_on_as_if_nothing_had_happened(no_pictures, monkeypatch):
    def stop(event):
        if isinstance(event, ns.EpochDone) and event.epoch == 3:
            signal.raise_signal(signal.SIGINT)

    pets().to_csv("pets.csv", index=False)
    options = ["--epochs", 6, "--dropout", 0.3, "--hidden", 8, "--engine", "numpy", "--json"]
    command = ["train", "pets.csv", "--target", "kind", *options]
    call(*command, "--out", "whole")
    fit = training.fit
    monkeypatch.setattr(training, "fit", lambda *data, **options: fit(*data, **options, callbacks=[stop]))
    result = call(*command, "--out", "run")
    assert (result.status, result.out) == (130, "")
    assert "interrupted after 3 epochs" in result.err
    assert tables.load("run/model.safetensors")
    monkeypatch.setattr(training, "fit", fit)
    fails(1, "of another training", *command[:-1], "--out", "run", "--resume", "--seed", 1, "--json")
    assert call(*command, "--out", "run", "--resume").json["epochs"] == 6
    whole, gone_on = (tables.load(f"{name}/model.safetensors").network.state_dict() for name in ("whole", "run"))
    assert all(np.array_equal(whole[name], gone_on[name]) for name in whole)


def test_the_file_of_a_training_is_loaded_whole_or_not_at_all(trained):
    assert tables.load(trained).predict(pets()).shape == (len(pets()),)
    with pytest.raises(ns.ModelFileError, match=r"nissl\.tables\.load"):
        ns.load(trained)


# Prediction


def test_predict_writes_the_rows_as_they_came_with_predictions_beside_them(trained):
    frame = pets()[["born", "years", "kilos", "coat"]].assign(note='says "a, b"')
    frame["kilos"] = [f"{kilos:.3f}" for kilos in frame["kilos"]]
    frame.to_csv("new.csv", index=False)
    found = call("predict", trained, "new.csv")
    text = pd.read_csv(io.StringIO(found.out), dtype=str, keep_default_na=False)
    came = pd.read_csv("new.csv", dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(text[list(came)], came)
    assert list(text.columns[5:]) == ["prediction", "probability of cat", "probability of dog"]
    wanted = tables.load(trained).predict_proba(pets())
    np.testing.assert_allclose(text[["probability of cat", "probability of dog"]].astype(float), wanted, atol=1e-6)
    assert (text["prediction"] == np.where(wanted[:, 0] > 0.5, "cat", "dog")).all()
    assert "new.csv: column not used: 'note'" in found.err
    document = call("predict", trained, "new.csv", "--json").json
    assert document["classes"] == list(text["prediction"])
    assert document["class_names"] == ["cat", "dog"]


def test_predict_says_where_numbers_are_far_outside_those_of_training(trained):
    pets().assign(kilos=[400.0] * 2 + [3.0] * 58).to_csv("new.csv", index=False)
    found = call("predict", trained, "new.csv")
    assert re.search(
        r"^new.csv: 'kilos' is far outside training's [\d.]+ to [\d.]+ in 2 rows, such as 400$", found.err, re.M
    )


def test_predict_ignores_the_target_and_counts_what_is_strange(trained):
    frame = pets().assign(kind="?", coat=["pink"] * 3 + ["black"] * 57)
    frame.to_csv("new.csv", index=False)
    found = call("predict", trained, "new.csv")
    assert list(found.frame["prediction"].unique()) != ["?"]
    missing = pets()["years"].isna().sum()
    assert f"'years' is missing in {missing} rows" in found.err
    assert "'coat' has values never seen in training in 3 rows, such as 'pink'" in found.err
    assert "not used" not in found.err


@pytest.mark.parametrize(
    ("name", "options", "encoding"),
    [
        ("new.csv", {"sep": ";", "decimal": ","}, "utf-8"),
        ("new.tsv", {"sep": "\t"}, "utf-16"),
        ("new.csv", {}, "utf-8-sig"),
        ("new.csv.gz", {}, "latin-1"),
    ],
)
def test_predict_keeps_separator_and_decimal_comma_in_a_file(trained_on_numbers, name, options, encoding):
    frame = pets().assign(coat="weiß")
    frame.drop(columns="kilos").to_csv(name, index=False, encoding=encoding, **options)
    out = f"out{''.join(Path(name).suffixes)}"
    found = call("predict", trained_on_numbers, name, "--out", out)
    assert (found.status, found.out) == (0, "")
    written = pd.read_csv(out, **options)
    np.testing.assert_allclose(written["prediction"], tables.load(trained_on_numbers).predict(frame), rtol=1e-6)
    assert set(written["coat"]) == {"weiß"}
    content = gzip.decompress(Path(out).read_bytes()) if name.endswith("gz") else Path(out).read_bytes()
    assert content.startswith(b"\xef\xbb\xbf") == (encoding == "utf-8-sig")
    assert len(call("predict", trained_on_numbers, name, "--json").json["predictions"]) == 60


def test_predict_keeps_blanks_and_answers_as_without_them(trained):
    head, *rows = pets()[["years", "coat", "born", "kilos"]].to_csv(index=False).splitlines()
    Path("plain.csv").write_text("\n".join([head, *rows]))
    blanks = [f"  {row.replace(',', ', ')} " for row in rows]
    Path("blanks.csv").write_text("\n".join([head, *blanks]))
    plain, found = (call("predict", trained, name) for name in ("plain.csv", "blanks.csv"))
    assert [line[: len(row)] for line, row in zip(found.out.splitlines()[1:], blanks, strict=True)] == blanks
    pd.testing.assert_frame_equal(found.frame.iloc[:, 4:], plain.frame.iloc[:, 4:])
    assert found.err.replace("blanks", "plain") == plain.err


def test_predict_keeps_the_line_by_which_excel_knows_the_separator(trained_on_numbers):
    rows = pets().drop(columns="kilos").to_csv(index=False, sep=";")
    Path("new.csv").write_text(f"sep=;\n{rows}")
    assert call("predict", trained_on_numbers, "new.csv", "--out", "out.csv").status == 0
    first, names, *answers = Path("out.csv").read_text().splitlines()
    assert (first, names, len(answers)) == ("sep=;", f"{rows.splitlines()[0]};prediction", 60)


@pytest.mark.parametrize(
    ("content", "read_as", "rows"),
    [
        ("kilos\n4.5\n20.1\n", {}, [4.5, 20.1]),
        ("kilos\n4,5\n20,1\n", {"sep": ";", "decimal": ","}, [4.5, 20.1]),
        ('kilos\n4.5\n""\n', {}, [4.5, np.nan]),
    ],
    ids=["points", "commas", "missing"],
)
def test_predict_takes_a_file_of_one_column(no_pictures, content, read_as, rows):
    pets()[["kilos", "kind"]].to_csv("pets.csv", index=False)
    call("train", "pets.csv", "--target", "kind", *QUICK, "--out", "run")
    Path("new.csv").write_text(content)
    assert call("predict", "run/model.safetensors", "new.csv", "--out", "out.csv").status == 0
    written = pd.read_csv("out.csv", **read_as)
    np.testing.assert_array_equal(written["kilos"], rows)
    expected = tables.load("run/model.safetensors").predict_proba(pd.DataFrame({"kilos": rows}))
    np.testing.assert_allclose(written["probability of cat"], expected[:, 0], atol=1e-6)


def test_predict_reads_rows_that_end_in_a_separator_as_train_does(no_pictures):
    head, *rows = pets().to_csv(index=False).splitlines()
    Path("pets.csv").write_text("\n".join([head, *(f"{row}," for row in rows), ""]))
    assert call("train", "pets.csv", "--target", "kind", *QUICK, "--out", "run").status == 0
    found = call("predict", "run/model.safetensors", "pets.csv")
    assert found.status == 0
    assert list(found.frame.columns[:6]) == [*head.split(","), "prediction"]


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_target_with_decimal_commas_is_read_by_all_commands(no_pictures, task):
    frame = pets().assign(size=np.where(pets()["kind"] == "cat", "1,5", "2,5"), kilos=pets()["kilos"].astype(str))
    frame["kilos"] = frame["kilos"].str.replace(".", ",")
    frame.to_csv("pets.csv", index=False, sep=";")
    command = ["train", "pets.csv", "--target", "size", "--task", task, "--category", "years", *QUICK, "--out", "run"]
    assert call(*command, "--json").json["task"] == task
    assert call("evaluate", "run/model.safetensors", "pets.csv", "--json").json["rows"] == 60
    said = call("predict", "run/model.safetensors", "pets.csv")
    assert "never seen" not in said.err
    written = pd.read_csv(io.StringIO(said.out), sep=";", decimal=",")
    assert written["prediction"].dtype == float
    assert task == "regression" or set(written["prediction"]) <= {1.5, 2.5}
    assert set(written["size"]) == {1.5, 2.5}


@pytest.mark.parametrize(("encoding", "status"), [("utf-8", 0), ("cp1250", 0), ("ascii", 1), ("cp1252", 1)])
def test_predict_writes_no_other_letters_than_it_read(trained, monkeypatch, capfd, encoding, status):
    pets(3).assign(town="Łódź").to_csv("new.csv", index=False)
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    assert run(["predict", str(trained), "new.csv"]) == status
    sys.stdout.flush()
    written = sys.stdout.buffer.getvalue().decode(encoding) if status == 0 else ""
    assert written.count("Łódź") == (3 if status == 0 else 0)
    problem = f"standard output is encoded in {encoding}, which lacks 'Ł'; write to a file with --out"
    assert (problem in capfd.readouterr().err) == (status == 1)


def test_predict_keeps_line_ends_within_cells(trained):
    notes = ["one\rtwo", "one\ntwo", "one\r\ntwo", 'a "word"', "a, b", ""]
    with open("new.csv", "w", newline="") as file:
        pets(6).assign(note=notes).to_csv(file, index=False, quoting=csv.QUOTE_ALL)
    assert call("predict", trained, "new.csv", "--out", "answers.csv").status == 0
    with open("answers.csv", newline="") as file:
        names, *rows = csv.reader(file)
    assert [row[names.index("note")] for row in rows] == notes


@pytest.mark.parametrize(("limit", "number", "rows"), [("ROWS", 7, 7), ("CELLS", 39, 7), ("CELLS", 3, 1)])
def test_predict_takes_a_file_part_by_part(trained, monkeypatch, limit, number, rows):
    pets().to_csv("new.csv", index=False)  # of five columns
    whole = call("predict", trained, "new.csv")
    sizes = []
    probabilities = tables.TableModel.predict_proba

    def counted(model, frame):
        sizes.append(len(frame))
        return probabilities(model, frame)

    monkeypatch.setattr(tables.TableModel, "predict_proba", counted)
    monkeypatch.setattr(f"nissl.cli.predict_table.{limit}_AT_A_TIME", number)
    parts = call("predict", trained, "new.csv")
    assert max(sizes) == rows
    assert parts.err == whole.err
    pd.testing.assert_frame_equal(parts.frame, whole.frame, atol=2e-6)  # products of other sizes round otherwise


def test_predict_takes_a_table_of_many_columns_without_a_word(trained):
    pets().to_csv("new.csv", index=False)
    narrow = call("predict", trained, "new.csv")
    more = pd.DataFrame(0, index=range(60), columns=[f"column {i}" for i in range(200)])
    pd.concat([pets(), more], axis=1).to_csv("wide.csv", index=False)
    wide = call("predict", trained, "wide.csv")  # in which pandas' remarks on its work would be errors
    pd.testing.assert_frame_equal(wide.frame.drop(columns=list(more)), narrow.frame)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.rename(columns={"coat": "Coat"}), "new.csv has no column 'coat'; did you mean 'Coat'"),
        (lambda f: f.drop(columns=["coat", "born"]), "new.csv lacks the columns 'coat', 'born'"),
        (lambda f: f.assign(prediction=1), "has 'prediction' already"),
        (lambda f: f.assign(kilos="heavy"), "'kilos' holds numbers, but row 1 says 'heavy'"),
        (lambda f: f.assign(born="May"), "'born' holds dates such as 2024-12-31, but row 1 says 'May'"),
        (lambda f: f[:0], "no rows"),
    ],
)
def test_predict_names_what_is_wrong_and_leaves_no_file(trained, change, message):
    change(pets()).to_csv("new.csv", index=False)
    fails(1, message, "predict", trained, "new.csv", "--out", "out.csv")
    assert os.listdir() == ["new.csv"]


def test_predict_does_not_overwrite_what_it_reads(trained):
    pets().to_csv("new.csv", index=False)
    before = Path("new.csv").read_bytes()
    fails(1, "is the file that is read", "predict", trained, "new.csv", "--out", "new.csv")
    fails(1, "name it new.csv", "predict", trained, "new.csv", "--out", "new.xlsx")
    fails(2, "choose one", "predict", trained, "new.csv", "--out", "out.csv", "--json")
    assert Path("new.csv").read_bytes() == before
    assert os.listdir() == ["new.csv"]


# Evaluation and information


def test_evaluate_and_info_know_models_of_tables(trained):
    pets().to_csv("pets.csv", index=False)
    found = call("evaluate", trained, "pets.csv", "--json").json
    wanted = tables.load(trained).evaluate(pets())
    assert found["accuracy"] == wanted.metrics["accuracy"]
    assert found["rows"] == 60
    assert np.sum(found["confusion_matrix"]) == 60
    said = call("evaluate", trained, "pets.csv")
    assert re.search("^log loss +0", said.out, re.MULTILINE)
    assert "'years' is missing in" in said.err
    info = call("info", trained, "--json").json
    assert info["table"] == {
        "target": "kind",
        "task": "classification",
        "columns": {"kilos": "number", "coat": "category", "born": "date", "years": "number"},
    }
    assert info["data_set"] == "pets.csv"
    assert re.search(r"^coat +category +3$", call("info", trained).out, re.MULTILINE)


def test_evaluate_leaves_out_rows_without_a_target(trained_on_numbers):
    pets().assign(kilos=[None] * 10 + [5.0] * 50).to_csv("pets.csv", index=False)
    said = call("evaluate", trained_on_numbers, "pets.csv")
    assert "10 rows without a target left out" in said.err
    assert said.out.startswith("50 rows")


def test_models_and_data_that_do_not_belong_together(trained):
    pets().drop(columns="kind").to_csv("pets.csv", index=False)
    ns.save(nn.Sequential(nn.Linear(2, 2)), "other.safetensors")
    np.save("rows.npy", np.zeros((2, 4)))
    fails(1, "no column 'kind'", "evaluate", trained, "pets.csv")
    fails(1, "takes a table, such as a file data.csv; digits is a data set", "evaluate", trained, "digits")
    fails(1, "was not trained on a table", "evaluate", "other.safetensors", "pets.csv")
    fails(1, r"not a text file", "predict", trained, "rows.npy")
    fails(1, r"reads \.npy", "predict", "other.safetensors", "pets.csv")
    fails(2, "--out is for tables", "predict", "other.safetensors", "rows.npy", "--out", "x.csv")


def test_a_damaged_model_of_a_table_is_one_line(trained):
    pets().to_csv("pets.csv", index=False)
    arrays, document = ns.storage.read_arrays(trained)
    document["notes"]["table"]["columns"][0]["kind"] = "\x1b[2J"
    ns.storage.write_arrays("bad.safetensors", arrays, document)
    for command, *rest in (["info"], ["predict", "pets.csv"], ["evaluate", "pets.csv"]):
        fails(1, "does not describe the columns", command, "bad.safetensors", *rest)
        assert "\x1b" not in call(command, "bad.safetensors", *rest).err
