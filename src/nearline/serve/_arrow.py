"""Arrow IPC streams in and out."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from nearline.serve._problems import Problem


def read(body: bytes, most: int) -> Any:
    """Table of an Arrow IPC stream.

    Raises
    ------
    Problem
        It is no such stream, or a damaged one (400); it has more rows than may be (422).
    """
    try:
        with pa.ipc.open_stream(body) as reader:
            table = reader.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Problem("malformed", f"the body is no whole Arrow IPC stream: {error}") from error
    if table.num_rows > most:
        raise Problem("invalid", f"{table.num_rows} rows; one request may have {most}", "rows")
    names = table.column_names
    if len(set(names)) < len(names):
        raise Problem("invalid", "two columns have this name", next(name for name in names if names.count(name) > 1))
    return table


def write(table: Any) -> bytes:
    """Arrow IPC stream of a table."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]
