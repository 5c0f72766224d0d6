"""The cache of machine code between runs, in the user's cache folder.

The key of an entry is a digest of everything that determines the code: a graph and its plan, or a module in LLVM IR;
the CPU; LLVM's version. An entry starts with a digest of its key and its content, so one that is damaged, or that was
copied over another, is ignored. Writes are atomic (temporary file, then rename), so several programs may write at once;
an entry that cannot be read or written costs no more than compiling again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from nissl.files import write_atomically

DIGEST_SIZE = 32
LARGEST = 128 << 20  # the most bytes of all entries together
ENDING = ".code"


def folder() -> Path:
    """Return the folder of the cache: NISSL_CACHE_HOME, or one in the user's cache folder."""
    chosen = os.environ.get("NISSL_CACHE_HOME")
    if chosen:
        return Path(os.path.expanduser(chosen))
    import platformdirs

    return Path(platformdirs.user_cache_dir("nissl")) / "code"


def kept(description: str, make: Callable[[], bytes]) -> bytes:
    """Return the cached entry for a description, or what `make` returns, which is then cached."""
    path = folder() / f"{hashlib.sha256(description.encode()).hexdigest()}{ENDING}"
    found = _read(path)
    if found is None:
        found = make()
        with contextlib.suppress(OSError):
            _write(path, found)
    return found


def _read(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
        os.utime(path)  # mark it as recently used
    except OSError:
        return None
    digest, code = content[:DIGEST_SIZE], content[DIGEST_SIZE:]
    return code if _digest(path, code) == digest else None


def _digest(path: Path, code: bytes) -> bytes:
    """Return what an entry starts with: under another name, the same code would compute another function."""
    return hashlib.sha256(path.name.encode() + code).digest()


_unseen = LARGEST  # bytes that may have been written since the size of the folder was last checked


def _write(path: Path, code: bytes) -> None:
    global _unseen
    with write_atomically(path) as temporary:
        temporary.write_bytes(_digest(path, code) + code)
    _unseen += DIGEST_SIZE + len(code)
    if _unseen > LARGEST // 16:  # rarely, as listing thousands of entries is slow
        _unseen = 0
        _remove_oldest(path.parent)


def _remove_oldest(folder: Path) -> None:
    with os.scandir(folder) as files:
        found = [(file.stat(), file.path) for file in files if file.name.endswith(ENDING)]
    total = sum(status.st_size for status, _ in found)
    for status, path in sorted(found, key=lambda entry: entry[0].st_mtime):
        if total <= LARGEST:
            break
        Path(path).unlink(missing_ok=True)
        total -= status.st_size
