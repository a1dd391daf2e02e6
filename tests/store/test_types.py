"""Every type that a column may have comes back from memory, from a stream and from Parquet as it went in."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from nearline import ConfigError
from nearline.store import Log

DAY = dt.datetime(2020, 2, 29)
COLUMNS = [
    pa.array([True, None, False]),
    pa.array([1, None, -3], pa.int8()),
    pa.array([1, None, 2**63], pa.uint64()),
    pa.array([1, None, 2], pa.float32()),
    pa.array(["a", None, ""], pa.large_string()),
    pa.array([b"a", None, b"\0"]),
    pa.array([[1, 2], None, [3, 4]], pa.list_(pa.float32(), 2)),
    pa.array([[1.0], None, []], pa.list_(pa.float64())),
    pa.array([[1.0], None, []], pa.large_list(pa.float64())),
    pa.array([DAY, None, DAY], pa.timestamp("ns", "Europe/Berlin")),
    pa.array([1, None, 2], pa.timestamp("s")),
    pa.array([DAY.date(), None, DAY.date()]),
    pa.array([DAY.date(), None, DAY.date()], pa.date64()),
    pa.array([Decimal("1.20"), None, None], pa.decimal128(5, 2)),
    pa.array([{"a": 1}, None, {"a": None}]),
    pa.nulls(3),
]


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: str(column.type))
def test_a_column_comes_back_as_it_went_in(column: Any, tmp_path: Path) -> None:
    schema = pa.schema({"c": column.type})
    for memory in (0, 1 << 20):
        with Log.open(tmp_path / str(memory), schema, memory_bytes=memory) as log:
            for _ in range(2):
                log.append(pa.record_batch([column], schema=schema))
                log.commit()
            expected = pa.table({"c": pa.concat_arrays([column, column])}, schema=schema)
            for _ in range(2):
                assert log.read(0).combine_chunks() == expected
                assert log.take([4, 0, 2]) == expected.take([4, 0, 2])
                assert log.dataset().to_table().combine_chunks() == expected
                log.seal(active=True)


@pytest.mark.parametrize("dtype", [pa.string_view(), pa.binary_view(), pa.dictionary(pa.int8(), pa.string())], ids=str)
def test_a_type_that_a_log_cannot_keep_is_refused_with_one_that_it_can(dtype: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"column 'c': .*; use (string|binary)"):
        Log.open(tmp_path, pa.schema({"c": dtype}))
