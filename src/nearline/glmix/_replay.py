"""Event mode over a design: predict, then learn, with updates after every event or at the end of every interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearline._errors import ConfigError
from nearline.features import Design
from nearline.glmix import _layout, _links, _unseen
from nearline.glmix._state import Block

UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}


@dataclass(frozen=True, slots=True)
class Progress:
    """What a stream looked like to a model that predicted every row before it learned it.

    Attributes
    ----------
    margin, variance
        z and s (n) as predicted; variance is NaN where it was not asked for.
    refused
        Rows (n, bool) whose update was not finite: they changed nothing and belong back in the queue.
    """

    margin: NDArray[np.float64]
    variance: NDArray[np.float64]
    refused: NDArray[np.bool_]


def joined(parts: Sequence[Progress]) -> Progress:
    """The progress of consecutive parts of a stream."""
    if len(parts) == 1:
        return parts[0]
    empty = Progress(np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.bool_))
    fields = [(part.margin, part.variance, part.refused) for part in (parts or [empty])]
    return Progress(*(np.concatenate(columns) for columns in zip(*fields)))


def stops(time: NDArray[np.float64], every: int | str) -> NDArray[np.int64]:
    """Row numbers up to which the model has learned, one per update: after `every` rows, or at each interval's end.

    Parameters
    ----------
    time
        Event times in seconds, in the order of learning.
    every
        A number of rows, or a duration such as ``"1s"``, ``"10min"``, ``"1h"`` or ``"1d"`` on the events' own clock.

    Examples
    --------
    >>> stops(np.array([0.0, 1.0, 2.5, 9.0]), 3).tolist()
    [3, 4]
    >>> stops(np.array([0.0, 1.0, 2.5, 9.0]), "2s").tolist()
    [2, 3, 4]
    """
    n = len(time)
    if isinstance(every, int):
        if every < 1:
            raise ConfigError(f"every={every} must be at least 1 row")
        return np.append(np.arange(every, n, every), n) if n else np.zeros(0, np.int64)
    window = np.floor(time / seconds(every))
    return np.append(np.flatnonzero(np.diff(window) != 0) + 1, n).astype(np.int64) if n else np.zeros(0, np.int64)


def seconds(duration: str) -> float:
    """Length of a duration such as ``"30s"``, ``"10min"``, ``"6h"`` or ``"1d"`` in seconds.

    Examples
    --------
    >>> seconds("10min")
    600.0
    """
    number = duration.rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = duration[len(number) :].strip()
    try:
        length = float(number) * UNITS[unit]
    except (KeyError, ValueError):
        raise ConfigError(f"duration {duration!r} is a number and one of {sorted(UNITS)}, such as '10min'") from None
    if not 0 < length < float("inf"):
        raise ConfigError(f"duration {duration!r} must be positive and finite")
    return length


def replay(
    blocks: Sequence[Block], n_slots: int, design: Design, link: str, ends: NDArray[np.int64], variances: bool = False,
    *, locked: frozenset[str] = frozenset(),
) -> Progress:  # fmt: skip
    """Predict every row and then learn it; the model stands still up to each of `ends`, as a served one does.

    Blocks named in `locked` are scored and stay as they are.
    """
    from nearline.glmix._kernels._event import replay as kernel

    rows, record = _layout.kernel_rows(design, blocks), _layout.kernel_blocks(blocks, n_slots, locked)
    z, s, refused = np.zeros(design.rows), np.full(design.rows, np.nan), np.zeros(design.rows, dtype=np.bool_)
    kernel(_links.by_name(link).code, rows, record, ends, _layout.sizes(rows, record), variances, z, s, refused)
    return Progress(z, s, refused)


def score(
    blocks: Sequence[Block], n_slots: int, design: Design, variances: bool = False, threads: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(z, s) of every row, learning nothing; s is NaN where it was not asked for."""
    from nearline.glmix._kernels._score import score as kernel

    rows, record = _layout.kernel_rows(design, blocks), _layout.kernel_blocks(blocks, n_slots)
    z, s = np.zeros(design.rows), np.full(design.rows, np.nan)
    kernel(rows, record, _layout.sizes(rows, record), threads, variances, z, s)
    _unseen.add(blocks, design, z, s)
    return z, s
