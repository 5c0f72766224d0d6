"""The memory in which the threads of a shared scan meet: that of their barrier, and of their shares of kernels.

It is made of words of 8 bytes. What different threads write is at least 64 bytes apart, in cache lines of its own.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

# The barrier: how many threads have arrived, how often all have, and how often a waiting one looks before it yields.
ARRIVED, MEETINGS, LOOKS = 0, 8, 9
# For each thread: its speed, in two places, in turn, so that none is overwritten before the slowest thread has read it;
# and the bounds of its share.
FIRST_THREAD, WORDS_OF_A_THREAD = 16, 48
SPEED, BOUNDS = (0, 16), (32, 33)


def word_of(thread: int, place: int) -> int:
    """Return the number of the word at a place in a thread's part."""
    return FIRST_THREAD + WORDS_OF_A_THREAD * thread + place


def equal_bounds(threads: int) -> list[float]:
    """Return the bounds of equal shares: thread t has the part of each kernel from bound t to bound t + 1."""
    return [thread / threads for thread in range(threads + 1)]


def meeting_place(patience: int, bounds: Sequence[float]) -> ctypes.Array[ctypes.c_double]:
    """Return the memory for threads with such shares."""
    threads = len(bounds) - 1
    memory = (ctypes.c_double * word_of(threads, 0))()
    (ctypes.c_int64 * len(memory)).from_buffer(memory)[LOOKS] = patience
    for thread in range(threads):
        for place, bound in zip(BOUNDS, bounds[thread:], strict=False):
            memory[word_of(thread, place)] = bound
    return memory


def bounds_in(memory: ctypes.Array[ctypes.c_double]) -> list[float]:
    """Return the bounds of the shares as the threads have left them."""
    threads = (len(memory) - FIRST_THREAD) // WORDS_OF_A_THREAD
    return [*(memory[word_of(thread, BOUNDS[0])] for thread in range(threads)), 1.0]
