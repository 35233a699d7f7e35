"""Freed memory of a process that trains on a CPU: kept for the next step, by options of glibc.

By default glibc hands large blocks back to the system and gets them anew, page by page and zeroed,
in every step. Where there is no glibc, nothing changes.
Source: https://man7.org/linux/man-pages/man3/mallopt.3.html
"""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Options of mallopt, as malloc.h numbers them."""


def keep_freed_memory() -> None:
    """From now on, this process keeps its peak, and what fragments."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_TRIM_THRESHOLD, -1)
        libc.mallopt(M_MMAP_MAX, 0)
