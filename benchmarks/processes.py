"""Measuring in processes of their own, because two thread pools in one process disturb each other."""

import os
import subprocess
import sys
from collections.abc import Sequence


def run(arguments: Sequence[str], **environment: str) -> str:
    """Return what `python *arguments` printed."""
    return subprocess.run(
        [sys.executable, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | environment,
    ).stdout
