"""`Log`: append-only rows with positions 0, 1, 2, ... that survive a crash at any byte."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from nearline._errors import ConfigError, StateError
from nearline.store import _upkeep
from nearline.store._faults import gone
from nearline.store._fields import check_batch, checked_schema
from nearline.store._folder import Mark, lock
from nearline.store._opening import readable, remembered, writable
from nearline.store._packed import Packed, arrow_of
from nearline.store._recent import Recent, joined
from nearline.store._sealed import RowGroups
from nearline.store._segment import Appender, ArrowSegment, new_segment
from nearline.store._view import View

_T = TypeVar("_T")
_logger = logging.getLogger("nearline")
_APPENDS = 16_384  # in the segment that grows: opening reads each of them


class Log:
    """Append-only rows with positions 0, 1, 2, ... in one folder: one writer, any number of readers.

    `append` hands rows to the operating system, `commit` makes all of them durable (one fdatasync). Only durable rows
    can be read. All methods may be called from any thread; readers never wait for a writer.

    Examples
    --------
    >>> import tempfile, pyarrow as pa
    >>> schema = pa.schema({"user": pa.string(), "score": pa.float64()})
    >>> with tempfile.TemporaryDirectory() as folder, Log.open(folder, schema) as log:
    ...     position = log.append(pa.record_batch([["ann", "bob"], [0.5, -1.0]], schema=schema))
    ...     end = log.commit()
    ...     position, end, log.take([1, 0])["user"].to_pylist()
    (0, 2, ['bob', 'ann'])
    """

    def __init__(self, folder: Path, schema: Any, *, read_only: bool, rows: int, size: int, memory: int) -> None:
        self.folder, self.schema, self.read_only = folder, schema, read_only
        self.segment_rows, self.segment_bytes, self.memory_bytes = rows, size, memory
        self.notes: list[str] = []
        self._cache = RowGroups(memory // 4)
        self._mark = Mark(folder)
        # Upkeep (long, of files that no longer change) goes on beside appending; who takes both takes upkeep first.
        self._upkeep, self._writing = RLock(), RLock()
        self._lock = -1 if read_only else lock(folder)
        self._appender: Appender | None = None
        self._pending: list[Any] = []
        self._view: View
        try:
            self._load()
        except BaseException:
            self._release()
            raise

    @classmethod
    def open(
        cls,
        folder: str | Path,
        schema: Any,
        *,
        read_only: bool = False,
        segment_rows: int = 262_144,
        segment_bytes: int = 128 << 20,
        memory_bytes: int = 256 << 20,
    ) -> Log:
        """Open or create a log.

        Parameters
        ----------
        schema
            `pyarrow.Schema` of the rows. Against what is on disk, columns may be new (null in older rows) or gone (left
            where they are, not read); a column that stays keeps its type.
        read_only
            Read what is durable now, beside a writer or without one; `refresh` looks again.
        segment_rows, segment_bytes
            A segment that has reached one of them, or 16,384 appends, is followed by a new one at the next commit.
        memory_bytes
            Budget of recent rows in memory; a quarter of it again for rows read from sealed segments.

        Raises
        ------
        StateError
            Another writer has the log open; a file is damaged, missing or of another type; the system refuses.
        ConfigError
            A limit is not positive, or a column is dictionary-encoded.
        """
        for name, value in (("segment_rows", segment_rows), ("segment_bytes", segment_bytes)):
            if value < 1:
                raise ConfigError(f"Log.open({name}={value}) must be positive")
        if memory_bytes < 0:
            raise ConfigError(f"Log.open(memory_bytes={memory_bytes}) must not be negative")
        limits = {"rows": segment_rows, "size": segment_bytes, "memory": memory_bytes}
        return cls(Path(folder), checked_schema(schema), read_only=read_only, **limits)

    @property
    def first(self) -> int:
        """Position of the oldest row that is kept."""
        return self._view.first

    @property
    def end(self) -> int:
        """Durable end: the position after the last committed row."""
        return self._view.end

    @property
    def next(self) -> int:
        """Position that the next appended row gets."""
        return self._appender.segment.end if self._appender else self.end

    def append(self, batch: Any) -> int:
        """Append a `pyarrow.RecordBatch`, or a `Packed` one; the position of its first row. Read it after `commit`.

        Raises
        ------
        DataError
            The batch has other columns or types than the log.
        StateError
            The system refuses, or the log is closed or read-only. Nothing of the batch is kept, everything before is.
        """
        batch = check_batch(batch, self.schema)
        with self._writing:
            if not batch.num_rows:
                return self._writer().segment.end
            position = self._roomy().append(batch, self.end)
            self._pending.append(batch)
            return position

    def commit(self) -> int:
        """Make all appended rows durable; the durable end.

        Raises
        ------
        StateError
            The system refuses. The rows appended since the last commit are dropped.
        """
        with self._writing:
            self._sync()
            self.tidy()
            return self.end

    def put(self, batch: Any) -> int:
        """`append` and `commit` at once, but for what `tidy` does, which is to follow; the position of the first row.

        Raises
        ------
        DataError, StateError
            As those two.
        """
        batch = check_batch(batch, self.schema)
        with self._writing:
            if self._pending or not isinstance(batch, Packed):
                position = self.append(batch)
                self._sync()
                return position
            appender = self._roomy()
            position = appender.put(batch, self.end)
            self._view = self._view.grown(batch, appender.segment)
            return position

    def tidy(self) -> None:
        """What nobody waits for: note the durable end, gather recent rows, let the oldest of them leave memory."""
        with self._writing:
            self._writer()
            # The rows are durable whether or not the mark follows: it is a lower bound.
            with suppress(StateError):
                self._mark.write(self.end)
            self._view = self._view.tidied(self.memory_bytes)

    def read(self, after: int, limit: int | None = None) -> Any:
        """`pyarrow.Table` of the durable rows at positions [after, after + limit).

        Raises
        ------
        StateError
            `after` lies before `first`: those rows are no longer kept. Or a file is damaged.
        """
        return self._reading(lambda view: view.table(*view.window(after, limit)))

    def batches(self, after: int = 0) -> Iterator[tuple[int, Any]]:
        """(first position, batch) of each append from `after` on, as far as durable now; for replays batch by batch."""
        at = after
        while True:
            view = self._view
            view.window(at)
            try:
                for position, batch in view.batches(at):
                    yield position, batch
                    at = position + batch.num_rows
                return
            except FileNotFoundError as error:
                if view is self._view:
                    raise gone(error) from error

    def take(self, positions: ArrayLike) -> Any:
        """`pyarrow.Table` of the rows at positions, in that order; a position may come twice.

        Raises
        ------
        StateError
            A position is outside [first, end), or a file is damaged.
        """
        wanted = np.asarray(positions, np.int64)
        return self._reading(lambda view: view.take(wanted))

    def dataset(self) -> Any:
        """The durable rows as a `pyarrow.dataset.Dataset`, which DuckDB and Polars query in place.

        It is a snapshot; when `retain` or `compact` removes one of its files, make a new one.
        """
        return self._reading(lambda view: view.dataset())

    def truncate(self, end: int) -> None:
        """Drop the rows from position `end` on, durable or not, wherever they are; those before it are durable then.

        Raises
        ------
        StateError
            `end` lies outside [first, next], or the system refuses.
        """
        with self._upkeep, self._writing:
            self._writer()
            if not self.first <= end <= self.next:
                raise StateError(f"cannot truncate to {end}: the log holds positions {self.first} to {self.next - 1}")
            if end == self.next:
                return
            _upkeep.truncate(self.folder, self._view, self._mark, end)
            recent = self._view.recent.cut(end) if end <= self.end else None
            self._close_appender()
            self._load(recent)

    def seal(self, *, active: bool = False) -> int:
        """Turn closed segments into Parquet; how many. With `active`, close the growing one first.

        Appending goes on meanwhile. A growing segment with uncommitted rows stays as it is.
        """
        with self._upkeep:
            with self._writing:
                appender = self._writer()
                if active and not self._pending and appender.segment.end > appender.segment.first:
                    self._roll()
                closed = [part for part in self._view.segments[:-1] if isinstance(part, ArrowSegment)]
            for segment in closed:
                sealed = _upkeep.seal(segment, self._cache)
                self._replace([segment], [sealed])
                _upkeep.discard([segment])
            return len(closed)

    def retain(self, before_position: int) -> int:
        """Remove segments whose rows all lie before a position; the new `first`. The growing segment is never
        removed.
        """
        with self._upkeep:
            old = [part for part in self._view.segments[:-1] if part.end <= before_position]
            with self._writing:
                self._writer()
                self._replace(old, [])
            _upkeep.discard(old)
            return self.first

    def compact(self) -> int:
        """Merge neighbouring sealed segments that together have at most `segment_rows` rows; how many files fewer."""
        with self._upkeep:
            self._writer()
            fewer = 0
            for group in _upkeep.mergeable(self._view.segments, self.segment_rows):
                merged = _upkeep.merge(group, self._cache)
                self._replace(group, [merged])
                _upkeep.discard(group[1:])
                fewer += len(group) - 1
            return fewer

    def refresh(self) -> int:
        """See what the writer has committed since (read-only logs); the durable end."""
        if self.read_only:
            with self._upkeep:
                self._load()
        return self.end

    def close(self) -> None:
        """Commit, and give the folder back; may be called twice."""
        with self._upkeep, self._writing:
            try:
                if self._appender is not None:
                    self.commit()
            finally:
                self._release()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _load(self, recent: Recent | None = None) -> None:
        if self.read_only:
            segments, end = readable(self.folder, self.schema, self._mark, self._cache)
            self._view = View(self.schema, tuple(segments), Recent.empty(self.schema, end), end)
            return
        segments, last, notes = writable(self.folder, self.schema, self._mark.read(), self._cache)
        for note in notes:
            _logger.warning("%s: %s", self.folder, note)
        self.notes += notes
        self._appender = Appender(last)
        self._pending.clear()
        recent = recent or remembered(last, self.schema, self.memory_bytes)
        self._view = View(self.schema, tuple(segments), recent, last.end)
        self._mark.write(last.end, sync=True)

    def _sync(self) -> None:
        appender, pending = self._writer(), self._pending
        if not pending:
            return
        try:
            appender.sync()
        except StateError:
            appender.drop(self.end)
            raise
        finally:
            self._pending = []
        batch = pending[0]
        if len(pending) > 1:
            batch = joined(pa.Table.from_batches([arrow_of(part) for part in pending]))
        self._view = self._view.grown(batch, appender.segment)

    def _roomy(self) -> Appender:
        """The appender, of a new segment where the old one is full and nothing in it waits to be committed."""
        appender = self._writer()
        segment = appender.segment
        full = segment.size >= self.segment_bytes or len(segment.bounds) > _APPENDS
        if self._pending or not (full or segment.end - segment.first >= self.segment_rows):
            return appender
        return self._roll()

    def _roll(self) -> Appender:
        """Follow the active segment, all of it durable, by a new one."""
        view = self._view
        segment = new_segment(self.folder, view.end, self.schema)
        appender = Appender(segment)
        self._close_appender()
        self._appender = appender
        self._view = View(self.schema, (*view.segments, segment), view.recent, view.end)
        return appender

    def _replace(self, old: list[Any], new: list[Any]) -> None:
        """Swap neighbouring segments in what readers see."""
        if not old:
            return
        with self._writing:
            view = self._view
            at = view.segments.index(old[0])
            segments = (*view.segments[:at], *new, *view.segments[at + len(old) :])
            self._view = View(self.schema, segments, view.recent, view.end)

    def _reading(self, read: Callable[[View], _T]) -> _T:
        while True:
            view = self._view
            try:
                return read(view)
            except FileNotFoundError as error:
                # Sealed, merged or removed since the view was made: look again.
                if view is self._view:
                    if self.read_only:
                        self.refresh()
                        continue
                    raise gone(error) from error

    def _writer(self) -> Appender:
        if self.read_only:
            raise StateError(f"{self.folder} is open read-only; open it without read_only=True to change it")
        if self._appender is None:
            raise StateError(f"{self.folder} is closed; open the log again")
        return self._appender

    def _close_appender(self) -> None:
        if self._appender is not None:
            self._appender.close()
            self._appender = None

    def _release(self) -> None:
        self._close_appender()
        self._mark.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
