"""The example of docs/select.md runs and says what it says; every rule has its line in the table."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from nearline import select

PAGE = Path(__file__).parents[2] / "docs" / "select.md"


def test_the_plain_pytorch_example_runs() -> None:
    pytest.importorskip("torch")
    found = doctest.testfile(str(PAGE), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert found.attempted > 5
    assert found.failed == 0


def test_every_rule_is_in_the_table() -> None:
    table = "".join(line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| "))
    assert not [name for name in select.names() if f"`{name}`" not in table]
