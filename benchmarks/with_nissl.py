"""nissl: `scan` runs the steps of an epoch in one native call; `call` is the same step, called from Python."""

from collections.abc import Callable

import numpy as np

import nissl as ns
from benchmarks.programs import Array, Program, data, initial, orders, steps_an_epoch
from nissl import nn, optim

Run = Callable[[int], Array]

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}
LOSSES = {"cross_entropy": nn.cross_entropy, "binary_cross_entropy": nn.binary_cross_entropy, "mse": nn.mse_loss}
OPTIMIZERS = {"adam": optim.Adam, "sgd": optim.SGD}


class Branches(nn.Module):
    """Units that each see the inputs, side by side."""

    def __init__(self, units: list[nn.Module]) -> None:
        self.units = units

    def forward(self, x: ns.Tensor) -> ns.Tensor:
        return ns.concat([unit(x) for unit in self.units], axis=1)


def network(program: Program) -> nn.Module:
    shapes = program.shapes()
    layers = [nn.Linear(*shape) for shape in shapes]
    for layer, (weight, bias) in zip(layers, initial(program), strict=True):
        layer.weight.assign(ns.tensor(weight))
        layer.bias.assign(ns.tensor(bias))
    *hidden, last = layers
    parts: list[nn.Module] = [Branches(hidden), ACTIVATIONS[program.activation]()] if program.branches else []
    for layer in [] if program.branches else hidden:
        normalization = [nn.BatchNorm(layer.weight.shape[1])] if program.normalized else []
        dropout = [nn.Dropout(program.dropout)] if program.dropout else []
        parts += [layer, *normalization, ACTIVATIONS[program.activation](), *dropout]
    return nn.Sequential(*parts, last, *[nn.Sigmoid()] * (program.loss == "binary_cross_entropy"))


def training(program: Program) -> tuple[Callable[..., ns.Tensor], ns.Tensor, ns.Tensor]:
    """Return the step, as a function of inputs and targets, and the data."""
    x, t = map(ns.tensor, data(program))
    model = network(program)
    optimizer = OPTIMIZERS[program.optimizer](model.parameters(), lr=program.rate)

    def step(x: ns.Tensor, t: ns.Tensor) -> ns.Tensor:
        loss = LOSSES[program.loss](model(x), t)
        loss.backward()
        optimizer.step()
        return loss

    return step, x, t


def scan(program: Program) -> Run:
    step, x, t = training(program)
    if not program.batch:
        whole = ns.compile(lambda: step(x, t))
        return lambda steps: whole.scan(steps=steps).numpy()
    rows = orders(program, steps_an_epoch(program), len(x))
    minibatch = ns.compile(lambda rows: step(x[rows], t[rows]))
    return lambda steps: minibatch.scan(rows[:steps]).numpy()


def call(program: Program) -> Run:
    step, x, t = training(program)
    step = ns.compile(step)
    x, t = x[: program.batch], t[: program.batch]

    def run(steps: int) -> Array:
        losses = [step(x, t) for _ in range(steps)]
        return np.array([loss.item() for loss in losses])

    return run


def compiled_model(program: Program) -> Run:
    model = ns.compile(network(program).eval())
    x = ns.tensor(data(program)[0][: program.batch])

    def run(steps: int) -> Array:
        with ns.no_grad():
            for _ in range(steps):
                outputs = model(x)
        return outputs.numpy()

    return run


def predict(program: Program) -> Run:
    model = network(program)
    x = data(program)[0][: program.batch]

    def run(steps: int) -> Array:
        for _ in range(steps):
            outputs = ns.predict(model, x)
        return outputs

    return run


def product(program: Program) -> Run:
    a, b = map(ns.tensor, data(program))
    c = nn.Buffer(np.zeros((len(a), b.shape[1]), np.float32))

    @ns.compile
    def multiply() -> None:
        c.assign(a @ b)

    def run(steps: int) -> Array:
        multiply.scan(steps=steps)
        return c[0].numpy()

    return run
