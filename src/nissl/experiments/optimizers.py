"""Optimizers: five ways to walk downhill, on a valley and on MNIST.

All go against the gradient g = ∂L/∂W with a learning rate η. They differ in what they remember:

    SGD        W ← W − ηg
    Momentum   v ← αv − ηg,            W ← W + v                 a heavy ball
    AdaGrad    h ← h + g²,             W ← W − ηg/√h             shorter steps where it was steep
    RMSProp    h ← ρh + (1 − ρ)g²,     W ← W − ηg/√h             the same, but the past fades
    Adam       m and h as running means of g and g², each divided by 1 − βᵗ,  W ← W − ηm/√h

On f(x, y) = x²/20 + y² the gradient hardly points to the lowest place: y is steep and x is flat. A step that is long
enough for x is almost too long for y.

Where the gradient comes from matters too. One over all the data is exact, and dear; one over a small batch is noisy,
but for the price of one exact step there are many of them.

See: SGD zigzags across the valley, as each step overshoots. Momentum swings wide and settles, AdaGrad heads almost
straight for the lowest place, RMSProp and Adam first go as far in x as in y. With mini-batches the path arrives within
one pass over the data, then jitters around the lowest place; full-batch descent needs a pass for each step, but is
smooth and comes to rest. On MNIST all four leave plain SGD behind.

Try: `nissl run optimizers --draws 5` repeats MNIST from five initial weights, with the same outcome from each;
`--lr 0.1 --steps 500` shows that much of the distance was the learning rate: plain SGD needs a larger one.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Annotated

import numpy as np

import nissl as ns
from nissl import datasets, nn, optim, plots
from nissl.experiments.report import Option, Report

CHAPTER = 13

METHODS: dict[str, Callable[..., optim.Optimizer]] = {
    "SGD": optim.SGD,
    "Momentum": functools.partial(optim.SGD, momentum=0.9),
    "AdaGrad": optim.AdaGrad,
    "RMSProp": functools.partial(optim.RMSProp, alpha=0.9),
    "Adam": optim.Adam,
}
VALLEY_RATES = {"SGD": 0.95, "Momentum": 0.1, "AdaGrad": 1.5, "RMSProp": 0.3, "Adam": 0.3}
VALLEY_START, VALLEY_STEPS = (-7.0, 2.0), 30
# RMSProp and Adam take steps of about η however small the gradient is, so on MNIST they get a tenth of the others' η.
MNIST_SHARES = {"SGD": 1.0, "Momentum": 1.0, "AdaGrad": 1.0, "RMSProp": 0.1, "Adam": 0.1}
BATCH = 128
LAST = 100  # steps at the end, over which the loss is averaged


def valley(point: ns.Tensor) -> ns.Tensor:
    """Return x²/20 + y²."""
    return (point**2 * ns.tensor([1 / 20, 1.0], dtype="float64")).sum()


def path(name: str) -> np.ndarray:
    """Return the points that an optimizer visits in the valley, of shape (steps + 1, 2)."""
    point = nn.Parameter(ns.tensor(VALLEY_START, dtype="float64"))
    optimizer = METHODS[name]([point], lr=VALLEY_RATES[name])
    visited = [point.numpy()]
    for _ in range(VALLEY_STEPS):
        valley(point).backward()
        optimizer.step()
        visited.append(point.numpy())
    return np.array(visited)


def heavy_ball() -> np.ndarray:
    """Return the path of momentum by its formula, v ← αv − ηg and W ← W + v, in plain NumPy."""
    w, v = np.array(VALLEY_START), np.zeros(2)
    visited = [w]
    for _ in range(VALLEY_STEPS):
        g = w * (1 / 10, 2)
        v = 0.9 * v - 0.1 * g
        w = w + v
        visited.append(w)
    return np.array(visited)


def turns(visited: np.ndarray) -> int:
    """Return how often a path crosses the floor of the valley, y = 0."""
    return int((visited[:-1, 1] * visited[1:, 1] < 0).sum())


def line_data() -> tuple[np.ndarray, np.ndarray]:
    """Return 256 points near the line t = 2x + 1."""
    rng = np.random.default_rng(0)
    x = rng.normal(0.5, 1.0, 256)
    return x, 2 * x + 1 + rng.normal(0, 2.0, 256)


def line_loss(w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the mean squared error of the lines wx + b over all points."""
    x, t = line_data()
    return ((w[..., None] * x + b[..., None] - t) ** 2).mean(axis=-1)


def fit_line(batch: int, passes: int) -> np.ndarray:
    """Return the lines (w, b) that SGD visits, from (-1, -1) and with batches of some size."""
    line = nn.Parameter(ns.tensor([-1.0, -1.0], dtype="float64"))
    optimizer = optim.SGD([line], lr=0.08)
    visited = [line.numpy()]
    data = ns.batches(line_data(), batch, seed=1)
    for _ in range(passes):
        for x, t in data:
            nn.mse_loss(line[0] * x + line[1], t).backward()
            optimizer.step()
            visited.append(line.numpy())
    return np.array(visited)


def mnist_losses(name: str, lr: float, steps: int, draw: int) -> np.ndarray:
    """Return the loss of each step of a network with four layers of 100 ReLU units, from one draw of He's weights."""
    ns.manual_seed(draw)
    widths = [784, 100, 100, 100, 100]
    hidden = [layer for n, m in itertools.pairwise(widths) for layer in (nn.Linear(n, m), nn.ReLU())]
    model = nn.Sequential(*hidden, nn.Linear(100, 10))
    optimizer = METHODS[name](model.parameters(), lr=lr * MNIST_SHARES[name])
    images, labels = mnist()

    @ns.compile
    def step(rows: ns.Tensor) -> ns.Tensor:
        loss = nn.cross_entropy(model(images[rows].astype("float32") / 255), labels[rows])
        loss.backward()
        optimizer.step()
        return loss

    return step.scan(np.random.default_rng(draw).integers(0, len(images), (steps, BATCH))).numpy()


@functools.cache
def mnist() -> tuple[ns.Tensor, ns.Tensor]:
    """Return the training images as rows of 784 bytes, and their labels."""
    train, _ = datasets.load("mnist", dtype="uint8")
    return ns.tensor(train.x.reshape(len(train), -1)), ns.tensor(train.y)


def run(
    report: Report,
    *,
    lr: Annotated[
        float, Option("learning rate on MNIST; RMSProp and Adam take a tenth of it", above=0, most=10)
    ] = 0.01,
    steps: Annotated[int, Option("steps on MNIST", least=LAST, most=20_000)] = 2000,
    draws: Annotated[int, Option("initial weights from which MNIST is trained", least=1, most=20)] = 1,
    batch: Annotated[int, Option("size of the mini-batches for the line", least=1, most=128)] = 8,
    passes: Annotated[int, Option("passes over the points of the line", least=2, most=100)] = 10,
) -> None:
    """Walk through the valley and train on MNIST with each optimizer; fit a line by full batch and by mini-batches."""
    paths = {name: path(name) for name in METHODS}
    report.check(
        "valley, SGD: crossings of the floor", turns(paths["SGD"]), "30 in 30 steps", turns(paths["SGD"]) == 30
    )
    report.note("of Momentum, AdaGrad, RMSProp, Adam", [turns(visited) for visited in list(paths.values())[1:]])
    apart = float(np.abs(paths["Momentum"] - heavy_ball()).max())
    report.check("Momentum: off from v ← αv − ηg by", apart, "at most 1e-12", apart <= 1e-12)
    titles = {f"{name}, η = {VALLEY_RATES[name]:g}": visited for name, visited in paths.items()}
    report.picture(
        plots.contour_paths(lambda x, y: x**2 / 20 + y**2, titles, x=(-8, 8), y=(-4, 4), title="30 steps on x²/20 + y²")
    )

    full, mini = fit_line(256, passes), fit_line(batch, passes)
    x, t = line_data()
    lowest = line_loss(*np.polyfit(x, t, 1))
    # After two passes, each over all 256 points, the one has taken 2 steps.
    left_full, left_mini = (
        float(line_loss(*visited[2 * (len(visited) // passes)]) - lowest) for visited in (full, mini)
    )
    report.note("line, after two passes, full batch: excess loss", left_full)
    report.check(f"line, after two passes, batches of {batch}", left_mini, "below it", left_mini < left_full)
    report.picture(
        plots.contour_paths(
            line_loss,
            {f"all 256 points: {len(full) - 1} steps": full, f"batches of {batch}: {len(mini) - 1} steps": mini},
            x=(-2, 4),
            y=(-2, 4),
            axis_labels=("w", "b"),
            title=f"Fitting a line (w, b): {passes} passes over the same points",
        ),
        "batches",
    )

    losses = {name: np.array([mnist_losses(name, lr, steps, draw) for draw in range(draws)]) for name in METHODS}
    ends = {name: values[:, -LAST:].mean(axis=1) for name, values in losses.items()}
    report.note("MNIST, SGD: loss of the last 100 steps", float(ends["SGD"].mean()))
    for name, end in list(ends.items())[1:]:
        everywhere = f"below SGD from each of {draws} draws" if draws > 1 else "below SGD"
        report.check(f"MNIST, {name}", float(end.mean()), everywhere, bool((end < ends["SGD"]).all()))
    means = {name: running_mean(values.mean(axis=0)) for name, values in losses.items()}
    report.picture(
        plots.lines(
            {"MNIST, four layers of 100 units": means},
            np.arange(steps - 49) + 50,
            y_label="training loss, mean of 50 steps",
            log="y",
        ),
        "mnist",
    )


def running_mean(values: np.ndarray) -> np.ndarray:
    """Return the mean of each 50 values in a row."""
    return np.convolve(values, np.ones(50) / 50, mode="valid")
