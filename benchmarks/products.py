"""Matrix products: their share of the measured peak of one and two cores."""

from collections.abc import Iterator

from benchmarks.machine import measure_report
from benchmarks.programs import PRODUCTS
from benchmarks.results import Row, duration
from benchmarks.worker import measured

SETUPS = {"nissl": "with_nissl.product", "torch.matmul": "with_torch.product"}
BAR = 0.85


def measure() -> Iterator[Row]:
    for size in PRODUCTS:
        for threads in (1, 2):
            peak = threads * measure_report()["peak"]
            results = measured(SETUPS, f"product-{size}", threads)
            for name, result in results.items():
                what = f"{name}, {size}³, {threads} thread{'s'[: threads - 1]}"
                ours = name == "nissl"
                bar = f"≥ {BAR:.0%} of the peak" if ours else ""
                if result.failed:
                    yield Row(what, str(result), bar, False)
                    continue
                seconds = result.median
                share = 2 * size**3 / seconds / peak
                text = f"{duration(seconds)}: {share:.0%} of {peak / 1e9:.0f} GFLOP/s"
                beside = "" if ours or results["nissl"].failed else f"{results['nissl'].ratio(result):.3g} ×"
                yield Row(what, text, bar, share >= BAR, beside)
