"""The example of docs/deep.md runs and says what it says."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest


def test_the_example_of_the_documentation() -> None:
    pytest.importorskip("torch", reason="torch is not installed: pip install 'nearline[deep]'")
    found = doctest.testfile(str(Path(__file__).parents[2] / "docs" / "deep.md"), module_relative=False)
    assert found.attempted > 5
    assert found.failed == 0
