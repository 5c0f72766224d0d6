"""The native engine for vectors of 16, 32 and 64 bytes: loops and products are right whatever the registers hold.

LLVM takes any vector apart into what this CPU has, so every width can be tried on every machine.
"""

import re

import numpy as np
import pytest
from samples import numbers
from test_native import close, graph_of

import nissl as ns
from nissl import nn
from nissl.engines.native import assembly, kernels, program, tiling
from nissl.engines.native.program import Program
from nissl.graph.interpret import interpret

DTYPES = ["float32", "float64"]


@pytest.fixture(params=[(16, 32), (32, 16), (64, 32)], ids="{0[0]} bytes".format)
def width(request, monkeypatch):
    """The bytes that a vector holds, for the programs that are made in a test; there are as many as on NEON or AVX."""
    size, registers = request.param
    for module in (kernels, program):
        monkeypatch.setattr(module, "vector_bytes", lambda: size)
    for module in (tiling, program):
        monkeypatch.setattr(module, "vector_registers", lambda: registers)
    return size


def agree(f, *arrays, factor=1.0):
    """Compare the native engine with the interpreter; return the program."""
    graph = graph_of(f, *map(ns.tensor, arrays))
    program = Program(graph)
    floats = [str(x.dtype) for x in arrays if x.dtype.kind == "f"]
    expected = interpret(graph, arrays)
    for _ in range(2):  # what a call leaves in memory must not reach the next
        for found, wanted in zip(program(arrays), expected, strict=True):
            close(found, wanted, floats[0], factor)
    return program


def lanes_in(program, kind):
    """Return how many lanes the vectors of a program have."""
    return {
        int(lanes)
        for lanes in re.findall(rf"<(\d+) x {kind}>", str(assembly.emit(program.graph, program.plan, program.memory)))
    }


def loops(x, labels):
    """One pass of each kind over a matrix: by elements, by rows in stages, by columns, over everything."""
    rows = x - x.mean(axis=1, keepdims=True)
    loss, gradient = nn.cross_entropy(x, labels), ns.grad(lambda x: nn.cross_entropy(x, labels))(x)
    return (
        ns.tanh(x) * 2.0 + 1.0,
        rows / ns.sqrt((rows * rows).mean(axis=1, keepdims=True) + 0.1),  # ROW, twice
        (x * x).sum(axis=0),  # COLUMN
        x.max(axis=0) - x.min(axis=0),
        x.sum() + x.max() * x.min(),  # TOTAL
        x.argmax(axis=1) + x.argmin(axis=1),
        loss,
        gradient,
        ns.where(x > 0.25, x, x.T.sum(axis=1) * 0.5),
        (x > 0.25).astype("int32") * 3,
    )


SIZES = {
    "float32": lambda lanes: (lanes - 1, 6 * lanes - 1),  # rows of up to 4 vectors stay in registers
    "float64": lambda lanes: (1, lanes + 1, 5 * lanes),
}


@pytest.mark.parametrize("dtype", DTYPES)
def test_loops_are_right_at_sizes_around_the_width(width, dtype):
    for columns in SIZES[dtype](width // np.dtype(dtype).itemsize):
        rows = -(-80 // columns) | 1  # enough elements that they do not fit into registers all at once
        x = numbers((rows, columns)).astype(dtype)
        agree(loops, x, np.arange(rows) % columns, factor=10)


def test_the_width_is_that_of_the_vectors(width):
    lanes = width // 4
    x = numbers((9, 6 * lanes + 3)).astype("float32")
    assert max(lanes_in(agree(lambda x: (ns.tanh(x), x.sum(axis=1), x @ x.T), x, factor=5), "float")) == lanes
    assert max(lanes_in(agree(lambda x: ns.tanh(x), x.astype("float64")), "double")) == lanes // 2


TRANSPOSITIONS = {
    "A·B": lambda a, b: a @ b,
    "Aᵀ·B": lambda a, b: a.T @ b,
    "A·Bᵀ": lambda a, b: a @ b.T,
    "Aᵀ·Bᵀ": lambda a, b: a.T @ b.T,
}


def shapes_around_the_tile(lanes):
    """Return (rows, columns, inner) around 8 rows of 2 vectors, and around the few rows of more vectors."""
    columns = (1, lanes - 1, lanes, lanes + 1, 2 * lanes, 2 * lanes + 1, 5 * lanes - 1)
    pairs = [(m, n) for m in (1, 2, 7, 8, 9, 17) for n in columns]
    return [(m, n, (1, 3, lanes + 1, 2 * lanes)[i % 4]) for i, (m, n) in enumerate(pairs)]


WAYS = [(name, "float32") for name in TRANSPOSITIONS] + [("A·B", "float64"), ("Aᵀ·Bᵀ", "float64")]


@pytest.mark.parametrize(("name", "dtype"), WAYS)
def test_products_are_right_around_the_tile(name, dtype, width):
    """Each shape is multiplied in one or two of the ways, half of them with what follows in registers."""
    shapes = shapes_around_the_tile(width // np.dtype(dtype).itemsize)[WAYS.index((name, dtype)) % 4 :: 4]
    arrays = []
    for seed, (m, n, k) in enumerate(shapes):
        left, right = ((k, m) if "Aᵀ" in name else (m, k)), ((n, k) if "Bᵀ" in name else (k, n))
        arrays += [numbers(shape, seed=seed).astype(dtype) for shape in (left, right, (n,))]

    def products(*x):
        results = []
        for i, (a, b, bias) in enumerate(zip(*[iter(x)] * 3, strict=True)):
            y = TRANSPOSITIONS[name](a, b)
            results.append(ns.relu(y + bias) if i % 2 == 0 else y)
        return tuple(results)

    agree(products, *arrays, factor=5)


def test_dropout_and_a_training_step_are_those_of_the_reference(width):
    def trained(engine):
        ns.manual_seed(0)
        model = nn.Sequential(nn.Linear(13, 37), nn.ReLU(), nn.Linear(37, 5))
        optimizer = ns.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

        @ns.compile(engine=engine)
        def step(x, labels):
            x = nn.Dropout(0.5)(x)
            loss = nn.cross_entropy(model(x), labels)
            loss.backward()
            optimizer.step()
            return loss, x

        x, labels = ns.tensor(numbers((21, 13)), "float32"), ns.tensor(np.arange(21) % 5)
        losses, dropped = zip(*(step(x, labels) for _ in range(3)), strict=True)
        return np.stack([x.numpy() for x in dropped]), {"loss": ns.stack(losses).numpy(), **model.state_dict()}

    found, expected = trained("native"), trained("numpy")
    np.testing.assert_array_equal(found[0], expected[0])
    for name, wanted in expected[1].items():
        np.testing.assert_allclose(found[1][name], wanted, rtol=1e-5, atol=1e-6, err_msg=name)
