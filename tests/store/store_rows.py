"""Rows for tests of logs: a schema with the types that a ledger has, and batches whose values tell the position."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from nearline.store import Log

SCHEMA = pa.schema({"n": pa.int64(), "text": pa.string(), "x": pa.float64(), "tags": pa.list_(pa.string())})


def row(i: int) -> dict[str, Any]:
    """The row with value i."""
    return {
        "n": i,
        "text": None if i % 7 == 0 else f"värde {i}",
        "x": None if i % 5 == 0 else i / 3,
        "tags": None if i % 11 == 0 else [f"t{j}" for j in range(i % 4)],
    }


def batch(*values: int) -> Any:
    """A batch of the rows with these values."""
    return pa.RecordBatch.from_pylist([row(i) for i in values], schema=SCHEMA)


def values(table: Any) -> list[int]:
    """The values of rows, after checking that every column says the same."""
    numbers: list[int] = table["n"].to_pylist()
    assert table.to_pylist() == [row(i) for i in numbers]
    return numbers


def filled(folder: Path, *lengths: int, **options: Any) -> Log:
    """A log with one commit per length, of values 0, 1, 2, ..."""
    log = Log.open(folder, SCHEMA, **options)
    for length in lengths:
        log.append(batch(*range(log.next, log.next + length)))
        log.commit()
    return log
