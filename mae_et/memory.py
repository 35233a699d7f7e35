"""Freed memory of a process that trains on a CPU: kept for the next step, by options of glibc.

By default glibc hands large blocks back to the system and gets them anew, page by page and zeroed,
in every step. Where there is no glibc, nothing changes.
Source: https://man7.org/linux/man-pages/man3/mallopt.3.html
"""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
"""Options of mallopt, as malloc.h numbers them."""

LARGE = 32 * 2**20
"""Bytes from which glibc gives every block pages of its own, if it is left alone."""

_libc = ctypes.CDLL(None)
_is_kept = False


def keep_freed_memory() -> None:
    """From now on, this process and those it forks keep their peak, and what fragments."""
    global _is_kept
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(M_TRIM_THRESHOLD, -1)
        _libc.mallopt(M_MMAP_MAX, 0)
        _is_kept = True


def keep_small_blocks_alone() -> None:
    """In a forked loader process: the largest image is not kept in each of them."""
    if _is_kept:
        _libc.mallopt(M_MMAP_MAX, 65_536)
        _libc.mallopt(M_MMAP_THRESHOLD, LARGE)


def give_back_freed_memory() -> None:
    """Once, before processes are forked: what both write to would be there twice."""
    if _is_kept:
        _libc.malloc_trim(0)
