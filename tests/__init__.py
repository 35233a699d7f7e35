"""Tests: `unit` mirrors the packages; `integration` starts runs, commands and processes.

What tests share is in `support`, their fixtures in conftest.py.
"""

import pytest

pytest.register_assert_rewrite("tests.support")
