"""Backpropagation: all gradients of a network in one walk back, checked against differences, then used to learn digits.

The two-layer network takes an image of 784 numbers to 10 classes:

    z = σ(x W₁ + b₁)    y = softmax(z W₂ + b₂)    L = −mean Σ t log y

A difference quotient, (L(w + h) − L(w − h)) / 2h, needs the whole network twice for each weight. Backpropagation keeps
what each layer computed and takes the gradient back through the layers by the chain rule. So it gets all gradients in
the time of about two more passes:

    δ₂ = (y − t)/N            ∂L/∂W₂ = zᵀ δ₂    ∂L/∂b₂ = Σ δ₂
    δ₁ = (δ₂ W₂ᵀ) · z(1 − z)    ∂L/∂W₁ = xᵀ δ₁    ∂L/∂b₁ = Σ δ₁

See: Both ways agree to more digits than training needs, but one takes seconds and the other a thousandth of one. With
it the network learns the digits, and on images that it never saw ("validation") it is nearly as good as on its own.

Try: `nissl run backprop --h 0.1` and `--h 1e-12` spoil the differences, not backpropagation. The classic training was
slower: `nissl run backprop --lr 0.1 --epochs 17`. And `nissl run backprop --hidden 10` shows how far 10 units get.
"""

import time
from typing import Annotated

import numpy as np

import nissl as ns
from nissl import datasets, nn, optim, plots
from nissl.experiments.report import Option, Report

CHAPTER = 9

CHECKED = 3  # images whose gradients are compared
PLACES = {"0.weight": "W₁", "0.bias": "b₁", "2.weight": "W₂", "2.bias": "b₂"}


def network(hidden: int, dtype: str) -> nn.Sequential:
    """Return the two-layer network; its weights start with std 0.01. The softmax is part of the loss."""
    return nn.Sequential(
        nn.Linear(784, hidden, weight_init="normal", dtype=dtype),
        nn.Sigmoid(),
        nn.Linear(hidden, 10, weight_init="normal", dtype=dtype),
    )


def backpropagation(model: nn.Module, x: ns.Tensor, t: ns.Tensor) -> dict[str, np.ndarray]:
    """Return the gradient of the loss for each parameter, by one walk back."""
    names = model.named_parameters()
    for parameter in names.values():
        parameter.grad = None  # backward() adds to what is there
    nn.cross_entropy(model(x), t).backward()
    return {name: p.grad.numpy() for name, p in names.items() if p.grad is not None}


def differences(model: nn.Module, x: ns.Tensor, t: ns.Tensor, h: float) -> dict[str, np.ndarray]:
    """Return the same by difference quotients; the loss is compiled, as it is needed tens of thousands of times."""
    loss = ns.compile(lambda: nn.cross_entropy(model(x), t))
    return {name: ns.numerical_gradient(lambda _: loss(), p, h) for name, p in model.named_parameters().items()}


def run(
    report: Report,
    *,
    hidden: Annotated[int, Option("hidden units", least=1, most=1000)] = 50,
    h: Annotated[float, Option("step of the difference quotients", above=0, most=1)] = 1e-4,
    lr: Annotated[float, Option("learning rate of the training", above=0, most=10)] = 0.5,
    epochs: Annotated[int, Option("epochs of the training", least=1, most=100)] = 5,
) -> None:
    """Compare the gradients of both ways and their times, then train."""
    train, test = (ns.Dataset(part.x.reshape(len(part), -1), part.y) for part in datasets.load("mnist"))

    model = network(hidden, "float64")
    x, t = ns.tensor(train.x[:CHECKED], dtype="float64"), ns.tensor(train.y[:CHECKED])
    backpropagation(model, x, t)  # the first time, memory is fetched and modules are loaded
    start = time.perf_counter()
    walked = backpropagation(model, x, t)
    between = time.perf_counter()
    quotients = differences(model, x, t, h)
    end = time.perf_counter()
    for name, place in PLACES.items():
        apart = float(np.abs(walked[name] - quotients[name]).mean())
        report.check(f"mean difference of ∂L/∂{place}", apart, "at most 1e-7", apart <= 1e-7)
    count = sum(gradient.size for gradient in walked.values())
    report.note(f"seconds for {count:,} gradients: backpropagation", between - start)
    report.note("the same: difference quotients", end - between)
    ratio = (end - between) / (between - start)
    report.note("how many times longer they take", ratio)

    model = network(hidden, "float32")
    optimizer = optim.SGD(model.parameters(), lr=lr)
    history = ns.fit(
        model, train, validation=test, optimizer=optimizer, epochs=epochs, batch_size=100, seed=0, progress=False
    )
    accuracy = float(history.validation_accuracy[-1])
    report.note("accuracy on the training images", float(history.accuracy[-1]))
    report.check("accuracy on the test images", accuracy, "at least 0.94", accuracy >= 0.94)
    report.picture(plots.learning_curves(history, title="The two-layer network on MNIST; validation: test images"))
