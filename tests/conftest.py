"""What all tests share: machine code is kept in the checkout, not in the user's cache; threads are set for one test."""

import os
import signal
from pathlib import Path

import pytest
import threadpoolctl

os.environ["NISSL_CACHE_HOME"] = str(Path(__file__).parent.parent / ".pytest_cache" / "code")

# A shell's background job ignores Ctrl-C, which the tests of interrupts send themselves.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _threads_restored():
    from nissl import threads  # here, when the folder for machine code is set

    before = threads._state.chosen
    yield
    if threads._state.chosen != before:
        threads._state.chosen = before
        threadpoolctl.threadpool_limits(threads.allotted_cores(), user_api="blas")
