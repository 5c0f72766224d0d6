"""`nissl evaluate`: how good a saved model is on the test part of a data set."""

from __future__ import annotations

import click

from nissl import training
from nissl.cli.model_files import model_argument, open_model
from nissl.cli.options import Name, write_json
from nissl.data import datasets
from nissl.errors import ShapeError


@click.command("evaluate")
@model_argument
@click.argument("dataset", type=Name("data set", datasets.names()), metavar="DATASET")
@click.option("--json", "as_json", is_flag=True, help="Write the results as one JSON object.")
def command(model: str, dataset: str, as_json: bool) -> None:
    """Evaluate MODEL, a .safetensors file, on the test examples of DATASET."""
    saved = open_model(model)
    _, test = datasets.load(dataset)
    if saved.input_shape is not None and test.x.shape[1:] != saved.input_shape:
        raise ShapeError(
            f"{model} takes rows of shape {saved.input_shape}, but {dataset} has rows of shape {test.x.shape[1:]}"
        )
    found = training.evaluate(saved.model, test)
    if as_json:
        write_json({"loss": found.loss, "accuracy": found.accuracy, "confusion_matrix": found.confusion_matrix})
    else:
        click.echo(str(found))
