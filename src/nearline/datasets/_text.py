"""Reading delimited text of the original archives, and joining tables by an integer id."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from nearline._errors import DataError, StateError

SEPARATOR = "\x1f"
"""The unit separator: takes the place of "::", which the Arrow reader cannot split on."""


def read_text(path: Path, delimiter: str, columns: Mapping[str, pa.DataType], quote: bool = False) -> pa.Table:
    """The columns of a delimited Latin-1 file without header; `StateError` when the text is not of that form."""
    text = path.read_bytes().decode("latin-1")
    if len(delimiter) > 1:
        text, delimiter = text.replace(delimiter, SEPARATOR), SEPARATOR
    return parse_text(text, delimiter, columns, path, quote)


def parse_text(
    text: str, delimiter: str, columns: Mapping[str, pa.DataType], path: Path, quote: bool = False
) -> pa.Table:
    """As `read_text`, for text that is already in memory; `path` is for the message."""
    try:
        return csv.read_csv(
            pa.py_buffer(text.encode()),
            csv.ReadOptions(column_names=list(columns), use_threads=False),
            csv.ParseOptions(delimiter=delimiter, quote_char='"' if quote else False),
            csv.ConvertOptions(column_types=dict(columns), strings_can_be_null=False),
        )
    except pa.ArrowInvalid as problem:
        raise StateError(f"{path} is damaged or of another format: {problem}; fetch it again") from problem


def positions(wanted: pa.ChunkedArray, ids: pa.ChunkedArray, column: str) -> NDArray[np.int64]:
    """Row of each wanted id in `ids` (non-negative integers); `DataError` naming the first that is not there.

    >>> positions(pa.chunked_array([[7, 2, 7]]), pa.chunked_array([[2, 5, 7]]), "user_id").tolist()
    [2, 0, 2]
    """
    want, have = wanted.to_numpy().astype(np.int64), ids.to_numpy().astype(np.int64)
    row = np.full(max(want.max(initial=0), have.max(initial=0)) + 1, -1)
    row[have] = np.arange(len(have))
    found: NDArray[np.int64] = row[want]
    if (found < 0).any():
        first = int(np.argmax(found < 0))
        raise DataError(f"id {want[first]} has no row to join", column=column, row=first, fix="fetch the data again")
    return found
