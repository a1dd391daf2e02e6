"""MovieLens-1M as a stream of likes: the events, their order and their features, for every rival alike.

Ratings of 3 are dropped, liked = rating of 4 or 5, in time order (equal times keep the order of the file). The
features are those nearline is given: user and movie ids, gender, age bucket, occupation, genres, year. Each becomes a
sparse block ("space"), and a rival may cross any two of them:

| space | one row holds |
| --- | --- |
| `u`, `m` | the id |
| `a` | gender, age bucket, occupation: three ones among 30 columns |
| `b` | genres: ones among 18 columns, and (year − 1980) / 20 |
| `d` | the decade of the year: a one among 9 columns, for rivals that want the year in bins |
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Space:
    """A sparse block of one-hot, multi-hot or numeric columns: CSR over the events, `size` columns."""

    name: str
    indptr: Ints
    indices: Ints
    values: Floats
    size: int

    def head(self, rows: int) -> Space:
        """The first `rows` rows."""
        end = self.indptr[rows]
        return Space(self.name, self.indptr[: rows + 1], self.indices[:end], self.values[:end], self.size)

    def rows(self) -> Iterator[tuple[Ints, Floats]]:
        """Columns and values, row by row."""
        for start, stop in zip(self.indptr[:-1], self.indptr[1:]):
            yield self.indices[start:stop], self.values[start:stop]


@dataclass(frozen=True)
class Events:
    """Columns of n events in time order; `liked` is 0 or 1, `time` in seconds since the epoch."""

    user: Ints
    movie: Ints
    time: Floats
    liked: Floats
    spaces: dict[str, Space]

    def __len__(self) -> int:
        return len(self.liked)

    def head(self, rows: int) -> Events:
        """The first `rows` events."""
        spaces = {name: space.head(rows) for name, space in self.spaces.items()}
        return Events(self.user[:rows], self.movie[:rows], self.time[:rows], self.liked[:rows], spaces)

    def tenth(self) -> Events:
        """The first 10 %: all that any rival may be tuned on."""
        return self.head(len(self) // 10)

    @cached_property
    def digest(self) -> str:
        """A short hash of everything in here, to name cached files by."""
        h = hashlib.blake2b(digest_size=8)
        for column in (self.user, self.movie, self.time, self.liked):
            h.update(column.tobytes())
        for name, space in sorted(self.spaces.items()):
            h.update(name.encode() + space.indptr.tobytes() + space.indices.tobytes() + space.values.tobytes())
        return h.hexdigest()


def load() -> Events:
    """The 739,012 events of MovieLens-1M without the 3s, wherever nearline finds it (`$NEARLINE_DATA`)."""
    from nearline.datasets import movielens_1m

    return from_table(movielens_1m(ratings="no_threes"))


def from_table(table: pa.Table) -> Events:
    """Events of a joined table: user_id, movie_id, gender, age, occupation, genres (list), year, timestamp, liked."""
    column = {name: table[name].combine_chunks() for name in table.column_names}
    user, movie = (column[name].to_numpy(zero_copy_only=False).astype(np.int64) for name in ("user_id", "movie_id"))
    year = column["year"].to_numpy(zero_copy_only=False).astype(np.int64)
    spaces = (
        _onehot("u", user),
        _onehot("m", movie),
        beside("a", [_onehot("", _codes(column[name])) for name in ("gender", "age", "occupation")]),
        beside("b", [_genres(column["genres"]), _dense((year - 1980) / 20)]),
        _onehot("d", np.clip((year - 1920) // 10, 0, 8)),
    )
    return Events(
        user,
        movie,
        pc.cast(column["timestamp"], pa.int64()).to_numpy(zero_copy_only=False).astype(np.float64),
        column["liked"].to_numpy(zero_copy_only=False).astype(np.float64),
        {space.name: space for space in spaces},
    )


def _codes(column: Any) -> Ints:
    return np.unique(column.to_numpy(zero_copy_only=False), return_inverse=True)[1].astype(np.int64)


def _onehot(name: str, codes: Ints) -> Space:
    n = len(codes)
    return Space(name, np.arange(n + 1), codes, np.ones(n), int(codes.max()) + 1)


def _dense(x: Floats) -> Space:
    """One numeric column; a zero is left out, as in any sparse row."""
    present = np.flatnonzero(x)
    indptr = np.concatenate([[0], np.cumsum(x != 0)]).astype(np.int64)
    return Space("", indptr, np.zeros(len(present), np.int64), x[present], 1)


def _genres(column: Any) -> Space:
    words = column.flatten()
    indptr = column.offsets.to_numpy().astype(np.int64)
    codes = _codes(words)
    return Space("", indptr - indptr[0], codes, np.ones(len(codes)), int(codes.max()) + 1)


def beside(name: str, parts: list[Space]) -> Space:
    """Columns of all parts side by side."""
    n = len(parts[0].indptr) - 1
    rows = np.concatenate([np.repeat(np.arange(n), np.diff(part.indptr)) for part in parts])
    base = np.cumsum([0] + [part.size for part in parts])
    columns = np.concatenate([part.indices + start for part, start in zip(parts, base)])
    values = np.concatenate([part.values for part in parts])
    order = np.argsort(rows, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))]).astype(np.int64)
    return Space(name, indptr, columns[order], values[order], int(base[-1]))
