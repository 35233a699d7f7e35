"""Options of glibc's allocator: whether freed memory is kept or returned to the system."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
"""As malloc.h numbers them (https://man7.org/linux/man-pages/man3/mallopt.3.html)."""


def set_allocator(options: Mapping[int, int]) -> None:
    """Set options of this process's allocator; where there is no glibc, nothing changes.

    Args:
        options: Option -> its value, in this order.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for option, value in options.items():
            libc.mallopt(option, value)
