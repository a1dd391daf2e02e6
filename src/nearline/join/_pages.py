"""The join's memory: pages of 128 consecutive predictions, as arrays, and as bytes for a store.

A page is four arrays: event time, label in force (NaN: none), mark (event time of the outcome that set it, −∞ when
none did) and status. Pages lie in slots of large arrays, so that any set of predictions is read and written by one
gather or scatter, whichever pages they are on; a slot is reused when its page is dropped.

Bytes of a page, little-endian: b"NJP", version (1 byte), 4 zero bytes, page number int64, then time, label and mark
(float64, 128 each) and status (uint8, 128): 3,216 bytes, which fit a page of the store. Outcomes come in any order, so
a tick writes about as many pages as it has outcomes, and small ones are soon written.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from nearline._errors import StateError
from nearline.join._records import Codes, Floats, Ints, Status

T = TypeVar("T", bound=np.generic)

SHIFT = 7
ROWS = 1 << SHIFT
VERSION = 2
_HEADER = struct.Struct("<3sB4xq")
_FLOATS = ("time", "label", "mark")
PAGE_BYTES = _HEADER.size + ROWS * (8 * len(_FLOATS) + 1)
_PAGE = np.dtype(
    [("magic", "S3"), ("version", "u1"), ("_", "V4"), ("page", "<i8")]
    + [(name, "<f8", (ROWS,)) for name in _FLOATS]
    + [("status", "u1", (ROWS,))]
)


class Pages:
    """Resident pages; `dirty` and `dropped` hold the page numbers that a store has to put and to delete."""

    def __init__(self) -> None:
        self.dirty: set[int] = set()
        self.dropped: set[int] = set()
        # resident page numbers, ascending, and the slot of each
        self._numbers: Ints = np.empty(0, np.int64)
        self._slots: Ints = np.empty(0, np.int64)
        self._free: list[int] = []
        self._time, self._label, self._mark = (np.empty((0, ROWS)) for _ in _FLOATS)
        self._status: Codes = np.empty((0, ROWS), np.uint8)
        # per slot: its page number, no pending prediction is older than `oldest`, no prediction is newer than `newest`
        self._owner: Ints = np.empty(0, np.int64)
        self._oldest: Floats = np.empty(0)
        self._newest: Floats = np.empty(0)

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def first(self) -> int | None:
        """Position at which the oldest page begins; None when there is none."""
        return int(self._numbers[0]) * ROWS if len(self._numbers) else None

    @property
    def time(self) -> Floats:
        """Event times of predictions, by row (see `find`)."""
        return self._time.reshape(-1)

    @property
    def label(self) -> Floats:
        """Labels in force, by row; NaN where nothing is learned."""
        return self._label.reshape(-1)

    @property
    def mark(self) -> Floats:
        """Event times of the outcomes in force, by row; −∞ where there is none."""
        return self._mark.reshape(-1)

    @property
    def status(self) -> Codes:
        """`Status` codes, by row."""
        return self._status.reshape(-1)

    def find(self, position: Ints) -> Ints:
        """Rows of predictions (n), −1 where the page is not here."""
        page, offset = position >> SHIFT, position & (ROWS - 1)
        if not len(self._numbers):
            return np.full(len(position), -1)
        near = np.minimum(np.searchsorted(self._numbers, page), len(self._numbers) - 1)
        return np.where(self._numbers[near] == page, self._slots[near] * ROWS + offset, -1)

    def append(self, first: int, time: Floats) -> None:
        """Pending predictions at positions first, first + 1, ... with these event times (n)."""
        position = np.arange(first, first + len(time), dtype=np.int64)
        touched = np.unique(position >> SHIFT)
        self._admit(touched[self.find(touched * ROWS) < 0])
        row = self.find(position)
        self.time[row], self.label[row], self.mark[row], self.status[row] = time, np.nan, -np.inf, Status.PENDING
        np.minimum.at(self._oldest, row >> SHIFT, time)
        np.maximum.at(self._newest, row >> SHIFT, time)
        self.dirty.update(touched.tolist())

    def write(self, row: Ints, label: Floats | float, mark: Floats | float, status: Codes | int) -> None:
        """What is now in force at these rows (distinct)."""
        self.label[row], self.mark[row], self.status[row] = label, mark, status
        self.dirty.update(self._owner[np.unique(row >> SHIFT)].tolist())

    def pending_before(self, time: float) -> tuple[Ints, Ints]:
        """Positions and rows of pending predictions older than `time`, by position; scans only pages that can."""
        slots = np.flatnonzero(self._oldest < time)
        slots = slots[np.argsort(self._owner[slots])]
        waiting = self._status[slots] == Status.PENDING
        which, offset = np.nonzero(waiting & (self._time[slots] < time))
        waiting[which, offset] = False
        self._oldest[slots] = np.where(waiting, self._time[slots], np.inf).min(axis=1, initial=np.inf)
        return self._owner[slots[which]] * ROWS + offset, slots[which] * ROWS + offset

    def drop_before(self, time: float, end: int) -> None:
        """Let go of full pages below position `end` on which nothing is pending and every prediction is older."""
        settled = (self._newest < time) & (self._oldest == np.inf) & (self._owner >= 0)
        gone = np.flatnonzero(settled & ((self._owner + 1) * ROWS <= end))
        if not len(gone):
            return
        numbers = self._owner[gone].tolist()
        keep = ~np.isin(self._numbers, numbers)
        self._numbers, self._slots = self._numbers[keep], self._slots[keep]
        self._owner[gone], self._newest[gone] = -1, -np.inf
        self._free += gone.tolist()
        self.dirty.difference_update(numbers)
        self.dropped.update(numbers)

    def count(self, status: Status) -> int:
        """How many predictions stand at `status`; reads every page."""
        return int(np.count_nonzero(self._status[self._slots] == status))

    def to_bytes(self, pages: list[int]) -> list[bytes]:
        """Pages as PAGE_BYTES bytes each; layout in the module's docstring."""
        numbers = np.array(pages, np.int64)
        slots = self._slots[np.searchsorted(self._numbers, numbers)]
        out = np.zeros(len(pages), _PAGE)
        out["magic"], out["version"], out["page"], out["status"] = b"NJP", VERSION, numbers, self._status[slots]
        for name in _FLOATS:
            out[name] = getattr(self, f"_{name}")[slots]
        data = out.tobytes()
        return [data[at : at + PAGE_BYTES] for at in range(0, len(data), PAGE_BYTES)]

    def put(self, pages: Iterable[tuple[int, bytes | memoryview]]) -> None:
        """Take new pages from their bytes; they count as clean. Raises `StateError` for bytes that are not a page's."""
        given = [(page, bytes(data)) for page, data in pages]
        for page, data in given:
            _check(page, data)
        numbers = np.array([page for page, _ in given], np.int64)
        held = np.frombuffer(b"".join(data for _, data in given), _PAGE)
        self._admit(numbers)
        slots = self._slots[np.searchsorted(self._numbers, numbers)]
        self._status[slots] = held["status"]
        for name in _FLOATS:
            getattr(self, f"_{name}")[slots] = held[name]
        time, known, waiting = held["time"], held["status"] != Status.ABSENT, held["status"] == Status.PENDING
        self._oldest[slots] = np.where(waiting, time, np.inf).min(axis=1, initial=np.inf)
        self._newest[slots] = np.where(known, time, -np.inf).max(axis=1, initial=-np.inf)

    def _admit(self, numbers: Ints) -> None:
        """Give new pages a slot each, all rows absent."""
        self._reserve(len(numbers))
        slots = np.array([self._free.pop() for _ in numbers], np.int64)
        self._time[slots], self._label[slots], self._mark[slots] = 0.0, np.nan, -np.inf
        self._status[slots] = Status.ABSENT
        self._owner[slots], self._oldest[slots], self._newest[slots] = numbers, np.inf, -np.inf
        all_numbers, all_slots = np.r_[self._numbers, numbers], np.r_[self._slots, slots]
        order = np.argsort(all_numbers, kind="stable")
        self._numbers, self._slots = all_numbers[order], all_slots[order]

    def _reserve(self, n: int) -> None:
        used = len(self._owner)
        if n <= len(self._free):
            return
        more = max(n - len(self._free), used // 2, 4)
        for name in _FLOATS:
            setattr(self, f"_{name}", _grown(getattr(self, f"_{name}"), more, np.nan))
        self._status = _grown(self._status, more, Status.ABSENT)
        self._owner = _grown(self._owner, more, -1)
        self._oldest, self._newest = _grown(self._oldest, more, np.inf), _grown(self._newest, more, -np.inf)
        self._free += range(used + more - 1, used - 1, -1)


def _check(page: int, data: bytes) -> None:
    if len(data) != PAGE_BYTES:
        raise StateError(f"join page {page} has {len(data)} bytes, not {PAGE_BYTES}; restore the state directory")
    magic, version, number = _HEADER.unpack_from(data)
    if (magic, version, number) != (b"NJP", VERSION, page):
        raise StateError(
            f"join page {page} says {magic!r}, format {version}, page {number}; this nearline reads format {VERSION}"
        )


def _grown(array: NDArray[T], more: int, fill: float) -> NDArray[T]:
    return np.concatenate([array, np.full((more, *array.shape[1:]), fill, array.dtype)])
