"""Computational graphs: which operations made a Tensor, with value and gradient on every edge.

The layout is that of Sugiyama, Tagawa and Toda (1981). Leaves and operations stand in layers from left to right, each
behind all that it needs. Between two layers lies another, in which every edge has a place of its own: the first of them
holds its label, the others lead it past the operations in between. Since labels are placed like operations, they cannot
cover each other. Within a layer, the order is improved by sweeps that move everything near its neighbours; then the
heights are chosen so that edges run as straight as they can.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nissl.autodiff import Edge, gradient_flow
from nissl.errors import DataError, OptionError
from nissl.plots.checks import Array, mapping, said
from nissl.plots.style import BLACK, BLUE, POINTS, TEXT, TITLE, VERMILLION, as_bytes, new_figure, plain, text_width
from nissl.tensor import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_OPERATIONS = 150
MOST_NUMBERS = 3  # that are written out; of larger Tensors, shape and norm are
SYMBOLS = {"add": "+", "sub": "−", "mul": "×", "div": "÷", "neg": "−", "pow": "xʸ", "square": "x²", "matmul": "@"}
SWEEPS = 12
GREY = "#555555"
# In points: heights of a node and of a label with two lines, distances around them, width of a dummy.
NODE, LABEL, GAP, BEND = 30.0, 2.5 * TEXT, 10.0, 26.0


@dataclass(eq=False)
class Place:
    """Something that takes a place in a layer: a leaf, an operation, the result, or an edge that passes through."""

    kind: str  # leaf, operation, result, label or bend
    lines: tuple[str, ...] = ()
    width: float = 0.0
    height: float = 0.0
    layer: int = 0
    x: float = 0.0
    y: float = 0.0
    before: list[Place] = field(default_factory=list)
    after: list[Place] = field(default_factory=list)


def computational_graph(
    tensor: Tensor, names: Mapping[str, Tensor] | None = None, *, title: str | None = None
) -> Figure:
    """Draw how a Tensor of one element was computed, from left to right, with value and gradient on every edge.

    Above an edge stands the value that goes along it, below it in red the gradient that flows back: the derivative of
    the result with respect to the value, as far as it comes through this edge. A leaf that is used several times shows
    the sum, Σ, which is its gradient. Constants have none. `names` gives names to leaves and intermediate results;
    Parameters have theirs once `model.parameters()` was called. Of a Tensor of more than three elements, the shape is
    shown, and the norm between ‖ ‖. A notebook shows the picture as SVG; `save` writes it as SVG or PNG.

    >>> import nissl as ns
    >>> x = ns.tensor(3.0, requires_grad=True)
    >>> figure = computational_graph(2.0 * x, {"x": x})
    >>> [text.get_text() for text in figure.axes[0].texts][:4]
    ['constant', 'x', '×', 'y']
    """
    if not isinstance(tensor, Tensor):
        raise OptionError(f"computational_graph got {said(tensor)}; expected a Tensor, the result of operations")
    names = mapping("computational_graph", "names", names, "{name: Tensor}") if names else {}
    if not all(isinstance(named, Tensor) for named in names.values()):
        raise DataError(f"computational_graph got names = {said(names)}; expected {{name: Tensor}}")
    edges = gradient_flow(tensor)
    operations = len({id(edge.target) for edge in edges})
    if not 0 < operations <= MOST_OPERATIONS:
        raise DataError(
            f"computational_graph got a Tensor made by {operations} operations; it draws from 1 to {MOST_OPERATIONS}. "
            "Compiled functions print theirs: f.graph"
        )
    layers = _layers(_places(tensor, edges, names))
    for layer in layers:
        for place in layer:
            _measure(place)
    _order(layers)
    width = _set_columns(layers)
    height = _set_heights(layers)
    above = 1.6 * TITLE if title else 0.0
    title_width = text_width(plain(title, 100), TITLE) if title else 0.0
    width = max(width, title_width)

    figure = new_figure((width + 2 * GAP) / POINTS, (height + above + 2 * GAP) / POINTS)
    figure._repr_svg_ = functools.partial(_svg, figure)  # type: ignore[attr-defined]
    figure.set_layout_engine("none")  # all places are known
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-GAP, width + GAP), ylim=(-GAP, height + above + GAP))
    axes.set_axis_off()
    if title:
        axes.text(width / 2, height + above, plain(title, 100), fontsize=TITLE, ha="center", va="top")
    for place in sorted((place for layer in layers for place in layer), key=lambda place: place.kind == "label"):
        _draw(axes, place)
    return figure


def _places(result: Tensor, edges: Sequence[Edge], names: Mapping[str, Tensor]) -> list[Place]:
    """Return leaves, operations and the result, joined through the labels of the edges between them."""
    named = {id(tensor): name for name, tensor in names.items()}
    found: dict[int, Place] = {}
    labels = []

    def name_of(tensor: Tensor) -> str:
        return plain(named.get(id(tensor)) or getattr(tensor, "path", ""), 30)

    def place_of(tensor: Tensor) -> Place:
        if id(tensor) not in found:
            if tensor.op is not None:
                found[id(tensor)] = Place("operation", (SYMBOLS.get(tensor.op.name, tensor.op.name.replace("_", " ")),))
            else:
                name = name_of(tensor) or ("variable" if tensor.requires_grad else "constant")
                parts = [edge.gradient for edge in edges if edge.source is tensor and edge.gradient is not None]
                total = [f"Σ {_number(functools.reduce(operator.add, parts))}"] if len(parts) > 1 else []
                found[id(tensor)] = Place("leaf", (name, *total))
        return found[id(tensor)]

    def join(source: Tensor, target: Place, gradient: str) -> None:
        name = name_of(source) if source.op is not None else ""
        value = _number(source, with_shape=True)
        label = Place("label", (f"{name} = {value}" if name else value, gradient))
        place = place_of(source)
        label.before, label.after = [place], [target]
        place.after.append(label)
        target.before.append(label)
        labels.append(label)

    for edge in edges:
        join(edge.source, place_of(edge.target), "" if edge.gradient is None else _number(edge.gradient))
    end = Place("result", (plain(named.get(id(result), "y"), 30),))
    named.pop(id(result), None)  # it stands in the last place, so the label need not say it again
    join(result, end, "1")
    return [*found.values(), end, *labels]


def _number(tensor: Tensor, with_shape: bool = False) -> str:
    """Return the value of a Tensor in a few characters.

    >>> _number(Tensor(650.0)), _number(Tensor([1.0, -2.5])), _number(Tensor(np.ones((3, 4))), with_shape=True)
    ('650', '(1, −2.5)', '3×4, ‖3.46‖')
    """
    values = tensor.numpy()
    if values.size > MOST_NUMBERS or values.size == 0:
        shape = f"{'×'.join(map(str, values.shape))}, " if with_shape else ""
        return f"{shape}‖{np.linalg.norm(values.astype(float)):.3g}‖"
    written = [f"{value:.4g}".replace("-", "−") for value in values.ravel().tolist()]
    return written[0] if len(written) == 1 else f"({', '.join(written)})"


def _layers(places: Sequence[Place]) -> list[list[Place]]:
    """Put every place into a layer: leaves, operations and the result into even ones, labels and bends between them."""
    solid = [place for place in places if place.kind != "label"]
    # An operation comes behind all its inputs, and inputs were made before it.
    for place in _in_order(solid):
        place.layer = max((label.before[0].layer + 2 for label in place.before), default=0)
    for place in solid:
        if place.kind == "leaf":
            place.layer = min(label.after[0].layer for label in place.after) - 2
    layers: list[list[Place]] = [[] for _ in range(max(place.layer for place in solid) + 1)]
    for place in _by_depth(solid[[place.kind for place in solid].index("result")]):
        if place.kind != "label":
            layers[place.layer].append(place)
            continue
        (source,), (target,) = place.before, place.after
        place.layer = source.layer + 1
        layers[place.layer].append(place)
        last = place
        for layer in range(place.layer + 1, target.layer):
            bend = Place("bend", layer=layer, before=[last])
            last.after = [bend]
            layers[layer].append(bend)
            last = bend
        last.after = [target]
        target.before[target.before.index(place)] = last
    return layers


def _in_order(places: Sequence[Place]) -> Iterator[Place]:
    """Yield places, each after all those that its edges come from."""
    waiting = {place: len(place.before) for place in places}
    ready = [place for place in places if not place.before]
    while ready:
        place = ready.pop()
        yield place
        for label in place.after:
            (target,) = label.after
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)


def _by_depth(end: Place) -> list[Place]:
    """Return all places, going from the result to its inputs, the first one first: so a tree has no crossings."""
    found: list[Place] = []
    seen = {end}
    stack = [end]
    while stack:
        place = stack.pop()
        found.append(place)
        for other in reversed(place.before):
            if other not in seen:
                seen.add(other)
                stack.append(other)
    return found


def _measure(place: Place) -> None:
    """Say how much room a place takes."""
    text = max((text_width(line, TEXT) for line in place.lines), default=0.0)
    sizes = {"label": (text + 6, LABEL), "bend": (0.0, BEND), "operation": (max(text + 16, NODE), NODE)}
    place.width, place.height = sizes.get(place.kind, (text + 18, NODE + 1.2 * TEXT * (len(place.lines) - 1)))


def _order(layers: Sequence[list[Place]]) -> None:
    """Reorder each layer by where the neighbours are, forward and back again; keep the order with fewest crossings."""
    best, fewest = [list(layer) for layer in layers], _crossings(layers)
    ranks = {place: rank for layer in layers for rank, place in enumerate(layer)}
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        for layer in layers if forward else layers[::-1]:

            def middle(place: Place, forward: bool = forward) -> float:
                near = [ranks[other] for other in (place.before if forward else place.after)]
                return sum(near) / len(near) if near else ranks[place]

            layer.sort(key=middle)
            ranks.update((place, rank) for rank, place in enumerate(layer))
        crossings = _crossings(layers)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in layers], crossings
    for layer, order in zip(layers, best, strict=True):
        layer[:] = order


def _crossings(layers: Sequence[Sequence[Place]]) -> int:
    """Count the pairs of edges that cross."""
    count = 0
    for layer, following in itertools.pairwise(layers):
        ranks = {place: rank for rank, place in enumerate(following)}
        ends = np.array([(i, ranks[other]) for i, place in enumerate(layer) for other in place.after])
        starts, stops = ends.reshape(-1, 2).T
        count += int(((starts[:, None] < starts) & (stops[:, None] > stops)).sum())
    return count


def _set_columns(layers: Sequence[Sequence[Place]]) -> float:
    """Set where each layer is; return the width of all."""
    left = 0.0
    for layer in layers:
        width = max(place.width for place in layer)
        for place in layer:
            place.x = left + width / 2
        left += width + BEND
    return left - BEND


def _set_heights(layers: Sequence[Sequence[Place]]) -> float:
    """Set how high each place is, near its neighbours and apart from the others of its layer; return the height."""
    for layer in layers:
        for rank, place in enumerate(layer):
            place.y = -rank * LABEL
    for sweep in range(4 * SWEEPS):
        for layer in layers if sweep % 2 == 0 else layers[::-1]:
            wanted = [_mean_height(place, sweep) for place in layer]
            for place, y in zip(layer, _apart(wanted, [place.height + GAP for place in layer]), strict=True):
                place.y = y
    every = [place for layer in layers for place in layer]
    bottom = min(place.y - place.height / 2 for place in every)
    for place in every:
        place.y -= bottom
    return max(place.y + place.height / 2 for place in every)


def _mean_height(place: Place, sweep: int) -> float:
    """Return where a place would like to be: between its neighbours, on the one side, on the other, or on both."""
    both = [*place.before, *place.after]
    near = both if sweep % 4 > 1 else (place.before if sweep % 2 == 0 else place.after) or both
    # Long edges are the first to be straight (Gansner et al., 1993).
    weights = [8 if place.kind == other.kind == "bend" else 1 for other in near]
    return sum(weight * other.y for weight, other in zip(weights, near, strict=True)) / sum(weights)


def _apart(wanted: Sequence[float], sizes: Sequence[float]) -> Array:
    """Return heights in falling order, as near to those wanted as places of these sizes can be (least squares).

    >>> _apart([0.0, 0.0, -50.0], [10.0, 10.0, 10.0])
    array([  5.,  -5., -50.])
    """
    distances = np.cumsum([0.0, *((a + b) / 2 for a, b in itertools.pairwise(sizes))])
    blocks: list[tuple[float, int]] = []  # mean and size of those that touch: pools of adjacent violators
    for height, distance in zip(wanted, distances, strict=True):
        mean, size = height + distance, 1
        while blocks and blocks[-1][0] < mean:
            other, members = blocks.pop()
            mean, size = (mean * size + other * members) / (size + members), size + members
        blocks.append((mean, size))
    return np.repeat([mean for mean, _ in blocks], [size for _, size in blocks]) - distances


def _draw(axes: Axes, place: Place) -> None:
    """Draw a place and the lines that come to it."""
    for other in place.before:
        _connect(axes, other, place)
    if place.kind == "label":
        value, gradient = place.lines
        axes.plot([_left(place), _right(place)], [place.y, place.y], color=GREY, linewidth=1.2, zorder=0)
        axes.text(place.x, place.y + 3, value, fontsize=TEXT, color=BLACK, ha="center", va="bottom")
        axes.text(place.x, place.y - 4, gradient, fontsize=TEXT, color=VERMILLION, ha="center", va="top")
    elif place.kind != "bend":
        _draw_box(axes, place)


def _draw_box(axes: Axes, place: Place) -> None:
    """Draw a leaf, an operation or the result."""
    from matplotlib.patches import Circle, FancyBboxPatch, Patch

    colour = "white" if place.kind == "operation" else "#EAF3FA"
    style: dict[str, Any] = {"facecolor": colour, "edgecolor": BLUE, "linewidth": 1.5}
    patch: Patch
    if place.kind == "operation" and place.width == NODE:
        patch = Circle((place.x, place.y), NODE / 2, **style)
    else:
        corners = f"round,pad=0,rounding_size={NODE / 2 if place.kind == 'operation' else 4}"
        corner = (_left(place), place.y - place.height / 2)
        patch = FancyBboxPatch(corner, place.width, place.height, boxstyle=corners, **style)
    axes.add_patch(patch)
    for row, line in enumerate(place.lines):
        y = place.y + 1.2 * TEXT * ((len(place.lines) - 1) / 2 - row)
        axes.text(place.x, y, line, fontsize=TEXT, color=(BLACK, VERMILLION)[row], ha="center", va="center_baseline")


def _left(place: Place) -> float:
    return place.x - place.width / 2


def _right(place: Place) -> float:
    return place.x + place.width / 2


def _slope(place: Place) -> float:
    """Return how steep the line is where it passes through a place: only at a bend it is not level."""
    if place.kind != "bend":
        return 0.0
    (before,), (after,) = place.before, place.after
    return (after.y - before.y) / (_left(after) - _right(before))


def _connect(axes: Axes, source: Place, target: Place) -> None:
    """Draw a smooth line between two places, with an arrow head at an operation and at the result."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    start, end = _right(source), _left(target)
    half = (end - start) / 2
    points = [
        (start, source.y),
        (start + half, source.y + half * _slope(source)),
        (end - half, target.y - half * _slope(target)),
        (end, target.y),
    ]
    path = Path(points, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])
    head = "-|>" if target.kind in ("operation", "result") else "-"
    axes.add_patch(
        FancyArrowPatch(
            path=path, arrowstyle=head, mutation_scale=12, color=GREY, linewidth=1.2, shrinkA=0, shrinkB=0, zorder=0
        )
    )


def _svg(figure: Figure) -> str:
    return as_bytes(figure, "svg").decode()
