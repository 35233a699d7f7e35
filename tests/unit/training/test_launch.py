"""Freed memory is kept for the next step."""

from __future__ import annotations

import ctypes
import resource
from pathlib import Path

import pytest
import torch

from mae_et.training.launch import keep_freed_memory

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="no glibc")
@pytest.mark.skipif(
    HUGE_PAGES.exists() and "[always]" in HUGE_PAGES.read_text(), reason="pages are huge"
)
def test_memory_that_was_freed_is_there_for_the_next_step() -> None:
    def page_faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(2**26)  # 256 MiB, or 65,536 pages
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    keep_freed_memory()
    assert min(page_faults() for _ in range(8)) < 1000  # not in the first ones
