"""`MemoryLog`: a log that keeps nothing on disk, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from nearline._errors import StateError
from nearline.store._fields import check_batch, checked_schema
from nearline.store._packed import arrow_of
from nearline.store._recent import Recent
from nearline.store._view import View


class MemoryLog:
    """The same methods as `Log`, in memory: what is gone with the process is all that differs.

    `retain` removes whole appends; `truncate` commits what it leaves; `seal` and `compact` have nothing to do.

    Examples
    --------
    >>> import pyarrow as pa
    >>> log = MemoryLog(pa.schema({"x": pa.int64()}))
    >>> log.append(pa.record_batch([[7, 8]], schema=log.schema)), log.end, log.commit()
    (0, 0, 2)
    >>> log.take([1, 1])["x"].to_pylist()
    [8, 8]
    """

    def __init__(self, schema: Any) -> None:
        self.schema = checked_schema(schema)
        self._batches: list[tuple[int, Any]] = []
        self._writing = RLock()
        self._next = 0
        self._closed = False
        self._view = View(self.schema, (), Recent.empty(self.schema, 0), 0)

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
        return self._next

    def append(self, batch: Any) -> int:
        """Append a record batch; the position of its first row."""
        batch = arrow_of(check_batch(batch, self.schema))
        with self._writing:
            self._check_open()
            position = self._next
            if batch.num_rows:
                self._batches.append((position, batch))
                self._next += batch.num_rows
            return position

    def commit(self) -> int:
        """Let all appended rows be read; the end."""
        with self._writing:
            self._check_open()
            recent = self._view.recent
            for position, batch in self._batches:
                if position >= self.end:
                    recent = recent.added(batch, 0).tidied(1)
            self._view = View(self.schema, (), recent, self._next)
            return self._next

    def put(self, batch: Any) -> int:
        """`append` and `commit`; the position of the first row."""
        with self._writing:
            position = self.append(batch)
            self.commit()
            return position

    def tidy(self) -> None:
        """Nothing is left to do."""

    def read(self, after: int, limit: int | None = None) -> Any:
        """Table of the committed rows at positions [after, after + limit)."""
        view = self._view
        return view.table(*view.window(after, limit))

    def batches(self, after: int = 0) -> Iterator[tuple[int, Any]]:
        """(first position, batch) of each append from `after` on, as far as committed now."""
        _, end = self._view.window(after)
        for position, batch in list(self._batches):
            if position < end and position + batch.num_rows > after:
                skip = max(after - position, 0)
                yield position + skip, batch.slice(skip)

    def take(self, positions: ArrayLike) -> Any:
        """Table of the rows at positions, in that order."""
        return self._view.take(np.asarray(positions, np.int64))

    def dataset(self) -> Any:
        """The committed rows as a `pyarrow.dataset.Dataset`."""
        return self._view.dataset()

    def truncate(self, end: int) -> None:
        """Drop the rows from position `end` on; those before it are committed then."""
        with self._writing:
            self._check_open()
            if not self.first <= end <= self._next:
                raise StateError(f"cannot truncate to {end}: the log holds positions {self.first} to {self._next - 1}")
            if end < self._next:
                begin, self._next = self.first, end
                self._batches = [(at, batch.slice(0, end - at)) for at, batch in self._batches if at < end]
                self._publish(begin)

    def seal(self, *, active: bool = False) -> int:
        """Nothing to turn into Parquet: 0."""
        return 0

    def retain(self, before_position: int) -> int:
        """Remove appends whose rows all lie before a position; the new `first`."""
        with self._writing:
            view = self._view
            kept = [item for item in self._batches if item[0] + item[1].num_rows > min(before_position, view.end)]
            begin = kept[0][0] if kept else self._next
            if begin > view.first:
                self._batches = kept
                self._view = View(self.schema, (), _gathered(self.schema, begin, kept, view.end), view.end)
            return self.first

    def compact(self) -> int:
        """Nothing to merge: 0."""
        return 0

    def close(self) -> None:
        """Commit; later writes are refused."""
        if not self._closed:
            self.commit()
            self._closed = True

    def __enter__(self) -> MemoryLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _publish(self, begin: int) -> None:
        self._view = View(self.schema, (), _gathered(self.schema, begin, self._batches, self._next), self._next)

    def _check_open(self) -> None:
        if self._closed:
            raise StateError("the log is closed")


def _gathered(schema: Any, begin: int, batches: list[tuple[int, Any]], end: int) -> Recent:
    recent = Recent.empty(schema, begin)
    for position, batch in batches:
        if position < end:
            recent = recent.added(batch, 0).tidied(1)
    return recent
