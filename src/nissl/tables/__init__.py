"""Tables: from a CSV file with named columns to a model that answers for the rows of another.

    table = ns.tables.read("houses.csv", target="price")     # kinds of columns found; print(table) shows them
    train, test = table.split(0.2, seed=0)
    prepare = ns.tables.Preprocessor.fit(train)              # medians, scales and categories of these rows
    network = nn.Sequential(nn.Linear(prepare.width, 64), nn.ReLU(), nn.Linear(64, prepare.outputs))
    ns.fit(network, prepare.dataset(train), epochs=50)
    model = ns.tables.TableModel(network, prepare)
    print(model.evaluate(test))                              # metrics beside those of a constant answer
    model.predict(new_rows)                                  # a DataFrame, whatever order its columns have
    model.save("houses.safetensors")
    model = ns.tables.load("houses.safetensors")             # as are the models of `nissl train houses.csv`

`reading` finds out how a file is written, `cells` reads text, numbers and dates, `columns` says what a column is,
`guessing` which one it seems to be, `table` holds the rows, `preprocessing` turns them into numbers, `model` answers
and is kept in one file.
"""

from typing import TYPE_CHECKING, Any

from nissl import habits
from nissl.tables.columns import Column, Target
from nissl.tables.model import TableEvaluation, TableModel, in_figures, load
from nissl.tables.preprocessing import Preprocessor, Unlike
from nissl.tables.table import Table, from_frame, read

__all__ = [
    "Column",
    "Preprocessor",
    "Table",
    "TableEvaluation",
    "TableModel",
    "Target",
    "Unlike",
    "from_frame",
    "in_figures",
    "load",
    "read",
]

if not TYPE_CHECKING:  # a type checker knows which names there are

    def __getattr__(name: str) -> Any:
        habits.missing(f"module {__name__!r}", name, habits.TABLES, __all__)
