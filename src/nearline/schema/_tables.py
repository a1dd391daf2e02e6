"""Tables in, and refused rows out: everything that speaks Arrow becomes a `pyarrow.Table`."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline._errors import DataError
from nearline.schema._columns import strings

_FIX = "pass a pandas, Polars or PyArrow table, a DuckDB relation, a dict of columns or a list of dict rows"


def read_table(data: Any) -> Any:
    """Any table as a `pyarrow.Table`, without a copy where the source is Arrow already.

    Parameters
    ----------
    data
        An object with the Arrow PyCapsule interface (pandas, Polars, DuckDB, PyArrow), a dict of columns
        (a two-dimensional array is a column of vectors) or a list of dict rows (an absent entry is missing).

    Raises
    ------
    DataError
        Not a table, or a column mixes types.

    Examples
    --------
    >>> read_table([{"user_id": 7, "liked": 1}, {"user_id": 8}]).to_pydict()
    {'user_id': [7, 8], 'liked': [1, None]}
    """
    if isinstance(data, pa.Table):
        return data
    try:
        return _convert(data)
    except (pa.ArrowException, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"cannot read {type(data).__name__} as a table: {error}", fix=_FIX) from error


def _convert(data: Any) -> Any:
    if isinstance(data, pa.RecordBatchReader):
        return data.read_all()
    if hasattr(data, "__arrow_c_stream__"):
        return pa.table(data)
    if hasattr(data, "__arrow_c_array__"):
        return pa.Table.from_batches([pa.record_batch(data)])
    if isinstance(data, Mapping):
        return _from_columns(data)
    if isinstance(data, list | tuple) and all(isinstance(row, Mapping) for row in data):
        names = dict.fromkeys(name for row in data for name in row)
        return _from_columns({name: [row.get(name) for row in data] for name in names})
    raise DataError(f"{type(data).__name__} is not a table", fix=_FIX)


def _from_columns(columns: Mapping[str, Any]) -> Any:
    arrays = {name: _from_values(name, values) for name, values in columns.items()}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"columns differ in length: {lengths}", fix="give every column one value per row")
    return pa.table(arrays)


def _from_values(name: str, values: Any) -> Any:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
        raise DataError(f"{values!r} is not a column", column=str(name), fix="wrap one row in a list: [{...}]")
    if isinstance(values, np.ndarray) and values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    try:
        return pa.array(values)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise DataError(str(error), column=str(name), fix="make every value of the column one type") from error


def pick(column: Any, rows: NDArray[np.int64]) -> Any:
    """Rows of a chunked array, by increasing row number."""
    column = strings(column)
    try:
        return column.take(pa.array(rows))
    except pa.ArrowNotImplementedError:  # lists of string views; runs of rows can be sliced whatever their type
        runs = [run for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1) if len(run)]
        chunks = [chunk for run in runs for chunk in column.slice(run[0], len(run)).chunks]
        return pa.chunked_array([pa.chunked_array(chunks, column.type).combine_chunks()])


@dataclass(frozen=True)
class Rejects:
    """Rows that a check refused.

    Attributes
    ----------
    rows
        Row numbers in the table that was checked, int64 (m), increasing.
    reasons
        Why, one text per row.
    table
        The refused rows as they came, with a column "reason" added.
    """

    rows: NDArray[np.int64]
    reasons: tuple[str, ...]
    table: Any

    def __len__(self) -> int:
        return len(self.rows)

    def write(self, path: str | os.PathLike[str]) -> Path | None:
        """Write the refused rows to a Parquet file that did not exist before, and return its path.

        When `path` is taken the file becomes `name-1.parquet`, `name-2.parquet`, ...: nothing is ever overwritten, and
        a crash leaves no half-written file under these names. Returns None when there is nothing to write.
        """
        if not len(self):
            return None
        import pyarrow.parquet as pq  # a tenth of a second that most programs do not need

        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.stem}-", suffix=".tmp", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                pq.write_table(self.table, file)
                file.flush()
                os.fsync(file.fileno())
            return _claim(Path(name), target)
        finally:
            Path(name).unlink()


def _claim(written: Path, target: Path) -> Path:
    for number in itertools.count():
        name = target if number == 0 else target.with_stem(f"{target.stem}-{number}")
        try:
            os.link(written, name)  # fails when the name is taken, so two writers cannot overwrite each other
        except FileExistsError:
            continue
        return name
    raise AssertionError
