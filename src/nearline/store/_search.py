"""From a time to a position: bisection in a column that only grows."""

from __future__ import annotations

from typing import Any, Protocol


class Readable(Protocol):
    """What the search needs of a log; `Log` and `MemoryLog` are two."""

    @property
    def first(self) -> int:
        """Position of the oldest row that is kept."""

    @property
    def end(self) -> int:
        """Durable end."""

    def read(self, after: int, limit: int | None = None) -> Any:
        """Table of the durable rows at positions [after, after + limit)."""


def first_at(log: Readable, value: float, column: str = "received") -> int:
    """The smallest position from which on a column is at least `value`; `log.end` where it is nowhere.

    The column must not fall from row to row, as the server's clock does not; void rows (null) are passed over. About
    log2(rows) rows are read. `log.retain(first_at(log, now - 90 * 86_400))` keeps ninety days.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from nearline.store import MemoryLog
    >>> log = MemoryLog(pa.schema({"received": pa.float64()}))
    >>> log.append(pa.record_batch([[1.0, 2.0, None, 4.0]], schema=log.schema)), log.commit()
    (0, 4)
    >>> first_at(log, 2.0), first_at(log, 3.0), first_at(log, 9.0)
    (1, 2, 4)
    """
    lo, hi = log.first, log.end
    while lo < hi:
        middle = (lo + hi) // 2
        at, found = _next_value(log, column, middle, hi)
        if found is not None and found < value:
            lo = at + 1
        else:
            hi = middle
    return lo


def _next_value(log: Readable, column: str, at: int, stop: int) -> tuple[int, float | None]:
    """The first position from `at` on where the column is not null, and its value."""
    step = 1
    while at < stop:
        for found in log.read(at, min(step, stop - at))[column].to_pylist():
            if found is not None:
                return at, found
            at += 1
        step = 1024
    return stop, None
