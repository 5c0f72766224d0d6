"""Neurons: one unit below the cell that it is named after, and a small network with the numbers in it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nissl.errors import DataError, ShapeError
from nissl.plots import checks
from nissl.plots.checks import Array, numbers
from nissl.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    POINTS,
    PURPLE,
    SMALL,
    TEXT,
    TITLE,
    VERMILLION,
    add_title,
    new_figure,
    plain,
    text_width,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_INPUTS = 6  # of a neuron whose dendrites keep apart
MOST_UNITS = 12  # of a layer whose numbers can be read
APART, RADIUS = 3.6, 0.55  # of a network, in its own unit: from layer to layer; of the circles
UNIT = 0.9 * POINTS  # that unit, at least
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def neuron(
    x: npt.ArrayLike,
    weights: npt.ArrayLike,
    bias: float,
    activation: Callable[[float], Any],
    *,
    title: str | None = None,
) -> Figure:
    """Draw a nerve cell, below it what a unit computes in its place, part under part, with the numbers.

    The dendrites are the inputs `x` of shape (inputs,) with their `weights` of the same shape, the soma adds up
    u = Σwx + b, the axon passes on z = f(u), for f the `activation`, a function of one number.

    >>> figure = neuron([1, 1], [0.5, 0.5], -0.7, lambda u: u > 0)
    >>> [text.get_text() for text in figure.axes[0].texts][-2:]
    ['u = Σwx + b\\n= 0.3', 'z = f(u)\\n= 1']
    """
    inputs, factors = numbers("neuron", "x", x, ("inputs",)), numbers("neuron", "weights", weights, ("inputs",))
    if inputs.shape != factors.shape:
        raise ShapeError(
            f"neuron got x of shape {inputs.shape} and weights of {factors.shape}; expected (inputs,) twice"
        )
    if len(inputs) > MOST_INPUTS:
        raise DataError(f"neuron got {len(inputs)} inputs; it draws at most {MOST_INPUTS}")
    bias = checks.number("neuron", "bias", bias)
    with np.errstate(over="ignore", invalid="ignore"):  # what gets too large is drawn as inf
        u = float(inputs @ factors) + bias
    answer = checks.checked_function("neuron", "activation", activation)(u)
    z = checks.number("neuron", "what its activation returned", answer)

    figure = new_figure(11, 7)
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set(xlim=(0, 12), ylim=(-0.1, 8.2))
    axes.set_aspect("equal")
    heights = np.linspace(1, -1, len(inputs)) * (min(1.0, 0.6 * (len(inputs) - 1)))
    _draw_cell(axes, 5.95, 1.15 * heights)
    _draw_unit(axes, 2.1, 1.75 * heights, inputs, factors, bias)
    for place, name, part in ((2.0, "dendrites", "inputs"), (5.4, "soma", "sum"), (9.2, "axon", "output")):
        axes.text(place, 7.95, name, ha="center", va="top", fontsize=TITLE, color=BLACK, style="italic")
        axes.text(place, 4.3, part, ha="center", va="center", fontsize=TEXT, color="grey")
    axes.text(5.4, 0.05, f"u = Σwx + b\n= {_number(u)}", ha="center", va="bottom", fontsize=TITLE)
    axes.text(9.2, 0.05, f"z = f(u)\n= {_number(z)}", ha="center", va="bottom", fontsize=TITLE)
    add_title(figure, title)
    return figure


def _draw_cell(axes: Axes, middle: float, heights: Array) -> None:
    """Draw dendrites that come from the left at these heights, the soma with its nucleus, and the axon."""
    soma = np.array([5.4, middle])
    flesh: dict[str, Any] = {"color": PURPLE, "solid_capstyle": "round", "zorder": 2}
    for i, height in enumerate(heights):
        tip = np.array([2.3, middle + height])
        bend = np.array([3.9, middle + 0.65 * height])
        axes.plot(*_curve(soma, bend, tip).T, linewidth=6, **flesh)
        for turn, length in ((0.55, 1.1), (-0.5, 1.25), (0.05, 1.45)):
            # Each twig is a little unlike the others, as in a cell, but the same in each picture.
            angle = np.pi + turn * (1 + 0.12 * np.sin(3 * i + length))
            end = tip + length * np.array([np.cos(angle), 0.45 * np.sin(angle)])
            axes.plot(*_curve(tip, (tip + end) / 2 + [0, 0.08 * turn], end).T, linewidth=3, **flesh)
    terminal = np.array([9.9, middle])
    axes.plot(*np.array([soma, terminal]).T, linewidth=5, **flesh)
    for left in np.arange(6.75, 9.6, 0.98):  # myelin, with the nodes of Ranvier between
        axes.plot(
            [left, left + 0.62], [middle, middle], linewidth=13, color="#E8C9DA", solid_capstyle="round", zorder=3
        )
    for rise in (0.75, 0.0, -0.75):
        end = terminal + np.array([1.2, rise])
        axes.plot(*_curve(terminal, terminal + np.array([0.7, 0.2 * rise]), end).T, linewidth=3, **flesh)
        axes.plot(*end, "o", color=PURPLE, markersize=9)
    turns = np.linspace(0, 2 * np.pi, 200)
    radius = 0.85 + 0.1 * np.cos(5 * turns + 0.4)
    axes.fill(soma[0] + radius * np.cos(turns), soma[1] + radius * np.sin(turns), color=PURPLE, zorder=4)
    axes.plot(*soma, "o", color="white", markersize=24, zorder=5)
    axes.plot(*soma, "o", color=PURPLE, markersize=9, zorder=6)


def _curve(start: Array, bend: Array, end: Array) -> Array:
    """Return points of a curve from start to end that is drawn towards `bend` between (a parabola of Bézier)."""
    t = np.linspace(0, 1, 30)[:, None]
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end


def _draw_unit(axes: Axes, middle: float, heights: Array, x: Array, weights: Array, bias: float) -> None:
    """Draw inputs, weights, sum, activation and output, from left to right."""
    sum_place, function_place, output_place = (5.4, middle), (7.9, middle), (10.4, middle)
    for i, (height, value, weight) in enumerate(zip(heights, x, weights, strict=True), start=1):
        place = (2.0, middle + height)
        _arrow(axes, place, sum_place, 0.0, 0.62)  # it begins below the box
        box = {"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": BLUE, "linewidth": 2.5}
        text = f"{_indexed('x', i)} = {_number(value)}"
        axes.text(*place, text, ha="center", va="center", fontsize=SMALL, bbox=box, zorder=5)
        across = (0.52 * place[0] + 0.48 * sum_place[0], 0.52 * place[1] + 0.48 * sum_place[1])
        label = f"{_indexed('w', i)} = {_number(weight)}"
        axes.text(*across, label, ha="center", va="center", fontsize=SMALL, bbox=_paper(), zorder=5)
    _arrow(axes, (5.4, middle + 1.75), sum_place, 0.0, 0.62)
    axes.text(
        5.4, middle + 1.75, f"b = {_number(bias)}", ha="center", va="center", fontsize=SMALL, bbox=_paper(), zorder=5
    )
    _arrow(axes, sum_place, function_place, 0.62, 0.62)
    _arrow(axes, function_place, output_place, 0.62, 0.62)
    axes.text(6.65, middle + 0.12, "u", ha="center", va="bottom", fontsize=TEXT)
    _node(axes, sum_place, "Σ", VERMILLION, 0.62, size=TITLE + 5)
    _node(axes, function_place, "f", VERMILLION, 0.62, size=TITLE + 3)
    _node(axes, output_place, "z", GREEN, 0.62, size=TITLE + 3)


def _indexed(letter: str, index: int) -> str:
    """Return a letter with an index below the line.

    >>> _indexed("w", 12)
    'w₁₂'
    """
    return letter + str(index).translate(SUBSCRIPTS)


def _number(value: float) -> str:
    """Return a number with four digits and a proper minus sign."""
    return f"{value:.4g}".replace("-", "−")


def _paper() -> dict[str, Any]:
    """Return a white ground for text on a line."""
    return {"facecolor": "white", "edgecolor": "none", "pad": 1.5}


def _node(axes: Axes, place: tuple[float, float], text: str, colour: str, radius: float, size: float = SMALL) -> None:
    from matplotlib.patches import Circle

    axes.add_patch(Circle(place, radius, facecolor="white", edgecolor=colour, linewidth=2.5, zorder=3))
    axes.text(*place, text, ha="center", va="center", fontsize=size, zorder=5)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], leave: float, arrive: float) -> None:
    """Draw an arrow that begins `leave` after its start and ends `arrive` before its end."""
    a, b = np.array(start), np.array(end)
    direction = (b - a) / np.hypot(*(b - a))
    tail, head = a + leave * direction, b - arrive * direction
    arrow: dict[str, Any] = {"arrowstyle": "-|>", "color": "grey", "linewidth": 1.5, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=(head[0], head[1]), xytext=(tail[0], tail[1]), arrowprops=arrow)


def network(
    weights: Sequence[npt.ArrayLike],
    values: Sequence[npt.ArrayLike],
    *,
    biases: Sequence[npt.ArrayLike] | None = None,
    layer_names: Sequence[str] | None = None,
    title: str | None = None,
) -> Figure:
    """Draw a network of fully connected layers, with the value of each unit and the weight of each connection.

    `weights` are the matrices, of shape (units, units of the next layer); `values` has one array of shape (units,) more
    than that: the inputs first. Blue connections have weights above 0, vermillion ones below; thick ones weigh more,
    and dotted grey ones are NaN. Between layers of so many units that the weights would cover each other, the lines
    speak alone. `biases`, of shape (units of the next layer,), are written below their units.

    >>> figure = network([[[1.0], [-2.0]]], [[1.0, 0.5], [0.0]], layer_names=["input", "output"])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['input', 'output', '1', '−2', '1', '0.5', '0']
    """
    matrices = _arrays("weights", weights, ("units", "units of the next layer"))
    layers = _arrays("values", values, ("units",))
    shifts = _arrays("biases", biases, ("units of the next layer",)) if biases is not None else []
    found = {"weights": [m.shape for m in matrices], "values": [v.shape for v in layers]}
    sizes = [v.size for v in layers]
    expected = list(itertools.pairwise(sizes))
    wrong_biases = biases is not None and [b.shape for b in shifts] != [(n,) for n in sizes[1:]]
    if len(layers) < 2 or found["weights"] != expected or wrong_biases:
        with_biases = f" and biases {[b.shape for b in shifts]}" if biases is not None else ""
        raise ShapeError(
            f"network got weights {found['weights']} and values {found['values']}{with_biases}; expected one array of "
            "values (units,) more than matrices (units, units of the next layer)"
        )
    if max(sizes) > MOST_UNITS:
        raise DataError(f"network got a layer of {max(sizes)} units; it draws at most {MOST_UNITS}")
    names = [""] * len(layers) if layer_names is None else checks.names("network", "layer_names", layer_names)
    if len(names) != len(layers):
        raise ShapeError(f"network got {len(names)} layer names for {len(layers)} arrays of values")

    tall = 1.9 * (max(sizes) - 1)
    figure = new_figure(max(3.1 * len(layers), 6), 0.9 * tall + 2.6)
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set(xlim=(-1, APART * (len(layers) - 1) + 1), ylim=(-tall / 2 - 1.0, tall / 2 + 1.3))
    axes.set_aspect("equal")
    places = [[(APART * i, 1.9 * ((n - 1) / 2 - j)) for j in range(n)] for i, n in enumerate(sizes)]
    for i, name in enumerate(names):
        room = 2 if i in (0, len(names) - 1) else APART - 0.4  # the border is one unit from the first and the last
        written = wrapped(plain(name, 30), TEXT, room * UNIT)
        axes.text(APART * i, tall / 2 + 1.0, written, ha="center", va="center", fontsize=TEXT)
    thickest = max(np.abs(matrix, where=np.isfinite(matrix), out=np.zeros(matrix.shape)).max() for matrix in matrices)
    for i, matrix in enumerate(matrices):
        _draw_connections(axes, places[i], places[i + 1], matrix, float(thickest) or 1.0)
    for i, layer in enumerate(layers):
        for j, value in enumerate(layer):
            size = SMALL * min(1, 1.8 * RADIUS * UNIT / text_width(_number(value), SMALL))
            _node(axes, places[i][j], _number(value), BLACK, RADIUS, size)
            if i and biases is not None:
                below = (places[i][j][0], places[i][j][1] - 0.75)
                text = f"b = {_number(shifts[i - 1][j])}"
                axes.text(*below, text, ha="center", va="center", fontsize=SMALL, color="grey", bbox=_paper(), zorder=4)
    add_title(figure, title)
    return figure


def _arrays(what: str, given: object, axes: tuple[str, ...]) -> list[Array]:
    if not isinstance(given, Iterable):
        raise DataError(f"network got {what} = {checks.said(given)}; expected a list of arrays")
    return [numbers("network", f"an array of {what}", array, axes) for array in given]


def _draw_connections(
    axes: Axes,
    left: Sequence[tuple[float, float]],
    right: Sequence[tuple[float, float]],
    matrix: Array,
    thickest: float,
) -> None:
    """Draw the lines between two layers; the numbers stand in one column, if there is one where they keep apart."""
    widest = max(text_width(_number(weight), SMALL) for weight in matrix.flat)
    along = _column(np.array(left)[:, 1], np.array(right)[:, 1], widest)
    for j, start in enumerate(left):
        for k, end in enumerate(right):
            weight = matrix[j, k]
            colour = "grey" if np.isnan(weight) else BLUE if weight >= 0 else VERMILLION
            width, dashes = (2, ":") if np.isnan(weight) else (0.7 + 4 * min(abs(weight) / thickest, 1), "-")
            axes.plot(*np.array([start, end]).T, dashes, color=colour, linewidth=width, alpha=0.45, zorder=1)
            if along is not None:
                place = (start[0] + along * (end[0] - start[0]), start[1] + along * (end[1] - start[1]))
                axes.text(*place, _number(weight), ha="center", va="center", fontsize=SMALL, bbox=_paper(), zorder=2)


def _column(left: Array, right: Array, widest: float) -> float | None:
    """Return how far along the lines their numbers keep clear of units and of each other, as a share, or None.

    `left` and `right` are the heights of the units, `widest` is the width of a number in points.

    >>> _column(np.array([1.0, -1.0]), np.array([0.0]), 20.0)
    0.5
    """
    margin = (RADIUS + (widest / 2 + 2) / UNIT) / APART

    def keeps_clear(along: float) -> bool:
        heights = np.sort(((1 - along) * left[:, None] + along * right).ravel())
        return margin <= along <= 1 - margin and bool((np.diff(heights) >= 1.25 * SMALL / UNIT).all())

    # The first is where they are evenly apart, by the order of the units on the left.
    candidates = (max(1 / (len(right) + 1), 0.22), len(left) / (len(left) + 1), *np.linspace(margin, 1 - margin, 50))
    return next((float(along) for along in candidates if keeps_clear(along)), None)
