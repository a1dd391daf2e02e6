"""read_table: every kind of table is read alike, and what is no table is refused."""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from nearline._errors import DataError
from nearline.schema import read_table

COLUMNS = {"i": [1, 2], "s": ["a", None], "x": [0.5, 1.5]}


class Stream:
    """A table that offers nothing but the Arrow stream interface."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return pa.table(COLUMNS).__arrow_c_stream__(requested_schema)


class Array:
    """A batch that offers nothing but the Arrow array interface."""

    def __arrow_c_array__(self, requested_schema: object = None) -> object:
        return pa.record_batch(COLUMNS).__arrow_c_array__(requested_schema)


@pytest.mark.parametrize(
    "make",
    [
        lambda: COLUMNS,
        lambda: pa.table(COLUMNS),
        lambda: pa.record_batch(COLUMNS),
        lambda: pa.table(COLUMNS).to_reader(),
        lambda: pa.table(COLUMNS).to_pylist(),
        lambda: tuple(pa.table(COLUMNS).to_pylist()),
        lambda: pd.DataFrame(COLUMNS),
        lambda: pl.DataFrame(COLUMNS),
        lambda: duckdb.sql("select * from (values (1, 'a', 0.5::double), (2, null, 1.5::double)) t(i, s, x)"),
        Stream,
        Array,
    ],
)
def test_every_kind_of_table_is_read(make: Any) -> None:
    found = read_table(make())
    assert isinstance(found, pa.Table)
    assert found.to_pydict() == COLUMNS


def test_arrow_tables_are_not_copied() -> None:
    source = pa.table({"x": np.arange(10.0)})
    assert read_table(source) is source
    column = read_table(pl.DataFrame({"x": np.arange(10.0)}).to_arrow()).column("x")
    assert column.to_pylist() == list(range(10))


def test_rows_as_dicts_may_differ_in_keys() -> None:
    assert read_table([{"a": 1}, {"b": "x"}]).to_pydict() == {"a": [1, None], "b": [None, "x"]}
    assert read_table([]).num_rows == 0


def test_columns_of_numpy_and_pandas_values() -> None:
    found = read_table({"v": np.arange(6.0).reshape(3, 2), "s": pd.Series(["a", "b", "c"]), "n": np.arange(3)})
    assert found.column("v").to_pylist() == [[0, 1], [2, 3], [4, 5]]
    assert found.schema.field("v").type == pa.list_(pa.float64(), 2)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (42, "int is not a table; pass a pandas, Polars"),
        ("rows.parquet", "str is not a table"),
        (["a", "b"], "list is not a table"),
        (None, "NoneType is not a table"),
        ({"a": [1, 2], "b": [1]}, "columns differ in length"),
        ({"a": 1}, "column 'a': 1 is not a column; wrap one row in a list"),
        ({"a": "text"}, "column 'a': 'text' is not a column"),
        ([{"a": 1}, {"a": "x"}], "column 'a': .*make every value of the column one type"),
        (pa.array([1, 2]), "cannot read .*Array as a table"),
        (pd.DataFrame({"a": [1, "x"]}), "cannot read DataFrame as a table"),
    ],
)
def test_what_is_no_table_is_refused(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(data)
