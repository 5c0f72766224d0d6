"""The eager training step: 784-128-10, ReLU, cross-entropy, batch 32, Adam at its defaults, beside its peers.

Each peer runs in a process of its own, in turn, for several rounds; a round's figure is the median of many blocks.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.processes import run

ROUNDS = 7
BLOCKS = 15
STEPS = 100
WARM_UP = 200
BATCH, INPUTS, HIDDEN, CLASSES = 32, 784, 128, 10


def data() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    x = generator.random((BATCH, INPUTS), dtype=np.float32)
    return x, generator.integers(0, CLASSES, BATCH)


def nissl_step(compiled: bool) -> Callable[[], object]:
    import nissl as ns
    from nissl import nn, optim

    x, labels = map(ns.tensor, data())
    model = nn.Sequential(nn.Linear(INPUTS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))
    optimizer = optim.Adam(model.parameters())

    def step() -> object:
        loss = nn.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    return ns.compile(step, engine="numpy") if compiled else step


def torch_step() -> Callable[[], object]:
    import torch

    x, labels = map(torch.from_numpy, data())
    model = torch.nn.Sequential(torch.nn.Linear(INPUTS, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, CLASSES))
    optimizer = torch.optim.Adam(model.parameters())

    def step() -> object:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def sklearn_step() -> Callable[[], object]:
    from sklearn.neural_network import MLPClassifier

    x, labels = data()
    model = MLPClassifier((HIDDEN,), batch_size=BATCH, shuffle=False)
    rows = np.tile(x, (STEPS, 1)), np.tile(labels, STEPS)
    model.partial_fit(*rows, classes=range(CLASSES))
    return lambda: model.partial_fit(*rows)  # as many steps as a block has


PEERS: dict[str, tuple[Callable[[], Callable[[], object]], int]] = {
    "nissl eager": (lambda: nissl_step(compiled=False), 1),
    "nissl compiled on NumPy": (lambda: nissl_step(compiled=True), 1),
    "PyTorch eager": (torch_step, 1),
    "scikit-learn": (sklearn_step, STEPS),
}


def microseconds(peer: str) -> float:
    """Return the median time of a step, in this process."""
    make, steps_a_call = PEERS[peer]
    step = make()
    calls = STEPS // steps_a_call
    for _ in range(WARM_UP // steps_a_call):
        step()
    times = []
    for _ in range(BLOCKS):
        start = time.perf_counter()
        for _ in range(calls):
            step()
        times.append((time.perf_counter() - start) / STEPS * 1e6)
    return statistics.median(times)


def measure() -> Iterator[tuple[str, str, str, bool]]:
    times: dict[str, list[float]] = {peer: [] for peer in PEERS}
    for _ in range(ROUNDS):
        for peer in PEERS:
            times[peer].append(float(run(["-m", "benchmarks.steps", peer])))
    medians = {peer: statistics.median(found) for peer, found in times.items()}
    ours = medians["nissl eager"]
    for peer, found in times.items():
        if peer != "nissl eager":
            ratio = statistics.median(a / b for a, b in zip(times["nissl eager"], found, strict=True))
            bar = {"PyTorch eager": "≤ 1.0 ×", "scikit-learn": "< 1.0 ×"}.get(peer, "-")
            text = f"{ours:.0f} µs, {medians[peer]:.0f} µs: {ratio:.2f} ×"
            yield f"eager step beside {peer}", text, bar, ratio <= 1 or bar == "-"


if __name__ == "__main__":
    print(microseconds(sys.argv[1]))
