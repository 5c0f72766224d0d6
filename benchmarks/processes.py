"""Measuring in processes of their own, because two thread pools in one process disturb each other."""

import os
import subprocess
import sys
from collections.abc import Sequence


def run(arguments: Sequence[str], **environment: str) -> str:
    """Return what `python *arguments` printed. Modules are compiled once, as they are where nothing forbids it."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(
        [sys.executable, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env=inherited | environment,
    ).stdout
