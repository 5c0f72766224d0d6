"""`nissl list`: the data sets, and whether they are here; or the experiments, in their order."""

from __future__ import annotations

from dataclasses import asdict

import click

from nissl.cli.options import Name, write_json
from nissl.data import datasets
from nissl.text import table


@click.command("list")
@click.argument("what", type=Name("list", ["datasets", "experiments"]), default="datasets", metavar="[WHAT]")
@click.option("--json", "as_json", is_flag=True, help="Write the results as one JSON object.")
def command(what: str, as_json: bool) -> None:
    """List the data sets that can be trained on, and whether they are here; or the experiments.

    WHAT is datasets or experiments.
    """
    rows: list[tuple[str, ...]]
    if what == "experiments":
        from nissl.experiments.catalog import catalog

        lessons = [{"name": experiment.name, "title": experiment.title} for experiment in catalog().values()]
        rows = [("experiment", "what"), *((lesson["name"], lesson["title"]) for lesson in lessons)]
        document = {"experiments": lessons}
    else:
        listing = datasets.listing()
        rows = [("data set", "here", "what", "where")]
        rows += [(row.name, "yes" if row.here else "no", row.description, row.place) for row in listing]
        document = {"data_sets": [asdict(row) for row in listing]}
    if as_json:
        write_json(document)
    else:
        click.echo(table(rows))
