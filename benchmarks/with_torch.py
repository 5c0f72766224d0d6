"""PyTorch: `eager` and `compiled` train with the fused optimizer; `*_call` see one minibatch again and again."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from benchmarks.programs import Array, Program, data, initial, orders, steps_an_epoch

Run = Callable[[int], Array]

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}
LOSSES = {
    "cross_entropy": nn.functional.cross_entropy,
    "binary_cross_entropy": nn.functional.binary_cross_entropy,
    "mse": nn.functional.mse_loss,
}
OPTIMIZERS = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}


class Branches(nn.Module):
    def __init__(self, units: list[nn.Module]) -> None:
        super().__init__()
        self.units = nn.ModuleList(units)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([unit(x) for unit in self.units], dim=1)


def network(program: Program) -> nn.Module:
    layers = [nn.Linear(*shape) for shape in program.shapes()]
    with torch.no_grad():
        for layer, (weight, bias) in zip(layers, initial(program), strict=True):
            layer.weight.copy_(torch.from_numpy(weight.T))
            layer.bias.copy_(torch.from_numpy(bias))
    *hidden, last = layers
    parts: list[nn.Module] = [Branches(hidden), ACTIVATIONS[program.activation]()] if program.branches else []
    for layer in [] if program.branches else hidden:
        normalization = [nn.BatchNorm1d(layer.out_features)] if program.normalized else []
        dropout = [nn.Dropout(program.dropout)] if program.dropout else []
        parts += [layer, *normalization, ACTIVATIONS[program.activation](), *dropout]
    return nn.Sequential(*parts, last, *[nn.Sigmoid()] * (program.loss == "binary_cross_entropy"))


def train(program: Program, compiled: bool, minibatches: Callable[[int], Iterator[tuple]]) -> Run:
    model = network(program)
    optimizer = OPTIMIZERS[program.optimizer](model.parameters(), lr=program.rate, fused=True)

    def loss_of(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return LOSSES[program.loss](model(x), t)

    loss_of = torch.compile(loss_of) if compiled else loss_of

    def run(steps: int) -> Array:
        losses = []
        for x, t in minibatches(steps):
            optimizer.zero_grad()
            loss = loss_of(x, t)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses).numpy()

    return run


def loop(program: Program, compiled: bool) -> Run:
    x, t = map(torch.from_numpy, data(program))
    if not program.batch:
        return train(program, compiled, lambda steps: ((x, t) for _ in range(steps)))
    rows = torch.from_numpy(orders(program, steps_an_epoch(program), len(x)))
    return train(program, compiled, lambda steps: ((x[chosen], t[chosen]) for chosen in rows[:steps]))


def call(program: Program, compiled: bool) -> Run:
    x, t = (torch.from_numpy(values[: program.batch]) for values in data(program))
    return train(program, compiled, lambda steps: ((x, t) for _ in range(steps)))


def eager(program: Program) -> Run:
    return loop(program, compiled=False)


def compiled(program: Program) -> Run:
    return loop(program, compiled=True)


def eager_call(program: Program) -> Run:
    return call(program, compiled=False)


def compiled_call(program: Program) -> Run:
    return call(program, compiled=True)


def inference(program: Program, compiled: bool) -> Run:
    model = network(program).eval()
    model = torch.compile(model) if compiled else model
    x = torch.from_numpy(data(program)[0][: program.batch])

    @torch.inference_mode()
    def run(steps: int) -> Array:
        for _ in range(steps):
            outputs = model(x)
        return outputs.numpy()

    return run


def predict(program: Program) -> Run:
    return inference(program, compiled=False)


def compiled_predict(program: Program) -> Run:
    return inference(program, compiled=True)


def product(program: Program) -> Run:
    a, b = map(torch.from_numpy, data(program))
    c = torch.empty(len(a), b.shape[1])

    def run(steps: int) -> Array:
        for _ in range(steps):
            torch.matmul(a, b, out=c)
        return np.ravel(c[0])

    return run
