"""The training step of 784-W-10 as width and batch grow: where nissl is ahead of its peers, and by how much."""

import math
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.contests import LOOPS, NISSL, best
from benchmarks.programs import BATCHES, WIDTHS
from benchmarks.results import Row
from benchmarks.worker import Worker, close, interleave

PEERS = (NISSL, "JAX lax.scan", "PyTorch eager")
PICTURE = Path(__file__).with_name("growth.png")
NOTE = f"![nissl's time over the best peer's, by width and batch]({PICTURE.name})"
BUDGET, CHECKED_STEPS = 0.4, 3
MOST_ANYWHERE, MOST_USUALLY, USUALLY = 1.1, 1.0, 0.9


def measure() -> Iterator[Row]:
    ratios = []
    bar = f"≤ {MOST_ANYWHERE} × the best peer"
    workers = {name: Worker(LOOPS[name]) for name in PEERS}
    try:
        for width, batch in product(WIDTHS, BATCHES):
            results = interleave(workers, f"grow-{width}-{batch}", BUDGET, CHECKED_STEPS)
            ours, fastest = results[NISSL], best(results)
            ratios.append(ours.ratio(results[fastest]) if fastest and not ours.failed else math.nan)
            text = ", ".join(f"{name} {result}{result.disagreement(ours)}" for name, result in results.items())
            met = ratios[-1] <= MOST_ANYWHERE
            yield Row(f"{width} wide, batch {batch}", text, bar, met, f"{ratios[-1]:.2f} ×")
    finally:
        close(workers.values())
    ahead = sum(ratio <= MOST_USUALLY for ratio in ratios) / len(ratios)
    yield Row("points where nissl is ahead", f"{ahead:.0%}", f"≥ {USUALLY:.0%}", ahead >= USUALLY)


def draw(rows: Sequence[Row]) -> None:
    """Save the ratios as a picture: green where nissl is ahead, red where it is behind."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    found = [float(row.ratio.split()[0]) for row in rows if row.ratio]
    ratios = np.array(found).reshape(len(WIDTHS), len(BATCHES))
    figure, axes = pyplot.subplots(figsize=(8, 6.5), layout="constrained")
    image = axes.imshow(np.log2(ratios), cmap="RdYlGn_r", vmin=-2, vmax=2, aspect="auto")
    for (i, j), value in np.ndenumerate(ratios):
        strong = not -1.2 < np.log2(value) < 1.2
        text = "failed" if np.isnan(value) else f"{value:.2f}"
        axes.text(j, i, text, ha="center", va="center", fontsize=12, color="white" if strong else "black")
    axes.set_xticks(range(len(BATCHES)), BATCHES, fontsize=11)
    axes.set_yticks(range(len(WIDTHS)), WIDTHS, fontsize=11)
    axes.set_xlabel("batch", fontsize=12)
    axes.set_ylabel("width of the hidden layer", fontsize=12)
    axes.set_title("Training step of 784-W-10 with Adam:\nnissl's time over that of the best peer", fontsize=13)
    scale = figure.colorbar(image, ticks=range(-2, 3))
    scale.ax.set_yticklabels(["¼", "½", "1", "2", "4"], fontsize=11)
    figure.savefig(PICTURE, dpi=110)
    pyplot.close(figure)
