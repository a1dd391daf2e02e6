"""`nearline check`: which rows can be learned, and why others cannot."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.cli.parts import CONFIG, nearline


def test_check_of_good_data(folder: Path) -> None:
    done = nearline("check", folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["1,500 of 1,500 rows can be learned", "  country: categorical"]


@pytest.fixture
def spoilt(folder: Path, tmp_path: Path) -> Path:
    """The events with two bad rows and one out of order."""
    table = pq.read_table(folder / "events.parquet").slice(0, 30)
    clicked, ads, time = (table[name].to_pylist() for name in ("clicked", "ad_id", "timestamp"))
    clicked[3], ads[7], time[20] = 2, None, time[0] - 1
    for name, values in (("clicked", clicked), ("ad_id", ads), ("timestamp", time)):
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    pq.write_table(table, tmp_path / "bad.parquet")
    (tmp_path / "nearline.toml").write_text(CONFIG)
    return tmp_path


def test_check_of_bad_data_names_the_rows(spoilt: Path) -> None:
    done = nearline("check", "nearline.toml", "bad.parquet", folder=spoilt)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "28 of 30 rows can be learned",
        "  country: categorical",
        "row 3: clicked: label is 2, expected 0 or 1",
        "row 7: ad_id: key is null",
        "rows are not in order of time; the backtest needs them so: set [data] sort = true",
    ]


def test_check_writes_the_refused_rows(spoilt: Path) -> None:
    done = nearline(
        "check", "nearline.toml", "b*.parquet", "--dead-letter", "out/dead.parquet", "--json", folder=spoilt
    )
    assert (done.returncode, done.stderr) == (1, "")
    found = json.loads(done.stdout)
    assert (found["rows"], found["usable"], found["refused"], found["in_order"]) == (30, 28, 2, False)
    assert found["reasons"] == {"clicked: label is 2, expected 0 or 1": 1, "ad_id: key is null": 1}
    dead = pq.read_table(spoilt / found["dead_letter"])
    assert dead["event_id"].to_pylist() == [3, 7]
    assert dead["reason"].to_pylist() == list(found["reasons"])


def test_check_refuses_a_table_without_a_column(spoilt: Path) -> None:
    pq.write_table(pa.table({"clicked": [1]}), spoilt / "other.parquet")
    done = nearline("check", "nearline.toml", "other.parquet", folder=spoilt)
    assert done.returncode == 2
    assert done.stderr.startswith("error: column 'country': the table has no such column")


def test_check_shows_the_first_of_many_bad_rows(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "nearline.toml").write_text(CONFIG.replace('label = "clicked"', 'label = "price"'))
    done = nearline("check", "nearline.toml", folder / "events.parquet", folder=tmp_path)
    assert done.returncode == 1
    assert len([line for line in done.stdout.splitlines() if line.startswith("row ")]) == 10
    assert re.search(r"^\.\.\. and 1,\d\d\d more rows$", done.stdout, re.MULTILINE)
