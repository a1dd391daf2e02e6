"""A folder with events and a configuration for them."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.cli.parts import CONFIG

from nearline import simulate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with events and a nearline.toml for them."""
    folder = tmp_path_factory.mktemp("project")
    table = simulate.stream(simulate.Marketplace(events=1500, members=50, ads=20, campaigns=4, seed=2))
    pq.write_table(table, folder / "events.parquet")
    (folder / "nearline.toml").write_text(CONFIG)
    return folder
