"""`nissl list`: the data sets, and whether they are here."""

from __future__ import annotations

from dataclasses import asdict

import click

from nissl.cli.options import table, write_json
from nissl.data import datasets


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Write the results as one JSON object.")
def command(as_json: bool) -> None:
    """List the data sets that can be trained on, and whether they are here."""
    listing = datasets.listing()
    if as_json:
        write_json({"data_sets": [asdict(row) for row in listing]})
        return
    rows = [("data set", "here", "what", "where")]
    rows += [(row.name, "yes" if row.here else "no", row.description, row.place) for row in listing]
    click.echo(table(rows))
