"""Everything a join remembers between two steps, and its form on disk."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np

from nearline._errors import StateError
from nearline.join._pages import Pages
from nearline.join._policy import Policy
from nearline.join._records import Status

_HEAD = struct.Struct("<3sBqqd")
_VERSION = 1


@dataclass(frozen=True)
class Changes:
    """What a store must write to be up to date: the head, pages to put (number: bytes), page numbers to delete."""

    head: bytes
    pages: dict[int, bytes]
    dropped: list[int]


class State:
    """Where every prediction within the correction horizon stands.

    Parameters
    ----------
    policy : Policy
        May differ from the one under which stored pages were written: expiries follow from event times.
    end : int
        Position of the first prediction to come.

    Attributes
    ----------
    end, outcome_end : int
        Positions of the next prediction and the next outcome.
    watermark : float
        The newest watermark seen, seconds; −∞ at first.
    pending : int
        Predictions that wait for an outcome.

    Examples
    --------
    A crash between two steps is a reload of what was committed:

    >>> from nearline.join import Outcomes, Policy, State, step
    >>> state = State(Policy(window=60.0))
    >>> _ = step(state, 0, [0.0, 1.0], Outcomes.of([0], [1], [5.0], [1.0]), watermark=5.0)
    >>> stored = state.changes()
    >>> again = State.load(state.policy, stored.head, stored.pages.items())
    >>> (again.end, again.outcome_end, again.pending)
    (2, 1, 1)
    """

    def __init__(self, policy: Policy, end: int = 0) -> None:
        self.policy = policy
        self.end, self.outcome_end, self.watermark, self.pending = end, 0, -np.inf, 0
        self.pages = Pages()

    @property
    def first(self) -> int:
        """No prediction before this position can be labelled, corrected or retracted any more."""
        oldest = self.pages.first
        return self.end if oldest is None else oldest

    @property
    def dirty(self) -> list[int]:
        """Numbers of the pages that changed since `committed`, ascending."""
        return sorted(self.pages.dirty)

    def changes(self) -> Changes:
        """What changed since `committed`; nothing is marked as written."""
        head = _HEAD.pack(b"NJH", _VERSION, self.end, self.outcome_end, self.watermark)
        dirty = self.dirty
        return Changes(head, dict(zip(dirty, self.pages.to_bytes(dirty))), sorted(self.pages.dropped))

    def committed(self) -> None:
        """The last `changes` are durable."""
        self.pages.dirty.clear()
        self.pages.dropped.clear()

    @classmethod
    def load(cls, policy: Policy, head: bytes | memoryview, pages: Iterable[tuple[int, bytes | memoryview]]) -> Self:
        """The state of the last commit. Raises `StateError` for bytes of another format, naming the page."""
        if len(head) != _HEAD.size:
            raise StateError(f"join head has {len(head)} bytes, not {_HEAD.size}; restore the state directory")
        magic, version, end, outcome_end, watermark = _HEAD.unpack(head)
        if (magic, version) != (b"NJH", _VERSION):
            raise StateError(f"join head says {magic!r}, format {version}; this nearline reads format {_VERSION}")
        state = cls(policy, end)
        state.outcome_end, state.watermark = outcome_end, watermark
        state.pages.put(pages)
        state.pending = state.pages.count(Status.PENDING)
        return state
