"""Which entities have still to be loosened: a bit each, so that a change of the world costs nothing until a touch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nearline._errors import StateError
from nearline.glmix._state import Block

Ints = NDArray[np.int64]

PAGE = 8192
"""Entities per page; a page is 1 kB."""


class Pending:
    """Entities to be loosened when they are next touched, by effect, in pages of 8,192.

    Keys of pages are the number of the effect (one byte) and of the page (eight bytes), big-endian.

    Examples
    --------
    >>> from nearline import GLMix, Random, Schema
    >>> model = GLMix(Schema(label="y"), random=[Random("user")])
    >>> _ = model.partial_fit({"user": ["ann", "bob"], "y": [1, 0]})
    >>> pending = Pending(len(model.blocks))
    >>> pending.mark(model.blocks)
    >>> pending.take(1, np.array([0, 7])).tolist(), pending.take(1, np.array([0])).tolist(), pending.count
    ([0], [], 2)
    """

    def __init__(self, effects: int) -> None:
        self._bits = [np.zeros(0, np.bool_) for _ in range(effects)]
        self._dirty: set[tuple[int, int]] = set()

    @property
    def count(self) -> int:
        """Entities, over all effects."""
        return sum(int(np.count_nonzero(bits)) for bits in self._bits)

    def mark(self, blocks: Sequence[Block]) -> None:
        """All entities there are now."""
        for effect, block in enumerate(blocks):
            self._bits[effect] = np.ones(block.entities, np.bool_)
            self._dirty |= {(effect, page) for page in range(-(-block.entities // PAGE))}

    def take(self, effect: int, codes: Ints) -> Ints:
        """Those of some entities that are marked; they no longer are."""
        bits = self._bits[effect]
        codes = codes[codes < len(bits)]
        found = codes[bits[codes]]
        if len(found):
            bits[found] = False
            self._dirty |= {(effect, page) for page in np.unique(found // PAGE).tolist()}
        return found

    def changes(self) -> dict[bytes, bytes | None]:
        """Pages to put, by key, since `committed`; None deletes one on which nothing is marked any more."""
        return {_key(effect, page): self._page(effect, page) for effect, page in sorted(self._dirty)}

    def committed(self) -> None:
        """The last `changes` are durable."""
        self._dirty.clear()

    def _page(self, effect: int, page: int) -> bytes | None:
        bits = self._bits[effect][page * PAGE : (page + 1) * PAGE]
        return np.packbits(bits, bitorder="little").tobytes() if bits.any() else None

    @classmethod
    def load(cls, effects: int, pages: Mapping[bytes, bytes] | Iterable[tuple[bytes, bytes]]) -> Pending:
        """What the pages of the last commit say. Raises `StateError` for a page that is none."""
        pending = cls(effects)
        for key, data in dict(pages).items():
            effect, page = key[0], int.from_bytes(key[1:])
            if len(key) != 9 or effect >= effects or len(data) > PAGE // 8:
                raise StateError(f"page {key.hex()} of entities to be loosened is damaged; restore the state directory")
            bits, marked = pending._bits[effect], np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
            end = page * PAGE + len(marked)
            if end > len(bits):
                bits = pending._bits[effect] = np.concatenate([bits, np.zeros(end - len(bits), np.bool_)])
            bits[page * PAGE : end] = marked
        return pending


def _key(effect: int, page: int) -> bytes:
    return bytes([effect]) + page.to_bytes(8)
