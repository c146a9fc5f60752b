"""Memory that was used once is used again, instead of being fetched anew from the system.

Every operation makes an array and soon drops it. By default glibc takes large blocks from the
system and gives them back at once, so that each array costs a page fault for every 4 KB: a training
step of a small GPT spent a third of its time on them (8,600 faults a step; 125 ms against 81).
PyTorch and others bring an allocator of their own for this reason; here the C library's is told to
keep what it has.
"""

from __future__ import annotations

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h
_LARGEST_KEPT = 32 << 20  # bytes of a block; glibc allows no more
_KEPT = 1 << 30  # bytes that may lie unused before some are given back
_STEP = 16 << 20  # bytes fetched at a time


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to keep freed memory for the process; whether that was possible.

    Elsewhere than on glibc nothing happens; nor where the user has made the choice with one of
    glibc's own variables, ``MALLOC_TRIM_THRESHOLD_`` say.
    """
    if not sys.platform.startswith("linux") or any(k.startswith("MALLOC_") for k in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    settings = (_M_MMAP_THRESHOLD, _LARGEST_KEPT), (_M_TRIM_THRESHOLD, _KEPT), (_M_TOP_PAD, _STEP)
    return all(mallopt(option, value) for option, value in settings)
