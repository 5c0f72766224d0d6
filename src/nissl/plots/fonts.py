"""Letters that the font of pictures lacks, such as Chinese ones, from another installed font that has them."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_told: set[str] = set()  # letters that no font has, once they were told of


@contextlib.contextmanager
def letters_supplied(figure: Figure) -> Iterator[None]:
    """Give texts of a picture the fonts they need; matplotlib's warnings of missing letters become one, said once."""
    nowhere = _supply(figure)
    if nowhere - _told:
        _told.update(nowhere)
        warnings.warn(
            f"no installed font has the letters {''.join(sorted(nowhere))}, so pictures show boxes in their place; "
            "install one that has them, such as one of the Noto fonts, and remove matplotlib's cache of fonts",
            stacklevel=4,
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from font", UserWarning)
        yield


def _supply(figure: Figure) -> set[str]:
    """Add to the fonts of texts those that have their missing letters; return the letters that none has."""
    from matplotlib.font_manager import findfont
    from matplotlib.text import Text

    wanted = {}
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if lacking := _lacking(findfont(text.get_fontproperties()), text.get_text()):
            wanted[text] = lacking
    missing: set[str] = set().union(*wanted.values())
    found = []
    for name, path in _installed() if missing else ():
        try:
            lacking = _lacking(path, "".join(missing))
        except (OSError, RuntimeError):  # a font that has been removed, or is damaged
            continue
        if lacking != missing:
            found.append(name)
        missing = lacking
        if not missing:
            break
    for text in wanted:
        text.set_fontfamily(list(dict.fromkeys([*text.get_fontfamily(), *found])))  # saved before, it has them
    return missing


def _lacking(path: str, text: str) -> set[str]:
    """Return the letters of a text that a font lacks."""
    from matplotlib.font_manager import get_font

    if text.isascii():
        return set()
    font = get_font(path)
    return {letter for letter in text if letter.isprintable() and not font.get_char_index(ord(letter))}


def _installed() -> list[tuple[str, str]]:
    """Return names and paths of upright fonts of usual weight, those without serifs first."""
    from matplotlib.font_manager import fontManager

    upright = [font for font in fontManager.ttflist if font.style == "normal" and font.weight in (400, "normal")]
    usual = [font for font in upright if not font.name.startswith("Last Resort")]  # which has a box for each letter
    return sorted(((font.name, font.fname) for font in usual), key=lambda font: ("Sans" not in font[0], font))
