"""What all tests share: machine code is kept in the checkout, not in the user's cache."""

import os
import signal
from pathlib import Path

os.environ["NISSL_CACHE_HOME"] = str(Path(__file__).parent.parent / ".pytest_cache" / "code")

# A shell's background job ignores Ctrl-C, which the tests of interrupts send themselves.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
