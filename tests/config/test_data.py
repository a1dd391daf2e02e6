"""[data]: every format is read alike, and what cannot be read is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from tests.config.parts import EVERYTHING, SCHEMA

from nearline import config, simulate
from nearline._errors import ConfigError, DataError, StateError


def events(first: int, n: int) -> pa.Table:
    """A table with its row numbers."""
    return pa.table({"row": np.arange(first, first + n), "clicked": np.arange(n) % 2, "t": np.arange(n)[::-1].copy()})


def read(folder: Path, data: str) -> pa.Table:
    """The table of a file with this `[data]`, next to the events."""
    return config.loads(f"{SCHEMA}time = 't'\n[data]\n{data}", folder / "nearline.toml").table()


def write_stream(table: pa.Table, path: Path) -> None:
    """Arrow IPC in its stream form."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize("ending", ["parquet", "pq", "csv", "arrow", "feather", "ipc", "PARQUET"])
def test_every_format_is_read_alike(tmp_path: Path, ending: str) -> None:
    path, table = tmp_path / f"events.{ending}", events(0, 5)
    if ending.lower() in ("parquet", "pq"):
        pq.write_table(table, path)
    elif ending == "csv":
        pyarrow.csv.write_csv(table, path)
    elif ending == "ipc":
        write_stream(table, path)
    else:
        pyarrow.feather.write_feather(table, path, compression="uncompressed")
    assert read(tmp_path, f'path = "events.{ending}"').equals(table)


def test_patterns_are_read_by_name_and_lists_in_their_order(tmp_path: Path) -> None:
    for day, first in (("2", 2), ("1", 0)):
        (tmp_path / day).mkdir()
        pq.write_table(events(first, 2), tmp_path / day / "part[1].parquet")
    assert read(tmp_path, 'path = "*/*.parquet"')["row"].to_pylist() == [0, 1, 2, 3]
    assert read(tmp_path, 'path = "**/*.parquet"')["row"].to_pylist() == [0, 1, 2, 3]
    listed = 'path = ["2/part[1].parquet", "1/part[1].parquet"]'
    assert read(tmp_path, listed)["row"].to_pylist() == [2, 3, 0, 1]
    assert read(tmp_path, f'path = "{tmp_path}/1/part[1].parquet"')["row"].to_pylist() == [0, 1]


def test_rows_and_sort(tmp_path: Path) -> None:
    table = events(0, 6).set_column(2, "t", pa.array([3, 1, 1, 0, 2, 3]))
    pq.write_table(table, tmp_path / "e.parquet")
    assert read(tmp_path, 'path = "e.parquet"\nrows = 4')["row"].to_pylist() == [0, 1, 2, 3]
    assert read(tmp_path, 'path = "e.parquet"\nsort = true')["row"].to_pylist() == [3, 1, 2, 4, 0, 5]
    setup = config.loads(f'{SCHEMA}[data]\npath = "e.parquet"', tmp_path / "n.toml")
    assert setup.table(rows=2)["row"].to_pylist() == [0, 1]


def test_columns_that_widen_are_joined_and_others_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": pa.array([1], pa.int32())}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"x": pa.array([2], pa.int64())}), tmp_path / "b.parquet")
    assert read(tmp_path, 'path = "*.parquet"')["x"].to_pylist() == [1, 2]
    pq.write_table(pa.table({"x": ["text"]}), tmp_path / "c.parquet")
    with pytest.raises(DataError, match="the files differ in their columns"):
        read(tmp_path, 'path = "*.parquet"')


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "give either path"),
        ('path = "a.csv"\ndataset = "elec2"', "give either path"),
        ('path = "none.csv"', "no file matches 'none.csv' in"),
        ('path = "a.txt"', r"ends in '.txt'; known endings are .parquet"),
        ('path = "a.csv"\nrows = 0', "rows: must be at least 1, got 0"),
        ('dataset = "marketplace"\nmarketplace = { members = 0 }', "Marketplace.members=.* must be positive"),
    ],
)
def test_data_errors_are_errors_of_the_file(tmp_path: Path, data: str, message: str) -> None:
    for name in ("a.csv", "a.txt"):
        (tmp_path / name).write_text("clicked,t\n1,2\n")
    with pytest.raises(ConfigError, match=f"nearline.toml: .*{message}"):
        read(tmp_path, data)


def test_sorting_needs_a_time_column(tmp_path: Path) -> None:
    pq.write_table(events(0, 2), tmp_path / "e.parquet")
    with pytest.raises(ConfigError, match=r"sort: needs \[schema\] time"):
        config.loads(f'{SCHEMA}[data]\npath = "e.parquet"\nsort = true', tmp_path / "n.toml").table()
    with pytest.raises(DataError, match=r"'when': the table has no such column"):
        config.loads(
            f'{SCHEMA}time = "when"\n[data]\npath = "e.parquet"\nsort = true', tmp_path / "n.toml"
        ).table()  # fmt: skip


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "e.parquet").write_text("not Parquet")
    with pytest.raises(DataError, match=r"cannot read .*e.parquet as parquet"):
        read(tmp_path, 'path = "e.parquet"')


def test_a_truth_that_is_not_there_is_named(tmp_path: Path) -> None:
    pq.write_table(events(0, 9), tmp_path / "e.parquet")
    text = f'{SCHEMA}[data]\npath = "e.parquet"\n[backtest]\ntruth = "p"\nlearn_priors = false'
    with pytest.raises(DataError, match=r"'p': the table has no such column"):
        config.loads(text, tmp_path / "n.toml").backtest()


def test_the_marketplace_is_the_simulators() -> None:
    found = config.loads(EVERYTHING).table()
    wanted = simulate.stream(simulate.Marketplace(events=400, members=30, ads=12, campaigns=4, seed=5))
    assert found.equals(wanted.slice(0, 300))
    assert config.loads(EVERYTHING).title() == "marketplace"


def test_data_sets_are_looked_for_in_the_files_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEARLINE_DATA", raising=False)
    folder = tmp_path / "films" / "ml-1m"
    folder.mkdir(parents=True)
    (folder / "users.dat").write_text("1::F::1::10::48067\n")
    (folder / "movies.dat").write_text("7::Heat (1995)::Action|Crime\n8::Sabrina (1995)::Comedy\n", "latin-1")
    (folder / "ratings.dat").write_text("1::7::5::100\n1::8::3::50\n")
    threes = read(tmp_path, 'dataset = "movielens-1m"\nfolder = "films"\nratings = "all"')
    assert threes["movie_id"].to_pylist() == [8, 7]
    assert read(tmp_path, 'dataset = "movielens-1m"\nfolder = "films"')["movie_id"].to_pylist() == [7]
    for name in ("movielens-1m", "movielens-100k", "bank-marketing", "elec2"):
        with pytest.raises(StateError, match=f"data set '{name}' not found"):
            read(tmp_path, f'dataset = "{name}"\nfolder = "elsewhere"')
