"""An interrupt that is open may be entered again, and forgets its signals when it is closed."""

from __future__ import annotations

import os
import signal

from accelerate import Accelerator

from mae_et.training import Interrupt


def test_nested_use_shares_notes_and_closing_forgets_them() -> None:
    before = signal.getsignal(signal.SIGTERM)
    interrupt = Interrupt(Accelerator(cpu=True))
    with interrupt:
        with interrupt:  # as a run of a search does
            os.kill(os.getpid(), signal.SIGTERM)
            assert interrupt.is_agreed()
        assert interrupt.is_agreed()
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
    with interrupt:
        assert not interrupt.is_agreed()
