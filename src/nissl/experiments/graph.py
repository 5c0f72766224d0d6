"""The computational graph: every operation a node, and the chain rule on every edge.

A formula is a graph of simple operations. Values flow forward along its edges. Backward flows the derivative of the
result: each operation multiplies what comes back to it by its own local derivative, and hands it on to its inputs. That
is the chain rule, one operation at a time. For f = wx + b, in the steps g = wx and f = g + b:

    ∂f/∂g = 1,  ∂f/∂b = 1           an addition hands on what comes
    ∂f/∂w = ∂f/∂g · ∂g/∂w = 1 · x   a product hands on what comes times the other factor
    ∂f/∂x = ∂f/∂g · ∂g/∂x = 1 · w

A value that is used twice gets a part from each use, and the parts add up. No operation needs to know the whole
formula, so the same walk back gives the gradient of any network.

See: Above each edge is the value that goes forward, below it in orange the derivative of the result coming back. One
more apple costs 110, as the price of 100 is taxed; one more unit of tax, 100 %, would cost another 650. The smaller
pictures show f = wx + b, a value that is used twice, and the loss of a layer: the same rules, with arrays, of
which shape and norm are shown.

Try: `nissl run graph --tax 1.25 --apples 10`; or draw a formula of your own, as SVG too:
`plots.save(plots.computational_graph(f, {"x": x}), "f.svg")`.
"""

from typing import Annotated

import numpy as np

import nissl as ns
from nissl import nn, plots
from nissl.experiments.report import Option, Report

CHAPTER = 8


def variable(value: float) -> ns.Tensor:
    """Return a number that gradients are wanted for."""
    return ns.tensor(value, dtype="float64", requires_grad=True)


def bill(
    apple_price: ns.Tensor, apples: ns.Tensor, orange_price: ns.Tensor, oranges: ns.Tensor, tax: ns.Tensor
) -> ns.Tensor:
    """Return what some apples and oranges cost, with tax."""
    return (apple_price * apples + orange_price * oranges) * tax


def gradients(result: ns.Tensor, *leaves: ns.Tensor) -> list[float]:
    """Return the derivatives of a result with respect to leaves, as backpropagation leaves them."""
    result.backward()
    return [leaf.grad.item() for leaf in leaves if leaf.grad is not None]


def run(
    report: Report,
    *,
    apples: Annotated[float, Option("number of apples, at 100", least=0, most=1000)] = 2.0,
    oranges: Annotated[float, Option("number of oranges, at 150", least=0, most=1000)] = 3.0,
    tax: Annotated[float, Option("what a price is multiplied by", least=1, most=10)] = 1.1,
) -> None:
    """Draw the graph of a bill, of f = wx + b, of x·x and of a layer's loss; check the derivatives of the first."""
    names = ["apple price", "apples", "orange price", "oranges", "tax"]
    leaves = [variable(value) for value in (100, apples, 150, oranges, tax)]
    total = bill(*leaves)
    bought = 100 * apples + 150 * oranges
    expected = [apples * tax, 100 * tax, oranges * tax, 150 * tax, bought]
    report.check("the bill", total.item(), f"{bought * tax:g}", bool(np.isclose(total.item(), bought * tax)))
    for name, found, value in zip(names, gradients(total, *leaves), expected, strict=True):
        report.check(f"∂ bill / ∂ {name}", found, f"{value:g}", bool(np.isclose(found, value)))
    shop = dict(zip(names, leaves, strict=True)) | {"bill": total}
    picture = plots.computational_graph(total, shop, title="What fruit costs, and how much each number matters")
    report.picture(picture, formats=("png", "svg"))

    w, x, b = variable(3.0), variable(2.0), variable(1.0)
    g = w * x
    f = g + b
    slopes = gradients(f, w, x, b)
    report.check(
        "f = wx + b, w = 3, x = 2, b = 1: ∂f/∂w, ∂f/∂x, ∂f/∂b", slopes, "x, w, 1: 2  3  1", slopes == [2, 3, 1]
    )
    report.picture(plots.computational_graph(f, {"w": w, "x": x, "b": b, "g": g, "f": f}, title="f = wx + b"), "chain")

    x = variable(3.0)
    y = x * x
    parts = [edge.gradient.item() for edge in ns.gradient_flow(y) if edge.gradient is not None]
    report.check("y = x·x, x = 3: the parts of ∂y/∂x", parts, "x and x: 3  3", parts == [3, 3])
    (total_slope,) = gradients(y, x)
    report.check("their sum, ∂y/∂x", total_slope, "2x: 6", total_slope == 6)
    report.picture(plots.computational_graph(y, {"x": x, "y": y}, title="y = x · x"), "twice")

    layer = nn.Linear(4, 5)
    layer.parameters()  # says to each what its name is
    inputs, targets = ns.random.normal((2, 4)), ns.ones((2, 5))
    loss = nn.sum_squared_error(layer(inputs).sigmoid(), targets)
    named = {"inputs": inputs, "targets": targets, "loss": loss}
    report.picture(plots.computational_graph(loss, named, title="The loss of a layer, for a batch of two"), "layer")
