"""Where each prediction was learned: the position of its example, so that a correction finds what to undo."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from nearline._errors import StateError
from nearline.join._pages import ROWS

Ints = NDArray[np.int64]

NEVER = -1


class Recall:
    """Example position by prediction position, in the pages of the join; −1 where nothing was learned.

    Attributes
    ----------
    dirty, dropped
        Numbers of the pages that a store has to put and to delete since `committed`.

    Examples
    --------
    >>> recall = Recall()
    >>> recall.set(np.array([3, 2_000]), np.array([7, 8]))
    >>> recall.get(np.array([3, 4, 2_000, 9_999])).tolist()
    [7, -1, 8, -1]
    """

    def __init__(self) -> None:
        self.dirty: set[int] = set()
        self.dropped: set[int] = set()
        self._pages: dict[int, Ints] = {}

    @property
    def first(self) -> int:
        """The oldest example that is remembered; a position beyond all examples where there is none."""
        held = (page[page >= 0] for page in self._pages.values())
        return min((int(page.min()) for page in held if len(page)), default=np.iinfo(np.int64).max)

    def set(self, predictions: Ints, examples: Ints) -> None:
        """Remember where predictions (n) were learned; `NEVER` forgets them."""
        for page, here in _by_page(predictions):
            held = self._pages.get(page)
            if held is None:
                held = self._pages[page] = np.full(ROWS, NEVER, np.int64)
            held[predictions[here] % ROWS] = examples[here]
            self.dirty.add(page)
            self.dropped.discard(page)

    def get(self, predictions: Ints) -> Ints:
        """Example positions (n)."""
        out = np.full(len(predictions), NEVER, np.int64)
        for page, here in _by_page(predictions):
            held = self._pages.get(page)
            if held is not None:
                out[here] = held[predictions[here] % ROWS]
        return out

    def held(self) -> tuple[Ints, Ints]:
        """Predictions that were learned, ascending, and the positions of their examples."""
        pages = [(page * ROWS + np.flatnonzero(at >= 0), at[at >= 0]) for page, at in sorted(self._pages.items())]
        none = np.zeros(0, np.int64)
        return np.concatenate([none, *(where for where, _ in pages)]), np.concatenate([none, *(at for _, at in pages)])

    def drop(self, pages: Iterable[int]) -> None:
        """Forget pages whose predictions can no longer be corrected."""
        for page in pages:
            if self._pages.pop(page, None) is not None:
                self.dirty.discard(page)
                self.dropped.add(page)

    def move(self, beyond: int, to: int, first: int) -> None:
        """Positions from `beyond` on become those from `to` on; pages that end before prediction `first` are dropped.

        >>> recall = Recall()
        >>> recall.set(np.array([3, 4]), np.array([7, 1_000_002]))
        >>> recall.move(1_000_000, 50, 0)
        >>> recall.get(np.array([3, 4])).tolist()
        [7, 52]
        """
        for held in self._pages.values():
            held[held >= beyond] += to - beyond
        self.drop([page for page in self._pages if (page + 1) * ROWS <= first])

    def changes(self) -> tuple[dict[int, bytes], list[int]]:
        """Pages to put (little-endian int64, `ROWS` each) and page numbers to delete since `committed`."""
        return {page: self._pages[page].astype("<i8").tobytes() for page in sorted(self.dirty)}, sorted(self.dropped)

    def committed(self) -> None:
        """The last `changes` are durable."""
        self.dirty.clear()
        self.dropped.clear()

    @classmethod
    def load(cls, pages: Iterable[tuple[int, bytes | memoryview]]) -> Recall:
        """The pages of the last commit. Raises `StateError` for a page of another size."""
        recall = cls()
        for page, data in pages:
            if len(data) != ROWS * 8:
                raise StateError(
                    f"recall page {page} has {len(data)} bytes, not {ROWS * 8}; restore the state directory"
                )
            recall._pages[page] = np.frombuffer(data, "<i8").astype(np.int64)
        return recall


def _by_page(predictions: Ints) -> Iterator[tuple[int, Ints]]:
    """Page numbers, and the places of the predictions (n) on each, in their order."""
    numbers = predictions // ROWS
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=np.iinfo(np.int64).min))
    edges = [*starts.tolist(), len(order)]
    for page, begin, end in zip(ordered[starts].tolist(), edges, edges[1:]):
        yield page, order[begin:end]
