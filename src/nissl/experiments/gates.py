"""Gates: what one unit can decide, and what it cannot.

A unit weighs its inputs, adds them up and fires if the sum is above 0. Rosenblatt called it a perceptron (1958):

    u = w₁x₁ + w₂x₂ + b        z = 1 if u > 0, else 0

That is firing above a threshold θ, for b = −θ. With the right weights a unit is an AND, a NAND or an OR. It need not be
told them: where it answers z and t is right, the perceptron rule moves the weights towards t,

    w ← w + (t − z) x          b ← b + (t − z)

and that ends without a mistake whenever such weights exist. For exclusive or they do not. Its four rows ask that

    b ≤ 0        w₂ + b > 0        w₁ + b > 0        w₁ + w₂ + b ≤ 0

and the two in the middle add up to w₁ + w₂ + 2b > 0, the other two to w₁ + w₂ + 2b ≤ 0. The border of a unit is a line,
and no line has (0, 1) and (1, 0) on one side, (0, 0) and (1, 1) on the other. Three units can: XOR = AND(NAND, OR). So
can three sigmoid units, whose weights could be learned, because a sigmoid has a slope.

See: AND, NAND and OR are separated by one line each. The unit that was taught XOR ends with a line that is wrong
somewhere, and its count of mistakes never gets to 0; the two networks cut a band out of the plane with two lines.

Try: `nissl run gates --epochs 10000` gives XOR more time. The weights return to where they were, so it is no use.
"""

from collections.abc import Sequence
from itertools import product
from typing import Annotated

import numpy as np

import nissl as ns
from nissl import nn, plots
from nissl.experiments.report import Option, Report

CHAPTER = 1

INPUTS = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
TRUTH = {"AND": (0, 0, 0, 1), "NAND": (1, 1, 1, 0), "OR": (0, 1, 1, 1), "XOR": (0, 1, 1, 0)}
WEIGHTS = {"AND": ((0.5, 0.5), -0.7), "NAND": ((-0.5, -0.5), 0.7), "OR": ((0.5, 0.5), -0.2)}
THRESHOLD = 0.7  # of AND
SHOWN = 20  # epochs in the picture of the rule

step = nn.Step()


def unit(x: np.ndarray, weights: Sequence[float] | np.ndarray, bias: float) -> np.ndarray:
    """Return the answers, 0 or 1, of a unit to rows of inputs."""
    return step(x @ ns.tensor(weights, dtype="float64") + bias).numpy()


def gate(name: str, x: np.ndarray) -> np.ndarray:
    """Return the answers of a gate whose weights are known."""
    return unit(x, *WEIGHTS[name])


def xor_of_gates(x: np.ndarray) -> np.ndarray:
    """Return XOR = AND(NAND, OR): two units, and a third on their answers."""
    return gate("AND", np.stack([gate("NAND", x), gate("OR", x)], axis=-1))


def xor_of_sigmoids(x: np.ndarray) -> np.ndarray:
    """Return XOR as a network of sigmoid units, the first above 0.5 for both inputs, the second for none."""
    hidden = ns.sigmoid(x @ ns.tensor([[5.0, -7.0], [5.0, -7.0]], dtype="float64") + ns.tensor([-8.0, 3.0]))
    return ns.sigmoid(hidden @ ns.tensor([-11.0, -11.0], dtype="float64") + 6.0).numpy()


def learn(truth: Sequence[int], epochs: int) -> tuple[list[tuple[float, ...]], list[int]]:
    """Apply the perceptron rule; return (w₁, w₂, b) after each epoch and the mistakes in each, until there are none.

    The weights start at 0, so a learning rate would only scale them: it is 1, which keeps them whole numbers.
    """
    weights, bias = np.zeros(2), 0.0
    states, mistakes = [], []
    for _ in range(epochs):
        wrong = 0
        for x, t in zip(INPUTS, truth, strict=True):
            error = t - float(unit(x, weights, bias))
            weights = weights + error * x
            bias = bias + error
            wrong += error != 0
        states.append((*weights.tolist(), bias))
        mistakes.append(wrong)
        if wrong == 0:
            break
    return states, mistakes


def added_conditions(truth: Sequence[int]) -> tuple[float, ...]:
    """Return the factors of w₁, w₂ and b in the sum of the four conditions on u, those for 0 turned around.

    Some conditions say u > 0, others −u ≥ 0, so the sum has to be above 0. If all its factors are 0, it never is.
    """
    signs = np.where(np.array(truth) == 1, 1.0, -1.0)
    return tuple((signs @ np.column_stack([INPUTS, np.ones(4)])).tolist())


def rows_right(answers: np.ndarray, truth: Sequence[int]) -> int:
    """Return how many rows of the truth table the answers, or scores around 0.5, have right."""
    return int(((answers > 0.5) == np.array(truth)).sum())


def run(
    report: Report,
    *,
    epochs: Annotated[int, Option("epochs of the perceptron rule for XOR", least=20, most=20_000)] = 1000,
) -> None:
    """Set gates by hand, learn them, fail at XOR with one unit, and make it of three."""
    for name in WEIGHTS:
        right = rows_right(gate(name, INPUTS), TRUTH[name])
        report.check(f"{name}, weights by hand: rows right", right, "4", right == 4)
    above = np.array(WEIGHTS["AND"][0]) @ INPUTS.T > THRESHOLD
    same = int((above == (gate("AND", INPUTS) == 1)).sum())
    report.check(f"AND with θ = {THRESHOLD:g} answers as with b = −{THRESHOLD:g}: rows", same, "4", same == 4)

    learned = {name: learn(TRUTH[name], epochs) for name in TRUTH}
    for name in WEIGHTS:
        states, mistakes = learned[name]
        right = rows_right(unit(INPUTS, states[-1][:2], states[-1][2]), TRUTH[name])
        what = f"{name}, learned in {len(mistakes)} epochs: rows right"
        report.check(what, right, "4", right == 4 and mistakes[-1] == 0)

    states, mistakes = learned["XOR"]
    fewest = min(mistakes)
    report.check(f"XOR by one unit: fewest mistakes in {len(mistakes):,} epochs", fewest, "above 0", fewest > 0)
    again = len(states) - len(set(states))
    report.check("  epochs that end at weights seen before", again, "above 0: a circle", again > 0)
    factors = added_conditions(TRUTH["XOR"])
    report.check("  its conditions add up to, × w₁, w₂, b", factors, "0 0 0: 0 > 0, impossible", not any(factors))
    solved = sum(learn(truth, 20)[1][-1] == 0 for truth in product((0, 1), repeat=4))
    report.check("of all 16 gates of two inputs, learned", solved, "14: not XOR, not its opposite", solved == 14)

    for what, network in {"XOR = AND(NAND, OR)": xor_of_gates, "XOR of three sigmoids": xor_of_sigmoids}.items():
        right = rows_right(network(INPUTS), TRUTH["XOR"])
        report.check(f"{what}: rows right", right, "4", right == 4)

    attempt = "XOR by one unit, taught"
    decisions = {
        "AND": lambda x: gate("AND", x),
        "NAND": lambda x: gate("NAND", x),
        "OR": lambda x: gate("OR", x),
        attempt: lambda x: unit(x, states[-1][:2], states[-1][2]),
        "XOR = AND(NAND, OR)": xor_of_gates,
        "XOR of three sigmoid units": xor_of_sigmoids,
    }
    truths = {name: TRUTH.get(name, TRUTH["XOR"]) for name in decisions}
    labels = ("answer 0", "answer 1")
    report.picture(plots.decision_regions(decisions, INPUTS, truths, labels=labels, title="Gates"))
    counts = {name: {"mistakes": [*learned[name][1], *[0] * SHOWN][:SHOWN]} for name in ("AND", "OR", "XOR")}
    report.picture(
        plots.lines(
            counts,
            np.arange(1, SHOWN + 1),
            x_label="epoch",
            y_label="mistakes in four rows",
            title="The perceptron rule",
            markers=True,
            same_y=True,
        ),
        "rule",
    )
    weights, bias = WEIGHTS["AND"]
    title = "A nerve cell, and a unit as AND, for the inputs 1 and 1"
    report.picture(plots.neuron((1, 1), weights, bias, lambda u: step(u).numpy(), title=title), "neuron")
