"""The IDX format of MNIST: a magic number, the sizes of the axes, the elements, all big-endian; read without trust.

The header is not believed: memory is taken as bytes arrive, so a file that promises more than it holds costs nothing.
"""

import gzip
import hashlib
import math
import sys
import zlib
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from nissl.errors import DataError
from nissl.files import PathLike, checked_path

ELEMENT_TYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(np.uint8),
    0x09: np.dtype(np.int8),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
CHUNK = 1 << 20
MAX_AXES = 32


def read_idx(path: PathLike) -> tuple[npt.NDArray[Any], str]:
    """Return the array in a gzip-compressed IDX file, and the SHA-256 of the uncompressed bytes.

    Raises DataError, which names the file and what is wrong with it, and OptionError for what is no path.
    """
    path = checked_path(path)
    try:
        with gzip.open(path, "rb") as file:
            return _read(cast(BinaryIO, file))
    except _BadFileError as error:
        raise DataError(f"{path} is not a usable IDX file: {error}") from None
    except gzip.BadGzipFile:
        raise DataError(f"{path} is not a gzip file; it should be compressed IDX data") from None
    except (EOFError, zlib.error):
        raise DataError(f"{path} is truncated or damaged: its compressed data ends early or does not add up") from None
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder; it should be a gzip-compressed IDX file") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None


class _BadFileError(Exception):
    """What is wrong with the content of a file."""


def _read(file: BinaryIO) -> tuple[npt.NDArray[Any], str]:
    digest = hashlib.sha256()

    def take(size: int, what: str) -> bytes:
        found = bytearray()
        while len(found) < size:
            chunk = file.read(min(CHUNK, size - len(found)))
            if not chunk:
                raise _BadFileError(f"truncated: {what} needs {size} bytes, there are {len(found)}")
            digest.update(chunk)
            found += chunk
        return bytes(found)

    magic = take(4, "the magic number")
    if magic[:2] != b"\0\0" or magic[2] not in ELEMENT_TYPES or magic[3] > MAX_AXES:
        raise _BadFileError(
            f"wrong magic number {magic.hex()}; it should be 0000, a type (08 to 0e) and the number of axes, at most "
            f"{MAX_AXES}"
        )
    dtype, ndim = ELEMENT_TYPES[magic[2]], magic[3]
    shape = tuple(int(n) for n in np.frombuffer(take(4 * ndim, "the header"), ">u4"))
    # NumPy has no array whose axes, without those of length 0, hold more bytes than can be counted.
    if math.prod(max(n, 1) for n in shape) * dtype.itemsize > sys.maxsize:
        raise _BadFileError(f"its header promises an array of shape {shape}, larger than any can be")
    data = take(math.prod(shape) * dtype.itemsize, f"an array of shape {shape}")
    if file.read(1):
        raise _BadFileError(f"there is more data than its header says, an array of shape {shape}")
    array = np.frombuffer(data, dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False), digest.hexdigest()
