"""What a core can do is measured once, is plausible, and tells how long work takes at best."""

import pytest

from nissl.engines.native import limits
from nissl.engines.native.limits import Limits, measured_limits


def test_the_limits_are_plausible_and_kept():
    found = measured_limits()
    assert found.flops[4] > 1.5 * found.flops[8] > 1e8  # twice as many floats of half the size fit into a register
    assert set(found.bandwidth) == set(limits.WORKING_SETS)
    assert all(rate > 1e8 for rate in found.bandwidth.values())


def test_what_was_measured_is_read_back(monkeypatch):
    before = measured_limits()
    monkeypatch.setattr(limits, "peak_flops", lambda size: pytest.fail("it was kept"))
    assert measured_limits.__wrapped__() == before


def test_work_takes_as_long_as_its_operations_or_its_bytes():
    made_up = Limits({4: 100.0, 8: 50.0}, {10: 20.0, 1000: 5.0})
    assert made_up.seconds(200, 4, 0) == 2
    assert made_up.seconds(200, 8, 0) == 4
    assert made_up.seconds(1, 4, 10) == 0.5
    assert made_up.seconds(1, 4, 20) == 4  # they come from farther away
    assert made_up.seconds(1, 4, 10_000) == 2000
