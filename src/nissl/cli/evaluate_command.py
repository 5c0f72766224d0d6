"""`nissl evaluate`: how good a saved model is on the test part of a data set, or on a table."""

from __future__ import annotations

from pathlib import Path

import click

from nissl import evaluation
from nissl.cli.model_files import model_argument, open_model, table_of
from nissl.cli.options import DataSetOrTable, class_table, write_json
from nissl.data import datasets
from nissl.errors import DataError, ShapeError
from nissl.tables import TableModel
from nissl.tables.columns import check_there
from nissl.tables.reading import find_layout, read_frame
from nissl.text import counted, printable, some


@click.command("evaluate")
@model_argument
@click.argument("dataset", type=DataSetOrTable(datasets.names()), metavar="DATASET|TABLE")
@click.option("--json", "as_json", is_flag=True, help="Write the results as one JSON object.")
def command(model: str, dataset: str | Path, as_json: bool) -> None:
    """Evaluate MODEL, a .safetensors file, on the test examples of DATASET, or on the rows of TABLE."""
    saved = open_model(model)
    if isinstance(dataset, Path):
        evaluate_table(table_of(saved, model), dataset, as_json)
        return
    if saved.table is not None:
        raise DataError(f"{model} takes a table, such as a file data.csv; {dataset} is a data set")
    _, test = datasets.load(dataset)
    if saved.input_shape is not None and test.x.shape[1:] != saved.input_shape:
        raise ShapeError(
            f"{model} takes rows of shape {saved.input_shape}, but {dataset} has rows of shape {test.x.shape[1:]}"
        )
    if saved.class_names and saved.class_names != list(test.class_names or ()):
        click.echo(
            f"{model} tells {some(saved.class_names, 3)} apart, but {dataset} has {some(test.class_names or (), 3)}; "
            "they are compared by their numbers",
            err=True,
        )
    found = evaluation.evaluate(saved.model, test)
    if as_json:
        write_json({"loss": found.loss, "accuracy": found.accuracy, "confusion_matrix": found.confusion_matrix})
    else:
        click.echo(str(found))


def evaluate_table(model: TableModel, path: Path, as_json: bool) -> None:
    """Say how good a model of a table is on the rows of a file."""
    prepare = model.preprocessor
    layout = find_layout(path)
    check_there([model.target.name, *(column.name for column in prepare.columns)], layout.names, path.name)
    text = [column.name for column in prepare.columns if column.kind != "number"]
    frame = read_frame(layout, [*text, model.target.name] if model.target.task == "classification" else text)
    for remark in prepare.remarks(frame):
        click.echo(f"{path.name}: {remark}", err=True)
    found = model.evaluate(frame)
    if found.rows < len(frame):
        click.echo(f"{path.name}: {counted(len(frame) - found.rows, 'row')} without a target left out", err=True)
    if as_json:
        matrix = found.confusion_matrix
        write_json({**found.metrics, "baseline": dict(found.baseline), "rows": found.rows, "confusion_matrix": matrix})
        return
    click.echo(f"{counted(found.rows, 'row')}\n{found}")
    if found.confusion_matrix is not None:
        click.echo(f"\n{class_table(found.confusion_matrix, list(map(printable, model.target.classes)))}")
