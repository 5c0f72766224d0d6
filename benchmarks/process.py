"""The whole process: `python script.py` from its start to the end of five epochs, with a fresh cache and after that."""

import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.processes import run
from benchmarks.results import Row, duration
from benchmarks.worker import REPETITIONS, THREADS, agrees, environment
from nissl import datasets

SCRIPTS = Path(__file__).with_name("scripts")
NISSL, KERAS = "nissl", "Keras fit"
PEERS = {
    NISSL: ["fashion_nissl.py"],
    "JAX lax.scan": ["fashion_jax.py"],
    "PyTorch eager": ["fashion_torch.py"],
    "torch.compile": ["fashion_torch.py", "--compile"],
    KERAS: ["fashion_keras.py"],
    "scikit-learn": ["fashion_sklearn.py"],
}
MOST_OF_BEST, MOST_OF_KERAS = 1 / 2, 1 / 10
LONG_FIRST_RUNS = 20.0  # seconds of first runs after which a peer gets no further one


def caches(folder: str) -> dict[str, str]:
    """Return the variables that make each library keep its compiled code in a folder."""
    return {
        "NISSL_CACHE_HOME": folder,
        "TORCHINDUCTOR_CACHE_DIR": folder,
        "JAX_COMPILATION_CACHE_DIR": folder,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def seconds(peer: str, folder: str) -> tuple[float, float]:
    """Return the time of a run and the last loss it prints."""
    script, *arguments = PEERS[peer]
    start = time.perf_counter()
    variables = environment(THREADS) | caches(folder) | {"NISSL_DATA_HOME": str(datasets.home())}
    out = run([str(SCRIPTS / script), *arguments], **variables)
    return time.perf_counter() - start, float(out.split()[-1])


def measure() -> Iterator[Row]:
    first: dict[str, list[float]] = {peer: [] for peer in PEERS}
    second: dict[str, list[float]] = {peer: [] for peer in PEERS}
    losses: dict[str, float] = {}
    failed: dict[str, str] = {}
    datasets.load("fashion-mnist")  # downloaded here, if need be, and not while the time is taken
    with tempfile.TemporaryDirectory() as kept:
        for repetition in range(REPETITIONS):
            for peer in [peer for peer in PEERS if peer not in failed]:
                try:
                    with tempfile.TemporaryDirectory() as fresh:
                        if not repetition:
                            time_taken, losses[peer] = seconds(peer, f"{kept}/{peer}")
                            first[peer].append(time_taken)
                        elif sum(first[peer]) < LONG_FIRST_RUNS:
                            first[peer].append(seconds(peer, fresh)[0])
                    second[peer].append(seconds(peer, f"{kept}/{peer}")[0])
                except subprocess.CalledProcessError as error:
                    failed[peer] = (error.stderr.strip().splitlines() or ["no reason given"])[-1][:200]
    medians = {peer: statistics.median(times) for peer, times in second.items() if peer not in failed}
    best = min((peer for peer in medians if peer != NISSL), key=medians.__getitem__, default=None)
    for peer in PEERS:
        limit = MOST_OF_KERAS if peer == KERAS else MOST_OF_BEST if peer == best else None
        bar = f"second run ≤ {limit:g} × that" if limit else ""
        if peer in failed:
            yield Row(peer, f"failed: {failed[peer]}", bar, False)
            continue
        text = f"first run {duration(statistics.median(first[peer]))}, second {duration(medians[peer])}"
        if peer == NISSL or NISSL in failed:
            yield Row(peer, text, bar, False)
            continue
        same = agrees(losses[peer], losses[NISSL])
        text += "" if same else f"; loss {losses[peer]:.3f} instead of {losses[NISSL]:.3f}"
        share = statistics.median(a / b for a, b in zip(second[NISSL], second[peer], strict=True))
        yield Row(peer, text, bar, same and limit is not None and share <= limit, f"{share:.3g} ×")
