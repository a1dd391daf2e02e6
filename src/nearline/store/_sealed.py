"""A sealed segment: Parquet with checksums of all its bytes, and the boundaries of the appends in its metadata."""

from __future__ import annotations

import base64
import json
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nearline.store import _checksums as checksums
from nearline.store._faults import damaged, refused
from nearline.store._fields import check_readable, fitted
from nearline.store._folder import segment_path, written_aside
from nearline.store._recent import Positions

ROW_GROUP = 16_384
_KEY = b"nearline"


class RowGroups:
    """Row groups read lately, within a budget of bytes; for any thread."""

    def __init__(self, budget: int) -> None:
        self._budget, self._size = budget, 0
        self._tables: OrderedDict[tuple[object, int], Any] = OrderedDict()
        self._lock = Lock()

    def get(self, key: tuple[object, int]) -> Any:
        """The row group, or None."""
        with self._lock:
            if key in self._tables:
                self._tables.move_to_end(key)
            return self._tables.get(key)

    def put(self, key: tuple[object, int], table: Any) -> None:
        """Keep a row group, and let go of those not asked for longest."""
        with self._lock:
            if key not in self._tables:
                self._size += table.nbytes
                self._tables[key] = table
            while self._size > self._budget and self._tables:
                self._size -= self._tables.popitem(last=False)[1].nbytes


class ParquetSegment:
    """Rows [first, end) of a sealed segment.

    Raises
    ------
    StateError
        The file is truncated or damaged, here or as it is read: names the file and the row group.
    """

    def __init__(self, path: Path, first: int, schema: Any, cache: RowGroups) -> None:
        self.path, self.first, self.schema, self._cache = path, first, schema, cache
        self._token = object()
        try:
            self._inode = path.stat().st_ino
            footer, self._sums = checksums.checked(path)
            self._metadata = pq.read_metadata(path)
            self._ends = [0, *checksums.group_ends(self._metadata, footer)]
            self.written = _arrow_schema(self._metadata)
            note = json.loads(self._metadata.metadata[_KEY])
            lengths = np.array(note["batches"], np.int64)
            groups = [self._metadata.row_group(i).num_rows for i in range(self._metadata.num_row_groups)]
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise damaged(path, "footer", f"not a whole sealed segment ({error})") from error
        rows = self._metadata.num_rows
        if note["first"] != first or lengths.sum() != rows or sum(groups) != rows or not rows:
            raise damaged(path, "footer", f"{rows} rows from position {note['first']} do not fit name and row groups")
        check_readable(path, self.written, schema)
        self.bounds: list[int] = (first + np.concatenate([[0], np.cumsum(lengths)])).tolist()
        self._groups: list[int] = (first + np.concatenate([[0], np.cumsum(groups)])).tolist()

    @property
    def end(self) -> int:
        """Position after the last row."""
        return self.bounds[-1]

    def table(self, lo: int, hi: int) -> Any:
        """Rows [lo, hi), which must be here."""
        parts = []
        for i in range(bisect_right(self._groups, lo) - 1, bisect_left(self._groups, hi)):
            start, group = self._groups[i], self._read(i)
            begin = max(lo - start, 0)
            parts.append(group.slice(begin, min(hi - start, len(group)) - begin))
        return pa.concat_tables(parts)

    def take(self, positions: Positions) -> list[Any]:
        """Batches of the rows at ascending positions, which must be here."""
        edges = np.searchsorted(positions, np.array(self._groups, np.int64))
        parts = []
        for i in np.flatnonzero(np.diff(edges)):
            rows = pa.array(positions[edges[i] : edges[i + 1]] - self._groups[i])
            parts += self._read(int(i)).take(rows).to_batches()
        return parts

    def _read(self, i: int) -> Any:
        table = self._cache.get((self._token, i))
        if table is None:
            table = fitted(self._decode(i), self.schema)
            self._cache.put((self._token, i), table)
        return table

    def _decode(self, i: int) -> Any:
        names = [name for name in self.schema.names if name in self.written.names]
        try:
            with self.path.open("rb", buffering=0) as raw:
                if checksums.crc_of(raw.fileno(), self._ends[i], self._ends[i + 1]) != self._sums[i]:
                    raise ValueError("the checksum does not match")
            with pq.ParquetFile(self.path, metadata=self._metadata) as file:
                table = file.read_row_group(i, columns=names).combine_chunks()
            self._check_same()
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            self._check_same()
            where = (
                f"row group {i} from byte {self._ends[i]} on (positions {self._groups[i]} to {self._groups[i + 1] - 1})"
            )
            raise damaged(self.path, where, f"cannot be read ({error})") from error
        return table.cast(pa.schema([self.written.field(name) for name in names]))

    def _check_same(self) -> None:
        """Raise FileNotFoundError when a compaction has put another file under this name: the reader looks again."""
        if self.path.stat().st_ino != self._inode:
            raise FileNotFoundError(self.path)


def _arrow_schema(metadata: Any) -> Any:
    """The schema as it was before Parquet, which keeps some types (seconds, say) as others."""
    kept = base64.b64decode(metadata.metadata[b"ARROW:schema"])
    return pa.ipc.read_schema(pa.py_buffer(kept)).remove_metadata()


def write_sealed(
    folder: Path, first: int, schema: Any, bounds: Sequence[int], tables: Iterable[Any], groups: int
) -> Path:
    """Write rows as a sealed segment aside, sync it, put it in place; its path.

    Parameters
    ----------
    bounds
        Boundaries of the appends: the first position, ..., the end.
    tables
        The rows, in tables of at most `ROW_GROUP` rows each: the row groups.
    groups
        How many tables.
    """
    path = segment_path(folder, first, "parquet")
    note = json.dumps({"first": first, "batches": np.diff(bounds).tolist()}, separators=(",", ":"))
    kept = schema.with_metadata({_KEY: note.encode(), checksums.KEY: checksums.blank(groups)})
    with written_aside(path) as aside:
        try:
            with pq.ParquetWriter(aside, kept, compression="zstd", write_page_checksum=True) as writer:
                for table in tables:
                    writer.write_table(table.cast(kept), row_group_size=ROW_GROUP)
            checksums.stamp(aside)
        except OSError as error:
            raise refused(path, "write the sealed segment", error) from error
    return path
