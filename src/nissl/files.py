"""Files: written atomically (temporary file, then rename), so that a file is never lost or incomplete."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nissl.errors import OptionError

PathLike = str | os.PathLike[str]

LOCK_FILE = ".lock"
# A temporary file that has not grown for so many seconds is what a killed write left: writes take seconds. By age, as
# numbers of processes mean nothing to other computers that write to the same folder.
ABANDONED = 3600


def checked_path(path: PathLike) -> Path:
    """Return what a user gives as a path, or raise OptionError if it is none, such as a number."""
    if not isinstance(path, str | os.PathLike):
        raise OptionError(f"a path is text or a pathlib.Path, got {path!r}")
    if "\0" in str(Path(path)):
        raise OptionError(f"a path holds no null byte, got {str(path)!r}")
    return Path(path)


@contextmanager
def write_atomically(path: PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds, else remove it.

    Whatever happens, `path` holds its old content or the new one, never a part. Symbolic links are followed, and an
    existing file keeps its permissions. Temporary files that killed writes to `path` left more than an hour ago are
    removed. Raises OSError if `path` exists and is no regular file, such as a device.
    """
    import tempfile  # here, as it takes a while to load

    path = Path(os.path.realpath(checked_path(path)))
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder, not a file to write", str(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "is not a file that can be written anew", str(path))
    remove_leftovers(path, ABANDONED)
    handle, name = tempfile.mkstemp(prefix=_prefix(path), suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on `folder` inside a block, against other programs that claim it.

    Raises OptionError if another one holds it. The lock is released with the process, however that ends.
    """
    lock = folder / LOCK_FILE
    while True:
        with open(lock, "a") as file:
            try:
                holds = _lock(file.fileno(), lock)
            except OSError:
                raise OptionError(f"another training is at work in {folder}; choose another folder, or wait") from None
            if holds:
                try:
                    yield
                finally:
                    lock.unlink(missing_ok=True)
                return


def _lock(descriptor: int, path: Path) -> bool:
    """Lock an open file; return whether it is still the one at its path, and not one that the last holder removed."""
    try:
        import fcntl
    except ImportError:  # Windows, where an open file cannot be removed or replaced anyway
        return True
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return path.exists() and os.path.samestat(os.fstat(descriptor), path.stat())


def remove_leftovers(path: PathLike, seconds: float = 0) -> None:
    """Remove temporary files that killed writes to `path` left, if they are `seconds` old.

    With 0 only for a path that one process at a time writes.
    """
    path = Path(path)
    for leftover in path.parent.glob(f"{glob.escape(_prefix(path))}*{glob.escape(path.suffix)}"):
        with contextlib.suppress(OSError):  # another process was faster, or may and this one may not
            if time.time() - leftover.stat().st_mtime >= seconds:
                leftover.unlink()


def _prefix(path: Path) -> str:
    """Return how the names of temporary files for `path` begin, and no hidden file that a user made."""
    return f".{path.stem}-nissl-"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: PathLike, text: str) -> None:
    """Write a text file atomically."""
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
