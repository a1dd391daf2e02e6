"""The report of one backtest, for the tests that only read it."""

from __future__ import annotations

import pytest
from tests.evaluate.parts import made

from nearline.evaluate._report import render


@pytest.fixture(scope="session")
def page() -> str:
    return render(made())
