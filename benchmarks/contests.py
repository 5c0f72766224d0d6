"""nissl beside its peers on one program each: training inside the fastest loop of each library, and inference."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from fractions import Fraction

from benchmarks.programs import PROGRAMS, steps_an_epoch
from benchmarks.results import Row, duration
from benchmarks.worker import Result, measured

BEST = "the best peer"
NISSL = "nissl"

LOOPS = {
    NISSL: "with_nissl.scan",
    "JAX lax.scan": "with_jax.scan",
    "PyTorch eager": "with_torch.eager",
    "torch.compile": "with_torch.compiled",
}
FIT = LOOPS | {"Keras fit": "with_keras.fit"}
ALL = FIT | {"scikit-learn": "with_sklearn.fit"}
CALLS = {
    NISSL: "with_nissl.call",
    "JAX jit": "with_jax.call",
    "PyTorch eager": "with_torch.eager_call",
    "torch.compile": "with_torch.compiled_call",
}
PREDICTIONS = {
    NISSL: "with_nissl.compiled_model",
    "ns.predict": "with_nissl.predict",
    "onnxruntime": "with_onnxruntime.predict",
    "JAX jit": "with_jax.predict",
    "PyTorch inference_mode": "with_torch.predict",
    "torch.compile": "with_torch.compiled_predict",
    "Keras model(x)": "with_keras.call",
    "Keras predict": "with_keras.predict",
    "scikit-learn": "with_sklearn.predict",
}
OURS = (NISSL, "ns.predict")

XOR_BARS = {"JAX lax.scan": 1 / 5, "PyTorch eager": 1 / 300, "torch.compile": 1 / 300, "TensorFlow eager": 1 / 5000}
TENSORFLOW = {"TensorFlow eager": "with_tensorflow.eager"}

# What is measured: a program, who takes part, and which share of whose time nissl may take.
CONTESTS: dict[str, tuple[str, dict[str, str], dict[str, float]]] = {
    "xor": ("xor", LOOPS | TENSORFLOW, XOR_BARS),
    "xor-branches": ("xor-branches", LOOPS | TENSORFLOW, XOR_BARS),
    "batch-32": ("fashion-32", ALL, {"JAX lax.scan": 1 / 2, "torch.compile": 1 / 6, "Keras fit": 1 / 25}),
    "call": ("fashion-32", CALLS, {}),
    "crowded": ("fashion-32", LOOPS, {}),
    "batch-128": ("fashion-128", ALL, {}),
    "batch-1024": ("fashion-1024", ALL, {BEST: 2 / 3}),
    "normalized": ("normalized", FIT, {BEST: 2 / 3}),
    "regression": ("regression", ALL, {BEST: 2 / 3}),
    "one-row": ("one-row", PREDICTIONS, {BEST: 1.0}),
    "10000-rows": ("10000-rows", PREDICTIONS, {BEST: 1.0}),
}


# The contests beside another process that keeps a core busy, as a browser might.
CROWDED = {"crowded"}
BUSY = [sys.executable, "-c", "while True: pass"]


@contextlib.contextmanager
def busy_process() -> Iterator[None]:
    """Keep another process busy inside a block."""
    with subprocess.Popen(BUSY) as process:
        try:
            yield
        finally:
            process.kill()


def title(name: str) -> str:
    program, peers, _ = CONTESTS[name]
    text = PROGRAMS[program].title
    if peers is PREDICTIONS:
        rows = PROGRAMS[program].batch
        return f"784-128-10, inference of {rows:,} rows" if rows > 1 else "784-128-10, inference of one row"
    if peers is CALLS:
        return f"{text}: a single step called from Python"
    return f"{text}: a training step{', beside a process that keeps a core busy' if name in CROWDED else ''}"


def best(results: Mapping[str, Result]) -> str | None:
    """Return the name of the fastest peer."""
    peers = {name: r.median for name, r in results.items() if name not in OURS and not r.failed}
    return min(peers, key=peers.__getitem__, default=None)


def measure(name: str) -> Iterator[Row]:
    program, setups, bars = CONTESTS[name]
    with busy_process() if name in CROWDED else contextlib.nullcontext():
        results = measured(setups, program, checked=3 if setups is PREDICTIONS else 100)
    ours, fastest = results[NISSL], best(results)
    steps = steps_an_epoch(PROGRAMS[program]) if setups[NISSL] == LOOPS[NISSL] else 1
    for peer, result in results.items():
        limit = bars.get(peer) or (bars.get(BEST) if peer == fastest else None)
        bar = (
            f"≤ {Fraction(limit).limit_denominator(10_000)} of {'its' if peer in bars else 'the best'} time"
            if limit
            else ""
        )
        if result.failed:
            yield Row(peer, str(result), bar, False)
            continue
        step = result.median
        text = duration(step) + (f"; {steps:,} steps: {duration(step * steps)}" if steps > 1 else "")
        if ours.failed or peer == NISSL:
            yield Row(peer, text, bar, False)
            continue
        wrong, share = result.disagreement(ours), ours.ratio(result)
        yield Row(peer, text + wrong, bar, limit is not None and not wrong and share <= limit, f"{share:.3g} ×")
