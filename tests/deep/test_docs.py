"""The example of docs/deep.md runs and says what it says."""

from __future__ import annotations

import doctest
from pathlib import Path


def test_the_example_of_the_documentation() -> None:
    found = doctest.testfile(str(Path(__file__).parents[2] / "docs" / "deep.md"), module_relative=False)
    assert found.attempted > 5
    assert found.failed == 0
