"""What is trained, once for all libraries: networks, data, first weights and the order of the minibatches.

All libraries start from the same weights and gather the same rows in the same order, so their losses must agree. Keras
and scikit-learn shuffle by themselves; theirs agree roughly.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]

WIDTHS = (64, 128, 256, 512, 1024, 2048, 4096)
BATCHES = (1, 8, 32, 128, 512, 4096)
PRODUCTS = (256, 512, 1024)
XOR = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32), np.array([[0], [1], [1], [0]], np.float32)


@dataclass(frozen=True)
class Program:
    """A network and how it is trained. Without a batch, each step sees all rows, of which there are few."""

    title: str
    sizes: tuple[int, ...]
    data: str = "fashion"
    loss: str = "cross_entropy"
    activation: str = "relu"
    optimizer: str = "adam"
    rate: float = 1e-3
    batch: int = 0
    dropout: float = 0.0
    normalized: bool = False
    branches: bool = False
    most_steps: int = 10_000

    def shapes(self) -> list[tuple[int, int]]:
        """Return the shapes of the weights. Branches: as many one-unit layers beside each other as there are units."""
        layers = list(pairwise(self.sizes))
        return [(layers[0][0], 1)] * layers[0][1] + layers[1:] if self.branches else layers

    def parameters(self) -> int:
        return sum((inputs + 1) * outputs for inputs, outputs in self.shapes())


def classifier(width: int, batch: int) -> Program:
    return Program(f"784-{width}-10, Adam, batch {batch}", (784, width, 10), batch=batch)


XOR_2_2_1 = Program(
    "XOR 2-2-1, sigmoid, SGD, all 4 rows",
    (2, 2, 1),
    data="xor",
    loss="binary_cross_entropy",
    activation="sigmoid",
    optimizer="sgd",
    rate=0.1,
    most_steps=50_000,
)

PROGRAMS: dict[str, Program] = {
    "xor": XOR_2_2_1,
    "xor-branches": replace(XOR_2_2_1, title="XOR, two 2-1 units side by side, concatenated, 1", branches=True),
    "fashion-32": classifier(128, 32),
    "fashion-128": classifier(128, 128),
    "fashion-1024": classifier(128, 1024),
    "normalized": Program(
        "784-512-256-10, batch norm, dropout 0.2, Adam, batch 128",
        (784, 512, 256, 10),
        batch=128,
        dropout=0.2,
        normalized=True,
    ),
    "regression": Program("8-64-64-1, mean squared error, Adam, batch 256", (8, 64, 64, 1), "rows", "mse", batch=256),
    "one-row": classifier(128, 1),
    "10000-rows": classifier(128, 10_000),
    **{f"product-{size}": Program(f"{size}³ product", (size, size), "square") for size in PRODUCTS},
    **{f"grow-{width}-{batch}": classifier(width, batch) for width in WIDTHS for batch in BATCHES},
}


def data(program: Program) -> tuple[Array, Array]:
    """Return inputs (rows, features) in float32, and targets: class numbers, or columns in float32."""
    return DATA[program.data](program)


def regression_rows(program: Program) -> tuple[Array, Array]:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((100_000, program.sizes[0]), np.float32)
    return x, np.sin(x @ generator.standard_normal((program.sizes[0], 1), np.float32))


def squares(program: Program) -> tuple[Array, Array]:
    a, b = np.random.default_rng(0).random((2, *program.sizes), np.float32)
    return a, b


@functools.cache
def fashion() -> tuple[Array, Array]:
    from nissl import datasets  # reads the files and starts no threads

    train, _ = datasets.load("fashion-mnist")
    return np.ascontiguousarray(train.x.reshape(len(train.x), -1)), train.y.astype(np.int64)


DATA: dict[str, Callable[[Program], tuple[Array, Array]]] = {
    "xor": lambda program: XOR,
    "rows": regression_rows,
    "square": squares,
    "fashion": lambda program: fashion(),
}


def initial(program: Program) -> list[tuple[Array, Array]]:
    """Return the first weights (inputs, outputs) and biases of each layer: He normal and zero."""
    generator = np.random.default_rng(1)
    scale = 2.0 if program.activation == "relu" else 1.0
    return [
        ((generator.standard_normal(shape) * (scale / shape[0]) ** 0.5).astype(np.float32), np.zeros(shape[1], "f"))
        for shape in program.shapes()
    ]


def orders(program: Program, steps: int, count: int) -> Array:
    """Return which of `count` rows each step takes: permutation after permutation, (steps, batch)."""
    generator = np.random.default_rng(2)
    epochs = -(-steps // (count // program.batch))
    each = [generator.permutation(count)[: count // program.batch * program.batch] for _ in range(epochs)]
    return np.concatenate(each).reshape(-1, program.batch)[:steps]


def steps_an_epoch(program: Program) -> int:
    rows = {"fashion": 60_000, "rows": 100_000}
    return rows[program.data] // program.batch if program.batch else program.most_steps
