"""How things show themselves in a notebook: arrays as tables, pictures within a text, a bar that moves."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

SHOWN = 12  # rows and columns of an array at most; of more, the middle is left out
GAP = "…"


def is_notebook() -> bool:
    """Return whether this runs in the kernel of a notebook, which shows HTML."""
    ipython = sys.modules.get("IPython")  # who runs in a notebook has imported it
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and "IPKernelApp" in shell.config


def table(head: Sequence[str], rows: Iterable[Sequence[str]], note: str = "") -> str:
    """Return a table with a row of heads, if there are any, and a note below it.

    >>> table(["x"], [["<1"]])
    '<table><tr><th>x</th></tr><tr><td>&lt;1</td></tr></table>'
    """
    lines = [_row("th", head)] if head else []
    lines += [_row("td", row) for row in rows]
    below = f"<p>{_escaped(note)}</p>" if note else ""
    return f"<table>{''.join(lines)}</table>{below}"


def _row(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{_escaped(cell)}</{tag}>' for cell in cells)}</tr>"


def _escaped(text: str) -> str:
    import html  # here, as it takes a while to load

    return html.escape(text)


def text(lines: str) -> str:
    """Return text whose lines and columns stay as they are."""
    return f"<pre>{_escaped(lines)}</pre>"


def array_table(array: npt.NDArray[Any], note: str) -> str:
    """Return an array of one or two axes as a table of its numbers."""
    rows = array.reshape(1, -1) if array.ndim == 1 else array
    kept = rows[np.ix_(*map(_ends, rows.shape))]
    cells = [[f"{number:.4g}" if array.dtype.kind == "f" else str(number) for number in row] for row in kept.tolist()]
    if rows.shape[1] > SHOWN:
        cells = [[*row[: SHOWN // 2], GAP, *row[SHOWN // 2 :]] for row in cells]
    if rows.shape[0] > SHOWN:
        cells.insert(SHOWN // 2, [GAP] * len(cells[0]))
    return table([], cells, note)


def _ends(size: int) -> npt.NDArray[np.int64]:
    """Return the places of an axis that are shown."""
    places = np.arange(size)
    return places if size <= SHOWN else np.concatenate([places[: SHOWN // 2], places[-SHOWN // 2 :]])


def picture(figure: Any) -> str:
    """Return a Figure of `nissl.plots` as an image that is part of the text."""
    import base64  # here, as it is seldom needed

    png = base64.b64encode(figure._repr_png_()).decode()
    return f'<img src="data:image/png;base64,{png}" style="max-width: 100%">'


def bar() -> Callable[[float, str, Sequence[str]], None]:
    """Show a bar in the notebook, and return what moves it: a function of the share that is done, a label, and lines.

    The lines stand above it. A share of 1 takes the bar away and leaves the lines.
    """
    from IPython.display import HTML, display

    handle = display(HTML(""), display_id=True)  # type: ignore[no-untyped-call]

    def move(share: float, label: str, lines: Sequence[str]) -> None:
        above = text("\n".join(lines)) if lines else ""
        drawn = "" if share >= 1 else f'<progress max="1" value="{share:.4f}"></progress> {_escaped(label)}'
        handle.update(HTML(above + drawn))  # type: ignore[no-untyped-call]

    return move
