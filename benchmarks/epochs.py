"""Training steps inside the fastest loop that each library has, beside each other: XOR and 784-128-10.

Every peer runs in a process of its own, in turn, for several rounds; all gather their minibatches from the same data by
the same permutations. JAX runs all steps of an epoch in one `lax.scan`, nissl in one `scan`; PyTorch has no such loop.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.processes import run

ROUNDS = 5
XOR_STEPS = 50_000
ROWS, INPUTS, HIDDEN, CLASSES = 60_000, 784, 128, 10

Run = Callable[[], object]


def images() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return generator.random((ROWS, INPUTS), dtype=np.float32), generator.integers(0, CLASSES, ROWS)


def orders(batch: int) -> np.ndarray:
    return np.random.default_rng(1).permutation(ROWS)[: ROWS // batch * batch].reshape(-1, batch)


XOR = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
EXCLUSIVE = np.array([[0], [1], [1], [0]], np.float32)


def nissl_xor() -> tuple[Run, int]:
    import nissl as ns
    from nissl import nn, optim

    x, t = ns.tensor(XOR), ns.tensor(EXCLUSIVE)
    model = nn.Sequential(nn.Linear(2, 2, weight_init="xavier_normal"), nn.Sigmoid(), nn.Linear(2, 1), nn.Sigmoid())
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    @ns.compile
    def step() -> object:
        loss = nn.binary_cross_entropy(model(x), t)
        loss.backward()
        optimizer.step()
        return loss

    return lambda: step.scan(steps=XOR_STEPS), XOR_STEPS


def nissl_mlp(batch: int) -> tuple[Run, int]:
    import nissl as ns
    from nissl import nn, optim

    x, labels = map(ns.tensor, images())
    model = nn.Sequential(nn.Linear(INPUTS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))
    optimizer = optim.Adam(model.parameters())

    @ns.compile
    def step(rows: object) -> object:
        loss = nn.cross_entropy(model(x[rows]), labels[rows])
        loss.backward()
        optimizer.step()
        return loss

    rows = orders(batch)
    return lambda: step.scan(rows), len(rows)


def jax_xor() -> tuple[Run, int]:
    import jax
    import jax.numpy as jnp
    import optax

    def loss_of(p: list, x: object, t: object) -> object:
        z = jax.nn.sigmoid(jax.nn.sigmoid(x @ p[0] + p[1]) @ p[2] + p[3])
        return -jnp.mean(t * jnp.log(z) + (1 - t) * jnp.log(1 - z))

    optimizer = optax.sgd(0.1)
    keys = jax.random.split(jax.random.key(0), 2)
    p = [jax.random.normal(keys[0], (2, 2)), jnp.zeros(2), jax.random.normal(keys[1], (2, 1)), jnp.zeros(1)]
    x, t = jnp.array(XOR), jnp.array(EXCLUSIVE)

    def step(carry: tuple, _: object) -> tuple:
        p, state = carry
        loss, g = jax.value_and_grad(loss_of)(p, x, t)
        changes, state = optimizer.update(g, state, p)
        return (optax.apply_updates(p, changes), state), loss

    program = jax.jit(lambda carry: jax.lax.scan(step, carry, None, length=XOR_STEPS))
    carry = (p, optimizer.init(p))
    return lambda: jax.block_until_ready(program(carry)), XOR_STEPS


def jax_mlp(batch: int) -> tuple[Run, int]:
    import jax
    import jax.numpy as jnp
    import optax

    x, labels = map(jnp.array, images())
    keys = jax.random.split(jax.random.key(0), 2)
    p = [
        jax.random.normal(keys[0], (INPUTS, HIDDEN)) * (2 / INPUTS) ** 0.5,
        jnp.zeros(HIDDEN),
        jax.random.normal(keys[1], (HIDDEN, CLASSES)) * (2 / HIDDEN) ** 0.5,
        jnp.zeros(CLASSES),
    ]
    optimizer = optax.adam(1e-3)

    def loss_of(p: list, x: object, t: object) -> object:
        logits = jax.nn.relu(x @ p[0] + p[1]) @ p[2] + p[3]
        return optax.softmax_cross_entropy_with_integer_labels(logits, t).mean()

    def step(carry: tuple, rows: object) -> tuple:
        p, state = carry
        loss, g = jax.value_and_grad(loss_of)(p, x[rows], labels[rows])
        changes, state = optimizer.update(g, state, p)
        return (optax.apply_updates(p, changes), state), loss

    program = jax.jit(lambda carry, order: jax.lax.scan(step, carry, order))
    rows = jnp.array(orders(batch))
    carry = (p, optimizer.init(p))
    return lambda: jax.block_until_ready(program(carry, rows)), len(rows)


def torch_xor() -> tuple[Run, int]:
    import torch

    x, t = torch.from_numpy(XOR), torch.from_numpy(EXCLUSIVE)
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Sigmoid(), torch.nn.Linear(2, 1), torch.nn.Sigmoid())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    steps = XOR_STEPS // 50

    def train() -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            torch.nn.functional.binary_cross_entropy(model(x), t).backward()
            optimizer.step()

    return train, steps


def torch_mlp(batch: int) -> tuple[Run, int]:
    import torch

    x, labels = map(torch.from_numpy, images())
    model = torch.nn.Sequential(torch.nn.Linear(INPUTS, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, CLASSES))
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    rows = torch.from_numpy(orders(batch))[:600]

    def train() -> None:
        for chosen in rows:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[chosen]), labels[chosen]).backward()
            optimizer.step()

    return train, len(rows)


PROGRAMS: dict[str, dict[str, Callable[[], tuple[Run, int]]]] = {
    "XOR 2-2-1, SGD, a step": {"nissl": nissl_xor, "JAX lax.scan": jax_xor, "PyTorch eager": torch_xor},
    **{
        f"784-128-10, Adam, batch {batch}, a step": {
            "nissl": lambda batch=batch: nissl_mlp(batch),  # type: ignore[misc]
            "JAX lax.scan": lambda batch=batch: jax_mlp(batch),  # type: ignore[misc]
            "PyTorch eager, fused Adam": lambda batch=batch: torch_mlp(batch),  # type: ignore[misc]
        }
        for batch in (32, 128, 1024)
    },
}


def microseconds(program: str, peer: str) -> float:
    """Return the time of a step, the best of several epochs, in this process."""
    train, steps = PROGRAMS[program][peer]()
    train()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        train()
        times.append((time.perf_counter() - start) / steps * 1e6)
    return statistics.median(times)


def measure() -> Iterator[tuple[str, str, str, bool]]:
    for program, peers in PROGRAMS.items():
        times: dict[str, list[float]] = {peer: [] for peer in peers}
        for _ in range(ROUNDS):
            for peer in peers:
                times[peer].append(json.loads(run(["-m", "benchmarks.epochs", program, peer])))
        for peer, found in times.items():
            text = f"{statistics.median(found):.2f} µs"
            if peer != "nissl":
                ratio = statistics.median(a / b for a, b in zip(times["nissl"], found, strict=True))
                text += f": nissl takes {ratio:.3f} × that"
            yield f"{program}: {peer}", text, "-", True


if __name__ == "__main__":
    print(json.dumps(microseconds(*sys.argv[1:])))
