"""`Recorder`: many threads hand over rows, one thread writes them: one batch and one sync for all that wait."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition, Thread
from time import perf_counter
from typing import Any, Protocol, TypeAlias

from nearline._errors import ConfigError, DataError, Overloaded, StateError
from nearline.store._columns import Columns, Made, check_columns, to_batch, void
from nearline.store._packing import Packing

Done: TypeAlias = Callable[[BaseException | None], None]
_logger = logging.getLogger("nearline")
_VOID_ROWS = 65_536
_NEVER = 1 << 62


class Appendable(Protocol):
    """What a recorder needs of a log; `Log` and `MemoryLog` are two."""

    schema: Any

    @property
    def next(self) -> int:
        """Position that the next appended row gets."""

    def append(self, batch: Any) -> int:
        """Append a record batch, or a `Packed` one; its first position."""

    def put(self, batch: Any) -> int:
        """Append a batch, and make all appended rows durable; its first position."""

    def tidy(self) -> None:
        """What `put` leaves for later."""


@dataclass(slots=True)
class _Submission:
    first: int
    n: int
    columns: Columns
    done: Done | None


class Recorder:
    """Group commit: rows get their positions at once and are durable when `done(None)` is called.

    A position, once given, is never given again by this recorder. Rows that cannot be written after all (a value does
    not fit its column, the disk was full) become void rows, null but for the made columns, so that every later position
    still holds what it was promised.

    Parameters
    ----------
    log
        The log; the recorder is its only writer while it is open.
    durable
        True: `done` is called after the sync. False: it is called at once, and a crash loses at most the rows of the
        last `flush_seconds` or `flush_rows` (an interruption of the machine; that of the process alone, those not yet
        taken up).
    max_rows
        Rows that may wait; beyond, `submit` raises Overloaded.
    group_rows
        Rows written as one batch at most (a larger submission is one batch).
    flush_seconds, flush_rows
        With durable=False: how long rows wait for others, and how many wait at most.
    gather_seconds
        With durable=True: shortest time from the start of a write to that of the next, for what comes meanwhile to be
        written together.
    made
        Columns that follow from the positions, for example {"prediction_id": run}.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from nearline.store import MemoryLog
    >>> log = MemoryLog(pa.schema({"user": pa.string(), "score": pa.float64()}))
    >>> with Recorder(log) as recorder:
    ...     recorder.submit(2, {"user": ["ann", "bob"], "score": [0.5, -1.0]})
    ...     recorder.submit(1, {"user": "cid", "score": [0.0]})
    0
    2
    >>> log.read(0)["user"].to_pylist()
    ['ann', 'bob', 'cid']
    """

    def __init__(
        self,
        log: Appendable,
        *,
        durable: bool = True,
        max_rows: int = 100_000,
        group_rows: int = 16_384,
        flush_seconds: float = 0.05,
        flush_rows: int = 4096,
        gather_seconds: float = 0.001,
        made: Made | None = None,
    ) -> None:
        if min(max_rows, group_rows, flush_rows) < 1 or min(flush_seconds, gather_seconds) < 0:
            raise ConfigError(
                "Recorder: max_rows, group_rows and flush_rows must be positive, flush_seconds and gather_seconds not "
                "negative"
            )
        required = [field.name for field in log.schema if not field.nullable and field.name not in (made or {})]
        if required:
            raise ConfigError(f"Recorder: column {required[0]!r} must be nullable, since rows can turn out void")
        self._log, self._made, self.durable = log, dict(made or {}), durable
        self._known, self._packing = frozenset(log.schema.names) - self._made.keys(), Packing(log.schema, self._made)
        self.max_rows, self._group_rows = max_rows, group_rows
        self._flush_seconds, self._flush_rows = flush_seconds, flush_rows
        self._gather_seconds, self._began = gather_seconds, 0.0
        self._queue: deque[_Submission] = deque()
        self._changed = Condition()
        self._closed = False
        self._wake_at = 1  # rows waiting at which the thread is to be woken
        self._waiting, self._next = 0, log.next
        self._rate = 100_000.0
        self.error: BaseException | None = None
        self.groups = self.failed_rows = 0
        self._thread = Thread(target=self._run, name="nearline-recorder", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Rows handed over and not yet durable."""
        return self._waiting

    @property
    def end(self) -> int:
        """Position that the next row handed over gets."""
        return self._next

    def submit(self, n: int, columns: Columns, done: Done | None = None) -> int:
        """Hand over n rows; the position of the first. Never waits for the disk.

        Parameters
        ----------
        columns
            By column a list (None is null), an array, or one value for all rows; what is left out is null. They must
            not be changed afterwards.
        done
            Called once, in the recorder's thread (at once, in this one, with durable=False): with None when the rows
            are durable, with the error when they are not and never will be. It must be quick.

        Raises
        ------
        Overloaded
            More than `max_rows` would wait; no position is used.
        DataError
            An unknown column, or one of another length; no position is used.
        StateError
            The recorder is closed.
        """
        check_columns(n, columns, self._known)
        with self._changed:
            if self._closed:
                raise StateError("the recorder is closed")
            if self._waiting and self._waiting + n > self.max_rows:
                raise Overloaded(self._waiting, self.max_rows, self._waiting / self._rate)
            first = self._next
            self._next += n
            self._waiting += n
            self._queue.append(_Submission(first, n, columns, done if self.durable else None))
            if self._waiting >= self._wake_at:
                self._changed.notify()
        if done is not None and not self.durable:
            done(None)
        return first

    def close(self) -> None:
        """Write what waits and stop; may be called twice. The log stays open."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        while group := self._group():
            self._began = perf_counter()
            faults: dict[int, BaseException] = {}
            try:
                self._write(group, faults)
            except BaseException as error:  # whatever it was, who waits must hear of it
                faults = dict.fromkeys(range(len(group)), error)
                self.error = error
                _logger.error("recorder: %d submissions failed: %s", len(group), error)
            self._finish(group, faults, perf_counter() - self._began)
            self._tidy()

    def _group(self) -> list[_Submission]:
        """The submissions to write next, in order; none when the recorder is closed and all is written."""
        with self._changed:
            while not self._queue and not self._closed:
                self._sleep(1, None)
            # A lone submission is written at once. Of many, groups: each write costs as much as some submissions. A
            # slow disk gathers enough by itself; to rest after it would gather all that clients wait for, and idle.
            gathered = self._began + self._gather_seconds
            self._linger(gathered if self.durable else perf_counter() + self._flush_seconds)
            group: list[_Submission] = []
            rows = 0
            while self._queue and (not group or rows + self._queue[0].n <= self._group_rows):
                group.append(self._queue.popleft())
                rows += group[-1].n
            return group

    def _linger(self, until: float) -> None:
        while not self._closed and self._waiting < self._flush_rows and (left := until - perf_counter()) > 0:
            self._sleep(self._flush_rows, left)

    def _sleep(self, rows: int, seconds: float | None) -> None:
        self._wake_at = rows
        self._changed.wait(seconds)
        self._wake_at = _NEVER

    def _write(self, group: list[_Submission], faults: dict[int, BaseException]) -> None:
        self._fill(group[0].first)
        if self._log.next != group[0].first:
            raise StateError(f"the log goes on at {self._log.next}, not {group[0].first}: somebody else appends to it")
        *others, last = self._batches(group, faults)
        for batch in others:
            self._log.append(batch)
        self._log.put(last)
        self.error = None

    def _tidy(self) -> None:
        """What nobody has to wait for."""
        try:
            self._log.tidy()
        except Exception:  # the rows are durable all the same
            _logger.exception("recorder: the log could not be tidied")

    def _fill(self, until: int) -> None:
        """Void rows for positions that were given and could not be written."""
        while (at := self._log.next) < until:
            self._log.append(void(self._log.schema, at, min(until - at, _VOID_ROWS), self._made))

    def _batches(self, group: list[_Submission], faults: dict[int, BaseException]) -> list[Any]:
        """The group as one batch, or submission by submission when one of them does not fit."""
        schema, made = self._log.schema, self._made
        first, parts = group[0].first, [(part.n, part.columns) for part in group]
        try:
            return [self._packing.pack(first, parts) or to_batch(schema, first, parts, made)]
        except DataError:
            batches = []
        for number, part in enumerate(group):
            try:
                batches.append(to_batch(schema, part.first, [(part.n, part.columns)], made))
            except DataError as error:
                faults[number] = error
                batches.append(void(schema, part.first, part.n, made))
        return batches

    def _finish(self, group: list[_Submission], faults: dict[int, BaseException], seconds: float) -> None:
        rows = sum(part.n for part in group)
        with self._changed:
            self._waiting -= rows
        self.groups += 1
        self.failed_rows += sum(group[number].n for number in faults)
        self._rate += 0.1 * (rows / max(seconds, 1e-6) - self._rate)
        for number, part in enumerate(group):
            if part.done is not None:
                try:
                    part.done(faults.get(number))
                except Exception:
                    _logger.exception("recorder: a done callback raised")
