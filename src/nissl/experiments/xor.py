"""XOR: the smallest problem that needs a hidden layer, and the luck of the first weights.

No single line parts (0, 1) and (1, 0) from (0, 0) and (1, 1), so one unit cannot learn XOR. Two units draw two lines,
and a third one joins what they say:

    z₁ = σ(x·w₁ + b₁)    z₂ = σ(x·w₂ + b₂)    y = σ((z₁, z₂)·v + c)    L = −mean(t log y + (1 − t) log(1 − y))

That the weights for XOR exist does not mean that descent finds them: from some first weights it goes down into a
valley where two or three rows are right and stays there. With more hidden units there are more ways out.

See: Two lines make a band, in which the answer is 0 here and 1 from other first weights; the network that got stuck
gives two of the points about the same answer, ½. With two hidden units a larger learning rate helps those that were
only slow, and the rest stays stuck: a failure is no bug. With four or eight units hardly any gets stuck.

Try: `nissl run xor --seed 1` starts from weights that end with 3 of 4. `nissl run xor --lr 1` learns in a few steps
what 0.01 needs 50,000 for. `nissl run xor --steps 5000` shows that what counts is steps times learning rate: the shares
at 0.1 are now what they were at 0.01.
"""

import time
from collections.abc import Callable
from typing import Annotated

import numpy as np

import nissl as ns
from nissl import nn, optim, plots
from nissl.experiments.report import Option, Report

CHAPTER = 10

Descend = Callable[[int], np.ndarray]

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
T = np.array([[0], [1], [1], [0]], np.float32)

UNITS = (2, 3, 4, 8)
RATES = (0.01, 0.1, 1.0)
PIECES = 10  # the loss is told so many times on the way


def draw(model: nn.Module) -> None:
    """Give a model first weights and biases from the normal distribution."""
    for parameter in model.parameters():
        parameter.assign(nn.init.normal(parameter.shape, std=1.0))


class Classic(nn.Module):
    """Two units 2→1 side by side, concatenated, and a unit 2→1."""

    def __init__(self) -> None:
        self.units = [nn.Linear(2, 1), nn.Linear(2, 1)]
        self.last = nn.Linear(2, 1)
        draw(self)

    def forward(self, x: ns.Tensor) -> ns.Tensor:
        """Return the probability of a 1 for each row of x."""
        z = ns.concat([ns.sigmoid(unit(x)) for unit in self.units], axis=1)
        return ns.sigmoid(self.last(z))


class SideBySide(nn.Module):
    """Several networks that know nothing of each other: every weight has an axis for the network in front."""

    def __init__(self, networks: int, units: int) -> None:
        self.w = nn.Parameter(ns.zeros((networks, 2, units)))
        self.b = nn.Parameter(ns.zeros((networks, 1, units)))
        self.v = nn.Parameter(ns.zeros((networks, units, 1)))
        self.c = nn.Parameter(ns.zeros((networks, 1, 1)))

    def forward(self, x: ns.Tensor) -> ns.Tensor:
        """Return the probability of a 1 for each network and row, with shape (networks, rows, 1)."""
        return ns.sigmoid(ns.sigmoid(x @ self.w + self.b) @ self.v + self.c)


def descent(model: nn.Module, networks: int = 1) -> tuple[optim.SGD, Descend]:
    """Return the optimizer, and a function that takes so many full-batch steps and returns the loss before each."""
    x, t = ns.tensor(X), ns.tensor(np.broadcast_to(T, model(X).shape).copy())
    optimizer = optim.SGD(model.parameters())

    @ns.compile
    def step() -> ns.Tensor:
        loss = nn.binary_cross_entropy(model(x), t) * networks  # the mean over all networks, made the sum of their own
        loss.backward()
        optimizer.step()
        return loss

    return optimizer, lambda steps: step.scan(steps=steps).numpy()


def train(model: nn.Module, lr: float, steps: int) -> tuple[np.ndarray, float]:
    """Train a network; return the loss before each step, and the seconds without the first one, which compiles."""
    optimizer, descend = descent(model)
    optimizer.lr = lr
    first = descend(1)
    start = time.perf_counter()
    others = descend(steps - 1)
    seconds = time.perf_counter() - start
    return np.concatenate([first, others]), seconds


def train_draws(units: int, draws: int, steps: int) -> dict[float, SideBySide]:
    """Train networks from many first weights, the same for each learning rate; return all of them, by rate."""
    # So many networks at once that the hidden layer of all, for the four rows, is 64 numbers: they stay in registers.
    at_once = max(1, 16 // units)
    model = SideBySide(at_once, units)
    optimizer, descend = descent(model, at_once)
    found: dict[float, list[dict[str, np.ndarray]]] = {rate: [] for rate in RATES}
    for _ in range(0, draws, at_once):
        draw(model)
        first = model.state_dict()
        for rate in RATES:
            model.load_state_dict(first)
            optimizer.lr = rate
            descend(steps)
            found[rate].append(model.state_dict())
    return {rate: joined(states, draws, units) for rate, states in found.items()}


def joined(states: list[dict[str, np.ndarray]], networks: int, units: int) -> SideBySide:
    """Return one model with the first networks of several."""
    model = SideBySide(networks, units)
    model.load_state_dict({name: np.concatenate([state[name] for state in states])[:networks] for name in states[0]})
    return model


def alone(networks: SideBySide, number: int) -> SideBySide:
    """Return one of several networks."""
    state = {name: array[number : number + 1] for name, array in networks.state_dict().items()}
    return joined([state], 1, networks.w.shape[2])


def decide(model: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function that a picture asks: the probability of a 1 at points of shape (points, 2)."""
    return lambda points: model(points).numpy().reshape(-1)


def rows_right(model: nn.Module) -> np.ndarray:
    """Return how many of the four rows each network gets right."""
    right = (model(X).numpy() > 0.5) == (T > 0.5)
    return right.reshape(-1, len(X)).sum(axis=1)


def run(
    report: Report,
    *,
    lr: Annotated[float, Option("learning rate of the classic program", above=0, most=10)] = 0.01,
    steps: Annotated[int, Option("steps of each training", least=1000, most=1_000_000)] = 50_000,
    draws: Annotated[int, Option("how many first weights are tried", least=10, most=1000)] = 100,
    seed: Annotated[int, Option("number of the first weights", least=0, most=1_000_000)] = 0,
) -> None:
    """Run the classic program, then many draws of the first weights for several sizes and learning rates."""
    ns.manual_seed(seed)
    classic = Classic()
    losses, seconds = train(classic, lr, steps)
    told = np.linspace(0, steps - 1, PIECES + 1).astype(int)
    right = int(rows_right(classic)[0])
    report.note(f"loss every {steps // PIECES:,} steps", " ".join(f"{loss:.2f}" for loss in losses[told]))
    report.check("the classic program: rows right", f"{right} of 4", "4 of 4", right == 4)
    report.note(f"seconds for {steps:,} steps", seconds)
    report.note("50,000 in TensorFlow, PyTorch (eager)", "about 500 s and 32 s (benchmarks/RESULTS.md)")

    networks = {units: train_draws(units, draws, steps) for units in UNITS}
    solved = {units: {rate: rows_right(model) == 4 for rate, model in networks[units].items()} for units in UNITS}
    share = {units: [float(solved[units][rate].mean()) for rate in RATES] for units in UNITS}
    for rate, low, high in ((0.01, 0.40, 0.75), (0.1, 0.55, 0.85)):
        found = share[2][RATES.index(rate)]
        what = f"share of {draws} draws with 4 of 4: 2 units, {rate:g}"
        report.check(what, found, f"{low:g} to {high:g}", low <= found <= high)
    for units in UNITS:
        report.note(f"share at {', '.join(f'{rate:g}' for rate in RATES)}: {units} units", share[units])
    fewest, most = min(share[2]), min(share[8])
    report.check("8 units beside 2, worst rate", (most, fewest), "more often solved", most > fewest)

    panels = {"the classic program": decide(classic)}
    for name, those in {"another draw, solved": solved[2][0.1], "another draw, stuck": ~solved[2][0.1]}.items():
        if those.any():
            panels[name] = decide(alone(networks[2][0.1], int(those.argmax())))
    report.picture(plots.decision_regions(panels, X, T[:, 0], title="What networks make of XOR"))
    what = f"The classic program, learning rate {lr:g}"
    report.picture(plots.lines({what: {"loss": losses[told]}}, told, y_label="loss", markers=True), "loss")
    what = f"First weights, of {draws}, that lead to 4 of 4"
    curves = {f"rate {rate:g}": [100 * share[units][i] for units in UNITS] for i, rate in enumerate(RATES)}
    picture = plots.lines({what: curves}, UNITS, x_label="hidden units", y_label="solved (%)", markers=True)
    report.picture(picture, "draws")
