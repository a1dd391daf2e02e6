"""The examples of `docs/ledger.md` run as they stand, one after the other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "ledger.md"


def test_the_page_about_the_ledger_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(blocks) >= 6
    monkeypatch.chdir(tmp_path)
    # One module's namespace, in one call: DuckDB looks for `rows` among the caller's variables.
    exec(compile("\n".join(blocks), str(PAGE), "exec"), {"__name__": "page"})
