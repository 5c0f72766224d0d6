"""What `explain()` says of three programs, kept in tests/golden.

`python tests/test_explain.py` writes the texts anew; read in the diff what has changed. Lines of this file are counted
from the function that is compiled. The texts hold for vectors of every width.
"""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from samples import numbers

import nissl as ns
from nissl import nn, optim
from nissl.engines.native import kernels, program

GOLDEN = Path(__file__).parent / "golden"
X, LABELS = numbers((100, 12)).astype("float32"), np.arange(100) % 10


def training_step():
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    def step(x, labels):
        loss = nn.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step, (X, LABELS)


def softmax_gradient():
    def gradient(logits, labels):
        return ns.grad(lambda x: nn.cross_entropy(x, labels))(logits)

    return gradient, (X[:, :10], LABELS)


def regularized_forward():
    model = nn.Sequential(nn.Linear(12, 32), nn.BatchNorm(32), nn.ReLU(), nn.Dropout(0.25), nn.Linear(32, 10))

    def forward(x):
        return model(x)

    return forward, (X,)


PROGRAMS = {f.__name__: f for f in (training_step, softmax_gradient, regularized_forward)}


def traced(name):
    """Return the function of a program and its graph."""
    f, arrays = PROGRAMS[name]()
    compiled = ns.compile(f, engine="numpy")
    compiled(*map(ns.tensor, arrays))
    return f, compiled.graph


def explained(name, vector_bytes=32):
    """Return what is said of a program that is planned for vectors of a width, but not compiled."""
    f, graph = traced(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "vector_bytes", lambda: vector_bytes)
        patch.setattr(program, "vector_bytes", lambda: vector_bytes)
        patch.setattr(program, "_made", lambda *arguments: b"")
        patch.setattr(program.cache, "kept", lambda description, make: make())
        patch.setattr(program, "Code", lambda code, functions: SimpleNamespace(functions=functions))
        text = program.Program(graph).explain()
    first = f.__code__.co_firstlineno
    return re.sub(r"test_explain\.py:(\d+)", lambda found: f"line {int(found[1]) - first} of {f.__name__}", text) + "\n"


@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
@pytest.mark.parametrize("name", PROGRAMS)
def test_explain_says_what_it_said(name, vector_bytes):
    expected = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
    assert explained(name, vector_bytes) == expected, "python tests/test_explain.py writes the texts anew"


def test_the_texts_are_those_of_the_programs():
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(PROGRAMS)
    for name in PROGRAMS:
        text = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
        assert "NumPy" not in text, "everything has machine code"
        assert " line " in text


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for program_name in PROGRAMS:
        (GOLDEN / f"{program_name}.txt").write_text(explained(program_name), encoding="utf-8")
