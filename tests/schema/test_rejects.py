"""Diverting: bad rows are put aside with all their reasons, written once, and can be mended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.schema.parts import INF, run

from nearline._errors import DataError
from nearline.schema import Checked, Rejects, Schema

MIXED = {
    "y": [1, 7, 0, None, 1],
    "x": [1.0, INF, 3.0, 4.0, 5.0],
    "u": ["a", "b", None, "d", "e"],
    "id": [1, 1, 2, 3, 1],
    "w": [1.0, 1.0, 2.0, 3.0, 4.0],
    "note": ["p", "q", "r", "s", "t"],
}
ROLES = Schema("y", id="id", weight="w")


def divert(data: Any = MIXED, **options: Any) -> Checked:
    return run(data, ROLES, features=("x",), keys=("u",), divert=True, **options)


def test_bad_rows_are_put_aside_with_all_their_reasons() -> None:
    found = divert()
    assert found.rows == 1
    assert found.columns["u"].to_pylist() == ["a"]
    assert (found.label.tolist(), found.weight.tolist()) == ([1], [1])
    rejects = found.rejects
    assert rejects.rows.tolist() == [1, 2, 3, 4]
    assert rejects.reasons == (
        "x: feature is inf; y: label is 7, expected 0 or 1",
        "u: key is null",
        "y: label is null, expected 0 or 1",
        "id: id 1 came before in this table",
    )
    assert rejects.table.column_names == [*MIXED, "reason"]
    assert rejects.table.column("note").to_pylist() == ["q", "r", "s", "t"]
    assert rejects.table.column("reason").to_pylist() == list(rejects.reasons)


def test_an_id_is_taken_by_its_first_good_row() -> None:
    found = divert({**MIXED, "id": [9, 1, 2, 3, 1]})
    assert found.rejects.rows.tolist() == [1, 2, 3]
    assert divert({**MIXED, "id": [9, 1, 2, 3, 1]}, seen={1}).rejects.rows.tolist() == [1, 2, 3, 4]


def test_structural_problems_are_raised_even_when_diverting() -> None:
    with pytest.raises(DataError, match="no such column"):
        divert({"y": [1]})


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 1, 2, None]), st.sampled_from([0.5, INF, None]), st.integers(0, 6))))
def test_good_and_bad_rows_make_up_the_table(rows: list[tuple[Any, Any, int]]) -> None:
    names = ("y", "x", "id")
    data = pa.table({name: pa.array([r[i] for r in rows], t) for i, (name, t) in enumerate(zip(names, TYPES))})
    found = run(data, Schema("y", id="id"), features=("x",), divert=True)
    taken: set[int] = set()
    good = []
    for y, x, key in rows:
        fine = y in (0, 1) and x != INF and key not in taken
        good.append(fine)
        if fine:
            taken.add(key)
    assert found.rejects.rows.tolist() == [i for i, fine in enumerate(good) if not fine]
    assert found.columns["id"].to_pylist() == [r[2] for r, fine in zip(rows, good) if fine]
    assert found.label.tolist() == [r[0] for r, fine in zip(rows, good) if fine]
    if all(good):
        assert run(data, Schema("y", id="id"), features=("x",)).rows == len(rows)
    else:
        with pytest.raises(DataError) as caught:
            run(data, Schema("y", id="id"), features=("x",))
        assert caught.value.row == good.index(False)


TYPES = (pa.int64(), pa.float64(), pa.int32())


def test_rejects_are_written_and_never_overwritten(tmp_path: Path) -> None:
    rejects, path = divert().rejects, tmp_path / "dead" / "letters.parquet"
    written = [rejects.write(path), rejects.write(str(path)), rejects.write(path)]
    assert written == [path, *(path.with_name(f"letters-{number}.parquet") for number in (1, 2))]
    assert sorted(name.name for name in path.parent.iterdir()) == [
        "letters-1.parquet",
        "letters-2.parquet",
        "letters.parquet",
    ]
    for name in written:
        assert name is not None
        assert pq.read_table(name).to_pylist() == rejects.table.to_pylist()


def test_nothing_is_written_for_no_rejects(tmp_path: Path) -> None:
    assert run({"y": [1]}, divert=True).rejects.write(tmp_path / "x.parquet") is None
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    broken = Rejects(np.array([0]), ("why",), pa.table({"a": pa.array([None], pa.null())}).add_column(
        1, "i", pa.array([(1, 2, 3)], pa.month_day_nano_interval())
    ))  # fmt: skip
    with pytest.raises(pa.ArrowException):
        broken.write(tmp_path / "x.parquet")
    assert not list(tmp_path.iterdir())


def test_a_dead_letter_file_can_be_mended_and_checked_again(tmp_path: Path) -> None:
    path = divert(pl.DataFrame(MIXED)).rejects.write(tmp_path / "dead.parquet")
    mended = pd.read_parquet(path).assign(y=1, x=0.0, u="z")
    assert divert(mended.assign(id=[1, 2, 3, 4])).rows == 4
    again = divert(mended).rejects.table
    assert again.column_names == [*MIXED, "reason"]
    assert again.column("reason").to_pylist() == ["id: id 1 came before in this table"]


NO_ROWS = pa.table({"y": pa.array([], pa.int64()), "u": pa.array([], pa.string())})


@pytest.mark.parametrize("data", [[], NO_ROWS, NO_ROWS.to_pandas(), pl.DataFrame({"y": [], "u": []})])
def test_empty_tables_are_fine(data: Any) -> None:
    found = run(data, keys=("u",), divert=True)
    assert (found.rows, len(found.rejects)) == (0, 0)
    assert found.label.shape == found.time.shape == (0,)


VALUES: list[tuple[Any, Any]] = [
    (pa.string_view(), "abc"),
    (pa.list_(pa.string_view()), ["abc"]),
    (pa.dictionary(pa.int8(), pa.string()), "abc"),
    (pa.list_view(pa.int64()), [1, 2]),
    (pa.list_(pa.float64(), 2), [1.0, 2.0]),
]


@pytest.mark.parametrize(("dtype", "value"), VALUES)
@settings(deadline=None, max_examples=40)
@given(bad=st.lists(st.booleans(), min_size=1, max_size=10), cut=st.integers(0, 10))
def test_rows_of_every_type_can_be_put_aside(dtype: Any, value: Any, bad: list[bool], cut: int) -> None:
    values = [value if number % 2 else None for number in range(len(bad))]
    column = pa.chunked_array([pa.array(part, dtype) for part in (values[:cut], values[cut:])])
    data = pa.table({"y": [5 if wrong else 1 for wrong in bad], "c": column, "n": np.arange(len(bad))})
    found = run(data, features=("c", "n"), divert=True)
    good = [number for number, wrong in enumerate(bad) if not wrong]
    assert found.columns["n"].to_pylist() == good
    assert found.columns["c"].to_pylist() == [values[number] for number in good]
    if any(bad):
        assert found.rejects.table.column("c").to_pylist() == [v for v, wrong in zip(values, bad) if wrong]
