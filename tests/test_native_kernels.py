"""Every kind of kernel at every size around the vector width, with canaries around all memory that it is given.

Inputs, results and each place of the arena lie alone between borders. Those of inputs hold NaN, so that what is read
there shows; those of what is written hold another pattern, which must still be there when the kernels are done.
"""

import os
import platform
import re
import signal
import subprocess
import sys
import threading
from ctypes import c_int64, c_void_p
from itertools import pairwise, product
from types import SimpleNamespace

import numpy as np
import pytest
from llvmlite import ir
from samples import OPTIMIZERS, every_op_with_samples, numbers
from test_native import close, graph_of

import nissl as ns
from nissl import nn, optim
from nissl.engines.native import cache, emitter, plan, products, program, tiling
from nissl.engines.native.assembly import Kernels, emit, emit_barrier, emit_kernels
from nissl.engines.native.instructions import X86
from nissl.engines.native.kernels import Call, Group, Level
from nissl.engines.native.machine import Code, machine_code, vector_bytes
from nissl.engines.native.memory import MemoryPlan, address
from nissl.engines.native.products import Product
from nissl.engines.native.program import Program
from nissl.engines.native.rules import is_costly
from nissl.graph.interpret import interpret
from nissl.graph.passes import simplified
from nissl.optim.adaptive import adam
from nissl.tensor import apply_all

BORDER = 4096  # bytes: more than a tile of vectors, or a few rows, which a wrong count would go too far
READ, WRITTEN = 0xFF, 0xA5


class Frame:
    """Memory between canaries. It begins at an odd element of its line of the cache, as NumPy's arrays may."""

    def __init__(self, shape, dtype, canary):
        dtype = np.dtype(dtype)
        size = int(np.prod(shape, dtype=int)) * dtype.itemsize
        self.canary = canary
        self.whole = np.full(2 * BORDER + size + 64, canary, np.uint8)
        self.start = BORDER - address(self.whole) % 64 + dtype.itemsize
        self.stop = self.start + size
        self.array = self.whole[self.start : self.stop].view(dtype).reshape(shape)

    def assert_intact(self):
        changed = np.flatnonzero(self.whole != self.canary)
        outside = changed[(changed < self.start) | (changed >= self.stop)] - self.start
        assert outside.size == 0, f"byte {outside[0]} was written, of an array of {self.array.nbytes} bytes"


class FramedProgram(Program):
    """A program whose table of addresses leads to frames, those of each call and those of the arena."""

    def __init__(self, graph):
        super().__init__(graph)
        self.frames = []
        memory, places = self.memory, {}
        for symbol in memory.offsets:
            places[symbol] = self.framed(symbol.shape, symbol.dtype)
            self.table[memory.slots[symbol]] = address(places[symbol])
        self.table[memory.status_slot] = address(self.framed((1,), np.int64))
        self.status = c_int64.from_address(self.table[memory.status_slot])
        self.status.value = 0
        memory.in_arena = lambda symbol, arena: places[symbol].reshape(-1)

    def framed(self, shape, dtype, canary=WRITTEN):
        self.frames.append(Frame(shape, dtype, canary))
        return self.frames[-1].array

    def take(self, arrays, steps=0, results=()):
        held = []
        for slot, array in enumerate([*arrays, *self.memory.constants]):
            held.append(self.framed(array.shape, array.dtype, WRITTEN if slot in self.memory.written else READ))
            held[-1][...] = array
        for symbol in self.memory.fresh:
            held.append(self.framed(symbol.shape, symbol.dtype))
        for slot, array in enumerate(held):
            self.table[slot] = address(array)
        self.given = [(held[i], np.array(x)) for i, x in enumerate(arrays) if i not in self.memory.written]
        return held

    def assert_intact(self):
        """Check that nothing was written but results, and no input."""
        for frame in self.frames:
            frame.assert_intact()
        for held, before in self.given:
            np.testing.assert_array_equal(held, before)


def check(f, *arrays, factor=5.0):
    """Run a function between canaries, twice, and compare with the interpreter; any state is 1."""
    graph = graph_of(f, *map(ns.tensor, arrays))
    arrays = [*arrays, *(np.ones(s.shape, s.dtype) for s in graph.inputs[len(arrays) :])]
    native = FramedProgram(graph)
    expected = interpret(graph, arrays)
    for _ in range(2):
        for found, wanted in zip(native(list(arrays)), expected, strict=True):
            close(found, wanted, str(arrays[0].dtype) if arrays[0].dtype.kind == "f" else "float32", factor)
        native.assert_intact()


LANES = vector_bytes() // 4
SIZES = [0, 1, LANES - 1, LANES, LANES + 1, 2 * LANES + 1, 1009]


def floats(*shape, seed=0):
    return numbers(shape, seed=seed).astype("float32")


def labels(n, classes):
    return (np.arange(n) * 7 % classes).astype("int64")


# From a size to a function and its arrays.
KINDS = {
    "elements": lambda n: (lambda x: ns.tanh(x) * 2.0 + x, floats(n)),
    "bools and integers": lambda n: (lambda x: ((x > 0) | (x < -1), (x * 9).astype("int16")), floats(n)),
    "doubles of singles": lambda n: (lambda x: ns.exp(x.astype("float64")), floats(n)),
    "rows": lambda n: (lambda x: (x.sum(axis=1), x.mean(axis=1, keepdims=True) - x), floats(3, max(n, 1))),
    "many rows": lambda n: (lambda x: (x.max(axis=1), x.min(axis=1) * 2.0), floats(n, 3)),
    "columns": lambda n: (lambda x: ((x * x).sum(axis=0), x.sum(axis=0, keepdims=True) + x), floats(3, n)),
    "columns of many rows": lambda n: (lambda x: (x + 1.0).sum(axis=0), floats(n, 3)),
    "total": lambda n: (lambda x: (x * x).sum(), floats(n)),
    "position": lambda n: (lambda x: (x.argmax(axis=1), x.argmin(axis=1)), floats(5, max(n, 1))),
    "softmax": lambda n: (lambda x: (x.softmax(), x.log_softmax()), floats(3, max(n, 1))),
    "transposed": lambda n: (lambda x: ns.exp(x.T), floats(3, n)),
    "reversed": lambda n: (lambda x: ns.exp(x[..., ::-1]), floats(3, n)),
    "joined": lambda n: (lambda x, y: ns.concat([x, y, x], axis=1), floats(3, n), floats(3, 2)),
    "padded": lambda n: (lambda x: (x.pad([(0, 1), (2, 3)]), x.pad(1, value=0.5)), floats(3, n)),
    "gradient of a slice": lambda n: (
        lambda x: ns.grad(lambda x: ns.square(x[1:, : n // 2]).sum() + (x[0, ::2] * 3.0).sum())(x),
        floats(4, n),
    ),
    "rows by number": lambda n: (lambda x, i: x[i] * 2.0, floats(6, 4), labels(n, 6)),
    "long rows by number": lambda n: (lambda x, i: x[i], floats(6, n), labels(5, 6)),
    "numbers by number": lambda n: (lambda x, i: x[i] + 1.0, floats(6), labels(n, 6)),
    "one-hot": lambda n: (lambda i: ns.one_hot(i, 7), labels(n, 7)),
    "one-hot of many classes": lambda n: (lambda i: ns.one_hot(i, max(n, 1)) * 2.0, labels(5, max(n, 1))),
    "dropout": lambda n: (lambda x: nn.Dropout(0.4)(x), floats(n) + 3),
    "dropout of doubles": lambda n: (lambda x: nn.Dropout(0.4)(x), numbers((2, n)) + 3),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_kernel_writes_beside_its_results(kind, size):
    f, *arrays = KINDS[kind](size)
    check(f, *arrays)


TRANSPOSITIONS = {
    "A·B": lambda a, b: a @ b,
    "Aᵀ·B": lambda a, b: a.T @ b,
    "A·Bᵀ": lambda a, b: a @ b.T,
    "Aᵀ·Bᵀ": lambda a, b: a.T @ b.T,
}
# Each size stands at each of the three places; the large one beside small ones, and once beside larger ones.
PRODUCTS = [(SIZES[i], SIZES[(2 * i + j) % 6], SIZES[(i + j) % 6]) for i in range(6) for j in (0, 1, 3)]
PRODUCTS += [(1009, 3, LANES + 1), (LANES + 1, 1009, 3), (3, LANES + 1, 1009), (1009, 67, 131)]
PRODUCTS += [(1, 1009, 131), (4, 1009, 257)]  # these read B in the order of its memory


@pytest.mark.parametrize("name", TRANSPOSITIONS)
@pytest.mark.parametrize("shape", PRODUCTS, ids=str)
def test_no_product_writes_beside_its_results(shape, name):
    m, n, k = shape
    a = floats(*((k, m) if "Aᵀ" in name else (m, k)))
    b = floats(*((n, k) if "Bᵀ" in name else (k, n)), seed=1)
    check(lambda a, b, bias: ns.relu(TRANSPOSITIONS[name](a, b) + bias), a, b, floats(n))


@pytest.mark.parametrize("repeated", [False, True])
def test_products_of_many_matrices_bring_together_what_lies_apart(repeated):
    a, b = floats(3, 70, 21), floats(3, 70, 300, seed=1)
    if repeated:
        check(lambda a, b: a[0].T.broadcast_to((3, 21, 70)) @ b, a, b)
    else:
        check(lambda a, b: a.permute_dims((0, 2, 1)) @ b, a, b)


def gathered(graph):
    """Return the products of a plan that read rows by their numbers."""
    kernels = plan.make_plan(simplified(graph)).kernels
    return [kernel for kernel in kernels if isinstance(kernel, Group) and kernel.gather]


GATHERED = {
    "X[i]·B": lambda x, i, b, c: x[i] @ b,
    "X[i]ᵀ·C": lambda x, i, b, c: x[i].T @ c,
    "both": lambda x, i, b, c: (ns.relu(x[i] @ b), x[i].T @ c),
    "of pictures": lambda x, i, b, c: x.reshape(len(x), 1, -1)[i].reshape(len(i), -1) @ b,
    "of a part": lambda x, i, b, c: x[1:][i] @ b,
}


@pytest.mark.parametrize("name", GATHERED)
@pytest.mark.parametrize(
    "shape", [(1, 5, 3), (5, 1, 70), (7, 9, 1), (33, LANES, 40), (131, 257, 67), (70, 300, 9), (1024, 40, 128)]
)
def test_products_read_rows_by_their_numbers(name, shape, monkeypatch):
    monkeypatch.setattr(plan, "LONG_ROW", 8)
    monkeypatch.setattr(plan, "TINY_VALUE", 0)
    many, inner, columns = shape
    source = floats(11, inner)
    i = (np.arange(many) * 7 % 19 - 9).astype("int32" if many == 7 else "int64")  # some count from the end
    arrays = source, i, floats(inner, columns, seed=1), floats(many, columns, seed=2)
    assert len(gathered(graph_of(GATHERED[name], *map(ns.tensor, arrays)))) == (
        0 if inner == 1 else 1 + (name == "both")
    )
    check(GATHERED[name], *arrays)
    check(GATHERED[name], *(x.astype("float64") if x.dtype.kind == "f" else x for x in arrays))


@pytest.mark.parametrize("by_rows", [True, False])
@pytest.mark.parametrize(("rows", "inner", "columns"), [(40, 300, 300), (200, 300, 100)])
def test_threads_share_rows_or_columns_of_a_product(rows, inner, columns, by_rows, monkeypatch):
    monkeypatch.setattr(tiling, "is_shared_by_rows", lambda *_: by_rows)
    monkeypatch.setattr(cache, "kept", lambda description, make: make())
    monkeypatch.setattr(program, "SECONDS_WORTH_THREADS", 0.0)
    x, b, c = floats(rows, inner), floats(inner, columns, seed=1), floats(rows, columns, seed=2)
    i = np.arange(20 * rows).reshape(20, rows) * 7 % rows
    source, right, outer = map(ns.tensor, (x, b, c))
    results = nn.Buffer(np.zeros((rows, columns), "float32")), nn.Buffer(np.zeros((inner, columns), "float32"))

    @ns.compile
    def step(i):
        results[0].assign(source[i] @ right)
        results[1].assign(source[i].T @ outer)

    for threads in (1, 3):
        ns.set_num_threads(threads)
        for result in results:
            result.assign(result * 0)
        step.scan(i)
        close(results[0].numpy(), x[i[-1]] @ b)
        close(results[1].numpy(), x[i[-1]].T @ c)
    assert "shared_scan" in step.latest.program.code.functions


@pytest.mark.parametrize(("cache_bytes", "prefetched"), [(1 << 10, True), (1 << 26, False)])
def test_what_an_epilogue_reads_from_beyond_the_cache_is_prefetched(cache_bytes, prefetched, monkeypatch):
    monkeypatch.setattr(products, "second_level_cache_bytes", lambda: cache_bytes)
    x, b, c = floats(3, 33, 20), floats(3, 20, 45, seed=1), floats(3, 33, 45, seed=2)

    def step(x, b, c):
        return ns.tanh(x @ b) * c

    graph = graph_of(step, *map(ns.tensor, (x, b, c)))
    made = plan.make_plan(graph)
    assert ("llvm.prefetch" in str(emit(graph, made, MemoryPlan(graph, made)))) is prefetched
    monkeypatch.setattr(cache, "kept", lambda description, make: make())
    check(step, x, b, c)


@pytest.mark.parametrize(
    "f",
    [
        lambda x, i, b, c: (x[i] @ b, x[i]),
        lambda x, i, b, c: b.T @ x[i].T,
        lambda x, i, b, c: x[i] @ b + x[i].sum(),
        lambda x, i, b, c: x[i] @ b + x[i][:, :1],
        lambda x, i, b, c: x[i + 1] @ b,
        lambda x, i, b, c: x[i] @ x[i].T,
        lambda x, i, b, c: x[i] @ x + x[i],
        lambda x, i, b, c: (x[i] * 2.0) @ b,
        lambda x, i, b, c: x[i][:3] @ b,
        lambda x, i, b, c: x[i][:, ::-1] @ b,
        lambda x, i, b, c: x[i].reshape(2, 3, -1) @ b,
        lambda x, i, b, c: x.T[i].T @ c,
    ],
)
def test_rows_that_something_else_reads_have_memory(f, monkeypatch):
    monkeypatch.setattr(plan, "LONG_ROW", 8)
    arrays = floats(9, 9), labels(6, 8), floats(9, 5, seed=1), floats(6, 5, seed=2)
    assert not gathered(graph_of(f, *map(ns.tensor, arrays)))
    check(f, *arrays)


@pytest.mark.parametrize("many", [1, 6])
def test_products_of_many_matrices_read_rows_by_their_numbers(many):
    x, i, b, c = floats(9, 300), labels(many, 9) + 2, floats(2, 300, 5, seed=1), floats(2, many, 5, seed=2)
    for f in (lambda x, i, b, c: x[i] @ b, lambda x, i, b, c: x[i].T @ c):
        assert gathered(graph_of(f, *map(ns.tensor, (x, i % 9, b, c))))
        check(f, x, i % 9, b, c)


def test_a_transposed_column_is_not_taken_for_many_rows():
    column, i, c = floats(300, 1), labels(5, 1), floats(5, 40, seed=1)
    check(lambda x, i, c: x.T[i].T @ c, column, i, c)
    check(lambda x, i, b: x.T[i] @ b, column, i, floats(300, 40, seed=1))


def test_rows_are_copied_for_many_columns():
    x = floats(9, 300)
    for many, columns, fused in ((5, 40, 1), (4, 40, 0), (600, 256, 1), (600, 257, 0), (400, 257, 1)):
        graph = graph_of(lambda x, i, b: x[i] @ b, *map(ns.tensor, (x, labels(many, 9), floats(300, columns))))
        assert len(gathered(graph)) == fused


def test_too_many_row_indices_are_not_kept_on_the_stack(monkeypatch):
    monkeypatch.setattr(plan, "MOST_INDICES", 5)
    arrays = floats(9, 300), labels(6, 8), floats(300, 5, seed=1), floats(6, 5, seed=2)
    counts = {name: len(gathered(graph_of(GATHERED[name], *map(ns.tensor, arrays)))) for name in GATHERED}
    assert counts == {"X[i]·B": 1, "X[i]ᵀ·C": 0, "both": 0, "of pictures": 1, "of a part": 1}


SMALL = {"B_PIECE_BYTES": 1 << 12, "B_ROWS_BYTES": 1 << 14, "A_PANEL_BYTES": 1 << 12, "PARTIAL_SUMS_BYTES": 1 << 14}
SMALL |= {"SMALLEST_K_BLOCK": 8, "MANY_ROWS": 4, "LENGTH_OF_PACKED_A": {16: 0, 32: 0}}


def test_products_are_right_with_small_blocks(monkeypatch):
    """As large products are with large ones: what is packed, split or done in panels then depends on the CPU."""
    for name, value in SMALL.items():
        monkeypatch.setattr(tiling, name, value)
    monkeypatch.setattr(cache, "kept", lambda description, make: make())
    chosen = []

    def told(*numbers, **facts):
        chosen.append(tiling.tiling(*numbers, **facts))
        return chosen[-1]

    monkeypatch.setattr(products, "tiling", told)
    shapes = [(70, 300, 17), (131, 67, 16 * LANES + 3), (2, 300, 257), (300, 40, 40), (300, 100, 40 * LANES)]
    for (m, k, n), (name, f) in product(shapes, TRANSPOSITIONS.items()):
        a = floats(*((k, m) if "Aᵀ" in name else (m, k)))
        b = floats(*((n, k) if "Bᵀ" in name else (k, n)), seed=1)
        check(lambda a, b, bias, f=f: ns.relu(f(a, b) + bias), a, b, floats(n))
    seen = {(each.rows_first, each.packs_a, each.packs_b) for each in chosen}
    assert {(True, True, True), (True, False, True), (True, False, False), (False, False, True)} <= seen
    assert {(each.rows_first, each.panel < each.row_blocks) for each in chosen} == {*product((True, False), repeat=2)}


@pytest.mark.parametrize("columns", [1, 7, LANES, 2 * LANES - 1, 3 * LANES, 70, 1009])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
def test_the_place_of_the_first_largest_is_found_among_ties_nans_and_infinities(dtype, columns):
    random = np.random.default_rng(0)
    x = random.integers(-2, 3, (40, columns)).astype(dtype)
    if x.dtype.kind == "f":
        for value in (np.nan, -np.inf, np.inf):
            x[random.random(x.shape) < 0.1] = value
        x[0], x[1], x[2] = np.nan, -np.inf, np.inf
    check(lambda x: (x.argmax(axis=1), x.argmin(axis=1)), x)
    for f, wanted in ((ns.argmax, np.argmax), (ns.argmin, np.argmin)):
        np.testing.assert_array_equal(ns.compile(lambda x, f=f: f(x, axis=1))(x).numpy(), wanted(x, axis=1))


@pytest.fixture
def all_folded(monkeypatch):
    """Have the last columns of products folded as much as can be; provide the tilings that are chosen."""
    chosen = []

    def told(*numbers, **facts):
        chosen.append(tiling.tiling(*numbers, **facts))
        return chosen[-1]

    def tile_shape(rows, columns, lanes, registers, *, folds=False, transposed=False):
        rest = columns % lanes
        fold = lanes // (1 << (rest - 1).bit_length()) if folds and rest > 1 and columns > lanes else 1
        return max(min(rows // 5, 8) // fold * fold, fold if transposed else 1), 1, fold

    monkeypatch.setattr(tiling, "tile_shape", tile_shape)
    monkeypatch.setattr(products, "tiling", told)
    monkeypatch.setattr(cache, "kept", lambda description, make: make())
    return chosen


# Rows and k that are a multiple of the fold, and some that are not; one column, and all but one, of a vector.
FOLDED = [(40, 64, 2 * LANES + 2), (47, 67, LANES + 3), (41, 33, 3 * LANES - 1), (80, 70, 2 * LANES + LANES // 2)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("split", [False, True])
def test_folded_columns_are_those_of_the_product(split, dtype, all_folded, monkeypatch):
    for name, value in (SMALL | {"B_ROWS_BYTES": 1 << 12}).items() if split else ():
        monkeypatch.setattr(tiling, name, value)
    for (m, k, n), (name, f) in product(FOLDED, TRANSPOSITIONS.items()):
        a = floats(*((k, m) if "Aᵀ" in name else (m, k))).astype(dtype)
        b = floats(*((n, k) if "Bᵀ" in name else (k, n)), seed=1).astype(dtype)
        check(lambda a, b, bias, f=f: ns.relu(f(a, b) + bias), a, b, floats(n).astype(dtype))
    assert sum(each.fold > 1 for each in all_folded) >= len(all_folded) // 2
    assert any(each.fold > 1 and each.k_block < 33 for each in all_folded) is split


@pytest.mark.parametrize("name", GATHERED)
def test_folded_columns_of_rows_by_number(name, all_folded):
    i = np.arange(41) * 7 % 40
    arrays = floats(41, 300), i, floats(300, LANES + 3, seed=1), floats(41, LANES + 3, seed=2)
    check(GATHERED[name], *arrays)
    assert {each.fold > 1 for each in all_folded} == {True}


ON_THE_STACK = [(4, 3, 100_000), (1, 16, 200_000), (4, 9, 30_000), (1, 16, 60_000), (300, 2100, 300), (700, 4096, 1024)]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("shape", ON_THE_STACK, ids=str)
def test_the_buffers_of_a_product_fit_on_the_stack_of_a_thread(shape, transposed, monkeypatch):
    sizes = []
    stack_buffer = Product.stack_buffer

    def told(self, size, dtype):
        sizes.append(size * dtype.itemsize)
        return stack_buffer(self, size, dtype)

    monkeypatch.setattr(Product, "stack_buffer", told)
    monkeypatch.setattr(cache, "kept", lambda description, make: make())
    rows, inner, columns = shape
    a, b = floats(rows, inner), floats(*((columns, inner) if transposed else (inner, columns)))
    f = ns.compile(lambda a, b: a @ (b.T if transposed else b))
    f(a, b)
    before = threading.stack_size(1 << 20)  # as on Windows
    found = []
    thread = threading.Thread(target=lambda: found.append(f(a, b)))
    thread.start()
    threading.stack_size(before)
    thread.join()
    assert sum(sizes) <= tiling.STACK_BYTES
    assert sizes or rows <= 4
    close(found[0].numpy(), (a.astype("float64") @ (b.T if transposed else b)).astype("float32"))


def test_a_number_out_of_range_changes_nothing():
    x, weight = ns.tensor(floats(9, 300)), nn.Parameter(floats(300, 5))
    optimizer = optim.SGD([weight], lr=0.1)

    @ns.compile
    def step(i):
        loss = ns.square(x[i] @ weight).mean()
        loss.backward()
        optimizer.step()
        return loss

    step(ns.tensor([0, -9, 8]))
    assert gathered(step.graph)
    before = np.array(weight.numpy())
    for wrong in (9, -10):
        with pytest.raises(IndexError, match="out of bounds"):
            step(ns.tensor([0, wrong, 8]))
        np.testing.assert_array_equal(weight.numpy(), before)


def test_a_profile_reads_no_rows_that_are_not_there():
    x, weight, places = ns.tensor(floats(50, 300)), ns.tensor(floats(300, 5)), nn.Buffer(np.arange(1, 6))

    @ns.compile
    def step(i):
        rows = x[places] @ weight + x[i] @ weight
        places.assign(places * 2)  # which, done as often as a profile runs it, would be far outside
        return rows

    step(ns.tensor(np.arange(5)))
    assert len(gathered(step.graph)) == 2
    assert "matmul" in step.profile(ns.tensor(np.arange(5)))
    assert places.tolist() == [2, 4, 6, 8, 10]
    with pytest.raises(IndexError, match="out of bounds"):
        step.profile(ns.tensor(np.arange(5) + 10**9))


def test_no_training_step_writes_beside_its_results():
    model = nn.Sequential(nn.Linear(13, 37), nn.LayerNorm(37), nn.ReLU(), nn.Dropout(0.3), nn.Linear(37, 5))
    optimizer = optim.Adam(model.parameters())

    def step(x, labels):
        loss = nn.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    graph = graph_of(step, ns.tensor(floats(21, 13)), ns.tensor(labels(21, 5)))
    native = FramedProgram(graph)
    arrays = [np.full(s.shape, 2, s.dtype) if s.dtype.kind != "f" else abs(floats(*s.shape)) for s in graph.inputs]
    arrays = [x.astype(s.dtype) for x, s in zip(arrays, graph.inputs, strict=True)]
    assert native.memory.written
    for found, wanted in zip(native(arrays), interpret(graph, arrays), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    native.assert_intact()


def test_a_kernel_that_threads_share_does_each_part_once():
    """Kernels are called for shares of their units, as threads would, for more threads than some have units."""

    def f(x, y, bias, z, i):
        of_columns = y.sum(axis=0), ns.exp(y).max(axis=0)
        products = ns.relu(x @ y + bias), y.T @ y, z @ z.T, z[i] @ z.T, z[i].T @ z[i + 1]
        return ns.tanh(x) * 2.0, x.softmax(), x[:, :5].softmax(), x.max(axis=1), *products, *of_columns

    i = labels(50, 129)
    x, y, bias, z = floats(37, 2 * LANES + 3), floats(2 * LANES + 3, 70), floats(70), floats(130, 900)
    graph = graph_of(f, *map(ns.tensor, (x, y, bias, z, i)))
    native = FramedProgram(graph)
    module, units = emit_kernels(native.plan, native.memory)
    code = Code(machine_code(module), dict.fromkeys(units, (c_void_p, c_int64, c_int64)))
    assert max(units.values()) > 1
    for threads in (1, 2, 3, 7, 50):
        held = native.take([x, y, bias, z, i])
        for name, count in units.items():
            for thread in range(threads):
                code.functions[name](native.table, count * thread // threads, count * (thread + 1) // threads)
        native.assert_intact()
        found = [native.array_of(symbol, held) for symbol in native.graph.outputs]
        for result, wanted in zip(found, interpret(graph, [x, y, bias, z, i]), strict=True):
            close(np.array(result), wanted, factor=5)


def test_kernels_that_do_not_collide_may_run_in_either_order():
    graph = simplified(trained_network(2))
    arrays = [np.random.default_rng(i).uniform(0, 4, s.shape).astype(s.dtype) for i, s in enumerate(graph.inputs)]
    native = Program(graph)
    kernels, names = native.plan.kernels, [f"kernel_{i}" for i in range(len(native.plan.kernels))]
    module, units = emit_kernels(native.plan, native.memory)
    code = Code(machine_code(module), dict.fromkeys(units, (c_void_p, c_int64, c_int64)))

    def results(order):
        held = native.take([array.copy() for array in arrays])
        for name in order:
            code.functions[name](native.table, 0, units[name])
        return [np.array(native.array_of(symbol, held)) for symbol in native.graph.outputs]

    expected, differ = results(names), 0
    for i in range(len(kernels) - 1):
        found = results([*names[:i], names[i + 1], names[i], *names[i + 2 :]])
        same = all(map(np.array_equal, found, expected))
        assert same or native.memory.collide(kernels[i], kernels[i + 1])
        differ += not same
    assert differ >= 2
    together = [native.memory.collide(a, b) for a, b in pairwise(kernels)]
    assert together.count(False) > 5


def test_threads_meet_only_where_a_kernel_needs_what_others_do():
    def independent(x, y):
        return x @ x, y @ y, (x + y).exp()

    def dependent(x, y):
        return ((x @ x) @ y) @ x

    def meetings(f):
        native = Program(graph_of(f, *(ns.tensor(floats(200, 200, seed=seed)) for seed in range(2))))
        written = str(emit(native.graph, native.plan, native.memory))
        return written.partition('@"shared_scan"')[2].count('@"barrier"')

    assert meetings(independent) == 2  # at the beginning, and at the end of a step
    assert meetings(dependent) == 4


def test_what_is_costly_follows_from_the_rules_of_the_ops():
    def f(x, y):
        return (x + y).relu().sqrt() / y, (x - y).exp(), x.sigmoid(), x**y, ns.random.uniform((2,))

    graph = graph_of(f, ns.tensor([1.0, 2.0]), ns.tensor([3.0, 4.0]))
    assert [e.op.name for e in graph.equations if is_costly(e)] == ["exp", "sigmoid", "pow", "random_uniform"]


@pytest.mark.parametrize(
    ("machine", "hints"),
    [("AMD64", ["llvm.x86.sse2.pause"]), ("arm64", ["llvm.aarch64.isb"]), ("riscv64", [])],
)
def test_a_thread_that_waits_lets_the_other_one_of_its_core_run(machine, hints, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: machine)
    module = ir.Module()
    emit_barrier(module)
    assert re.findall(r'call void @"(llvm[^"]*)"', str(module)) == hints


@pytest.mark.parametrize(
    ("f", "dtype", "as_zero"),
    [
        (lambda x, y: x @ y, "float32", True),
        (lambda x, y: (x @ y).relu() * 2.0, "float32", True),
        (lambda x, y: (x @ y).sigmoid(), "float32", False),  # whose values may be subnormal themselves
        (lambda x, y: x @ y, "float64", False),
        (lambda x, y: x * 2.0, "float32", False),
    ],
)
def test_subnormal_numbers_count_as_zero_in_products_alone(f, dtype, as_zero):
    smallest = np.finfo(dtype).tiny
    x, y = np.full((70, 100), -100.0, dtype), np.eye(100, dtype=dtype)
    x[:, 0] = smallest / 4
    found, expected = ns.compile(f)(x, y).numpy(), f(ns.tensor(x), ns.tensor(y)).numpy()
    subnormal = (expected != 0) & (abs(expected) < smallest)
    assert subnormal.any()
    if as_zero and platform.machine().lower() in X86:
        expected = np.where(subnormal, 0, expected)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert (x[:, 0] * 1 > 0).all()  # the CPU's mode is what it was


@pytest.mark.parametrize("rows", range(1, 10))
def test_short_rows_in_turn_are_what_each_is_alone(rows):
    softmax = ns.compile(lambda x: (x.softmax(), x.log_softmax(), x.argmax(axis=1), (x.softmax() * x).sum()))
    x = floats(rows, 10)
    *together, total = softmax(x)
    alone = [softmax(x[i : i + 1]) for i in range(rows)]
    for i, results in enumerate(alone):
        for found, expected in zip(together, results, strict=False):
            np.testing.assert_array_equal(found.numpy()[i], expected.numpy()[0])
    np.testing.assert_allclose(total.item(), sum(parts[-1].item() for parts in alone), rtol=1e-5)


@pytest.mark.parametrize("columns", [1, 2, LANES - 1, 2 * LANES, 2 * LANES + 3])
@pytest.mark.parametrize("rows", [1, 2, 5, 16, 17, 40])
def test_a_long_epilogue_is_right_in_whole_tiles_at_edges_and_in_a_column(rows, columns):
    weight, moments = floats(rows, columns), [floats(rows, columns) ** 2 for _ in range(2)]

    def f(a, b, bias, weight, *moments):
        gradient = a.T @ b
        state = apply_all(adam, weight, gradient, *moments, 0.1, 1e-8, beta1=0.9, beta2=0.999, weight_decay=0.0)
        error = a @ weight + bias
        return (*state, ns.log1p(ns.exp(-abs(error))) * 0.5 + ns.tanh(error) - error * (error > 0))

    check(f, floats(23, rows), floats(23, columns), floats(columns), weight, *moments)


@pytest.mark.parametrize("rows", [20, 600])
def test_a_large_softmax_is_apart_from_the_sums_over_its_rows(rows):
    """Threads share rows only where nothing adds up over them in the same pass."""

    def f(x):
        return ns.grad(lambda b: (x + b).log_softmax()[:, 0].mean())(ns.tensor(floats(10))), x.softmax().sum(axis=0)

    x = floats(rows, 10)
    kernels = plan.make_plan(simplified(graph_of(f, ns.tensor(x)))).kernels
    softmax = [k for k in kernels if isinstance(k, Group) and any(e.op.name == "exp" for e in k.equations)]
    assert softmax
    assert any(Level.COLUMN in kernel.levels.values() for kernel in softmax) == (rows == 20)
    check(f, x)


@pytest.mark.parametrize(
    ("f", "kernels"),
    [
        (lambda x, y, z: y * 2.0 + x @ x, 1),
        (lambda x, y, z: x @ x + y * 2.0, 1),
        (lambda x, y, z: (x @ x + (y * 2.0 - z)).tanh(), 1),
        (lambda x, y, z: y * z + (x - y * 2.0).sum(axis=1, keepdims=True), 1),
        (lambda x, y, z: x @ x + (y * z).T, 2),  # another element
        (lambda x, y, z: (y * 2.0, x @ x + y * 2.0), 2),  # whose value is a result
        (lambda x, y, z: (x @ x + y * 2.0, z @ x - y * 2.0), 3),  # that two passes use
        (lambda x, y, z: (y * 2.0) @ x + y * 2.0, 2),  # that is multiplied
    ],
)
def test_elements_are_computed_in_the_pass_that_alone_uses_them(f, kernels):
    arrays = [floats(9, 9, seed=seed) for seed in range(3)]
    assert len(plan.make_plan(simplified(graph_of(f, *map(ns.tensor, arrays)))).kernels) == kernels
    check(f, *arrays)


def trained_network(hidden):
    """Return the graph of a training step of a network with hidden layers of one size, all kinds of them."""
    layers = [nn.Linear(30, 20)]
    for _ in range(hidden):
        layers += [nn.Linear(20, 20), nn.BatchNorm(20), nn.Tanh(), nn.Dropout(0.1)]
    model = nn.Sequential(*layers, nn.Linear(20, 4))
    optimizer = optim.Adam(model.parameters())

    def step(x, labels):
        loss = nn.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    return graph_of(step, ns.tensor(floats(16, 30)), ns.tensor(np.arange(16) % 4))


def test_kernels_that_are_alike_share_their_code():
    def codes(hidden):
        native = Program(trained_network(hidden))
        kernels = Kernels(ir.Module(), native.plan, native.memory)
        for i, kernel in enumerate(native.plan.kernels):
            kernels.emit(f"kernel_{i}", kernel)
        return len(native.plan.kernels), len(kernels.codes)

    (few, few_codes), (many, many_codes) = codes(3), codes(8)
    assert many > 2 * few
    assert many_codes == few_codes < few


def test_what_kernels_say_is_all_that_their_code_depends_on():
    native = Program(trained_network(4))
    kernels = Kernels(ir.Module(), native.plan, native.memory)
    written = {}
    for i, kernel in enumerate(native.plan.kernels):
        key, arrays = kernels.key(kernel)
        code = kernels.code(f"kernel_{i}", kernel, arrays)
        text = str(code.function).partition("(")[2]
        assert written.setdefault(key, (text, code.arrays, code.units)) == (text, code.arrays, code.units)
    assert len(written) < len(native.plan.kernels)


def test_a_number_is_not_taken_for_what_another_kernel_computes():
    a, b, c, d = (floats(100, 7, seed=i) for i in range(4))
    for f in (
        lambda a, b, c, d: (a * b + b, c * d + 1),
        lambda a, b, c, d: (a * b + 1, c * d + d),
        lambda a, b, c, d: (ns.tanh(a * 2), ns.tanh(b * 3), ns.tanh(c * 2.5), ns.tanh(d * 2.5)),
    ):
        graph = graph_of(f, *map(ns.tensor, (a, b, c, d)))
        for found, wanted in zip(Program(graph)([a, b, c, d]), interpret(graph, [a, b, c, d]), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_a_number_is_told_from_one_of_another_dtype():
    x = numbers((3, 3))
    padded = ns.compile(lambda x: (ns.pad(x, 1, value=np.float32(0.1)), ns.pad(x + 1, 1, value=0.1)))
    one, other = padded(ns.tensor(x))
    assert one.numpy()[0, 0] != other.numpy()[0, 0] == 0.1


@pytest.fixture
def _only_plans(monkeypatch, tmp_path):
    """Let programs be planned and written down, but not compiled."""
    monkeypatch.setenv("NISSL_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(program, "object_code", lambda text: b"")
    monkeypatch.setattr(program, "Code", lambda code, functions: SimpleNamespace(functions=functions))


OF_SHORT_ROWS = {
    "elements": lambda x: ns.exp(x) * 2.0,
    "rows": lambda x: x / (x * x).sum(axis=1, keepdims=True),
    "columns": lambda x: (x * x).sum(axis=0),
    "total": lambda x: (x * x).sum(),
    "softmax": lambda x: nn.cross_entropy(x, x.argmax(axis=1)),
    "transposed": lambda x: ns.exp(x.T),
    "joined": lambda x: ns.concat([x, x * 2.0], axis=1),
    "rows by number": lambda x: x[x.argmax(axis=1)],
    "dropout": lambda x: nn.Dropout(0.4)(x),
    "product": lambda x: ns.tanh(x @ x[:10] + 1.0),
    "product over the rows": lambda x: x.T @ x,
}


@pytest.mark.parametrize("name", OF_SHORT_ROWS)
@pytest.mark.usefixtures("_only_plans")
def test_more_rows_do_not_make_more_code(name):
    programs = [Program(graph_of(OF_SHORT_ROWS[name], ns.tensor(floats(n, 10)))) for n in (1200, 2400)]
    sizes = [len(str(emit(program.graph, program.plan, program.memory))) for program in programs]
    assert sizes[1] < 1.2 * sizes[0]


# The checks checked: kernels that go too far, and what a reader sees then.


def all_in_whole_vectors(self, size, lanes, body, share=None):
    self.loop(emitter.index(0), emitter.index(size), lanes, lambda column: body(column, lanes))


def test_a_kernel_that_does_the_rest_with_a_whole_vector_is_found(monkeypatch, tmp_path):
    check(lambda x: ns.exp(x), floats(1009))
    monkeypatch.setattr(emitter.Emitter, "chunks", all_in_whole_vectors)
    monkeypatch.setenv("NISSL_CACHE_HOME", str(tmp_path))  # as the graphs are the same
    check(lambda x: ns.exp(x), floats(1024))  # there is no rest
    with pytest.raises(AssertionError, match="byte 4036 was written, of an array of 4036"):
        check(lambda x: ns.exp(x), floats(1009))
    with pytest.raises(AssertionError):
        check(lambda x: x.sum(), floats(1009))  # which writes nothing wrong, but reads NaN


def test_a_frame_shows_what_is_written_before_and_behind_it():
    for place in (-1, 12, 1000):
        frame = Frame((3,), "float32", WRITTEN)
        frame.array[...] = 1
        frame.assert_intact()
        frame.whole[frame.start + place] = 0
        with pytest.raises(AssertionError, match=f"byte {place} was written, of an array of 12 bytes"):
            frame.assert_intact()


GUARDED = """
import ctypes, mmap, sys
sys.path.insert(0, {tests!r})
import numpy as np
import test_native_kernels as kernels
from nissl.engines.native import emitter, plan
mprotect = ctypes.CDLL(None, use_errno=True).mprotect
PAGE, kept = mmap.PAGESIZE, []

class GuardedFrame:
    # Memory that begins or ends where a page that nobody may read does.
    at_end = True
    def __init__(self, shape, dtype, canary):
        size = int(np.prod(shape, dtype=int)) * np.dtype(dtype).itemsize
        pages = -(-max(size, 1) // PAGE)
        memory = mmap.mmap(-1, (pages + 2) * PAGE)
        kept.append(memory)  # which stays as it is, also when other memory is wanted
        first = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for guard in (first, first + (pages + 1) * PAGE):
            assert mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(PAGE), 0) == 0
        start = (pages + 1) * PAGE - size if self.at_end else PAGE
        self.array = np.frombuffer(memory, np.uint8, size, start).view(dtype).reshape(shape)
    def assert_intact(self):
        pass

kernels.Frame = GuardedFrame
plan.LONG_ROW, plan.TINY_VALUE = 8, 0
{lines}
print("done")
"""
KINDS_GUARDED = """
for size in (1, kernels.LANES + 1, 101):
    for kind in kernels.KINDS:
        GuardedFrame.at_end = size != 101
        print(kind, size, flush=True)
        f, *arrays = kernels.KINDS[kind](size)
        kernels.check(f, *arrays)
"""
PRODUCTS_GUARDED = """
for m, k, n in ((7, 9, 3), (33, kernels.LANES, 40), (70, 131, 67)):
    for name, f in kernels.TRANSPOSITIONS.items():
        print(name, m, k, n, flush=True)
        a = kernels.floats(*((k, m) if "Aᵀ" in name else (m, k)))
        kernels.check(f, a, kernels.floats(*((n, k) if "Bᵀ" in name else (k, n))))
    for name, f in kernels.GATHERED.items():
        print(name, m, k, n, flush=True)
        i = np.arange(m) * 7 % 19 - 9
        kernels.check(f, kernels.floats(11, k), i, kernels.floats(k, n, seed=1), kernels.floats(m, n, seed=2))
"""
TOO_FAR = """
emitter.Emitter.chunks = kernels.all_in_whole_vectors
kernels.check(lambda x: x.sum(), kernels.floats(1009))
"""


@pytest.mark.skipif(os.name != "posix", reason="memory is guarded in another way there")
@pytest.mark.parametrize("lines", [KINDS_GUARDED, PRODUCTS_GUARDED, TOO_FAR], ids=["kinds", "products", "too far"])
def test_no_kernel_reads_beside_what_it_is_given(lines, tmp_path):
    text = GUARDED.format(tests=os.path.dirname(__file__), lines=lines)
    environment = os.environ | {"NISSL_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", text], capture_output=True, encoding="utf8", env=environment, timeout=200
    )
    if lines is TOO_FAR:
        assert done.returncode in (-signal.SIGSEGV, -signal.SIGBUS)
    else:
        assert done.returncode == 0, (done.stdout.splitlines()[-1:], done.stderr[-2000:])
        assert done.stdout.endswith("done\n")


# ---- what is left to NumPy ----

# Ops of which some calls have no machine code, and which calls these are.
WITHOUT_MACHINE_CODE = {
    "add_along_axis": "all; the gradient of take_along_axis",
    "argmax": "over another axis than the last, or all",
    "argmin": "over another axis than the last, or all",
    "index": "by arrays of numbers, unless one array of one axis takes whole rows",
    "index_add": "by arrays of numbers",
    "max": "over no axes",
    "min": "over no axes",
    "random_bits": "all",
    "random_permutation": "all",
    "sum": "over no axes",
    "take_along_axis": "all",
}


def left_to_numpy(graph):
    """Return the ops that NumPy computes in a program, leaving aside those on nothing."""
    equations = [kernel.equation for kernel in Program(graph).plan.kernels if isinstance(kernel, Call)]
    return {e.op.name for e in equations if all(0 not in getattr(x, "shape", ()) for x in (*e.inputs, *e.outputs))}


@pytest.mark.usefixtures("_only_plans")
def test_the_ops_without_machine_code_are_those_of_the_list():
    found = set()
    for parameters in every_op_with_samples(lambda sample: "mask" not in sample.name):
        (sample,) = parameters.values
        found |= left_to_numpy(graph_of(lambda *x, sample=sample: sample(*x), *sample.tensors("float32")))
    assert found == set(WITHOUT_MACHINE_CODE)


NETS = {
    "perceptron": lambda: nn.Linear(6, 3),
    "sigmoid": lambda: nn.Sequential(nn.Linear(6, 20), nn.Sigmoid(), nn.Linear(20, 3)),
    "tanh": lambda: nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 3)),
    "relu": lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 3)),
    "softmax": lambda: nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 3), nn.Softmax()),
    "other activations": lambda: nn.Sequential(
        nn.Linear(6, 20), nn.LeakyReLU(), nn.Linear(20, 20), nn.ELU(), nn.Linear(20, 20), nn.GELU(),
        nn.Linear(20, 20), nn.SiLU(), nn.Linear(20, 20), nn.Softplus(), nn.Linear(20, 3),
    ),
    "regularized": lambda: nn.Sequential(
        nn.Linear(6, 20), nn.BatchNorm(20), nn.ReLU(), nn.Dropout(0.2), nn.Linear(20, 20), nn.LayerNorm(20), nn.Tanh(),
        nn.Dropout(0.5), nn.Linear(20, 3),
    ),
}  # fmt: skip

LOSSES = {
    "cross-entropy": (nn.cross_entropy, labels(50, 3)),
    "cross-entropy error": (lambda y, t: nn.cross_entropy_error(y.softmax(), t), labels(50, 3)),
    "binary cross-entropy": (nn.binary_cross_entropy_with_logits, (floats(50, 3) > 0).astype("float32")),
    "of probabilities": (lambda y, t: nn.binary_cross_entropy(ns.sigmoid(y), t), (floats(50, 3) > 0).astype("float32")),
    "mean squared error": (nn.mse_loss, floats(50, 3)),
    "sum of squares": (nn.sum_squared_error, floats(50, 3)),
    "absolute error": (nn.l1_loss, floats(50, 3)),
    "huber": (nn.huber_loss, floats(50, 3)),
}

SCHEDULES = {
    "none": 0.01,
    "constant": optim.schedules.constant(0.01),
    "cosine": optim.schedules.cosine(0.01, 100, warmup=10),
    "linear": optim.schedules.linear(0.01, 100),
    "exponential": optim.schedules.exponential(0.01, 0.9),
    "step decay": optim.schedules.step_decay(0.01, 10),
    "delayed": optim.schedules.delayed(optim.schedules.linear(0.01, 100), 5),
}


def curriculum():
    """Yield nets, losses, optimizers and schedules: each of one kind with one of the others."""
    for i, net in enumerate(NETS):
        yield net, "cross-entropy", list(OPTIMIZERS)[i], "none"
    for loss in LOSSES:
        yield "perceptron", loss, "SGD", "none"
    for optimizer in OPTIMIZERS:
        yield "relu", "cross-entropy", optimizer, "none"
    for schedule in SCHEDULES:
        yield "perceptron", "cross-entropy", "Adam", schedule


@pytest.mark.parametrize("names", dict.fromkeys(curriculum()), ids=", ".join)
def test_no_training_of_a_perceptron_leaves_anything_to_numpy(names):
    net, loss, optimizer, schedule = names
    model, (loss, targets) = NETS[net](), LOSSES[loss]
    optimizer = OPTIMIZERS[optimizer](model.parameters(), SCHEDULES[schedule])

    def step(x, targets):
        value = loss(model(x), targets)
        value.backward()
        optim.clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        return value

    assert left_to_numpy(graph_of(step, ns.tensor(floats(50, 6)), ns.tensor(targets))) == set()
