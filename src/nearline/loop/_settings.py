"""What a user decides about the loop: how often it learns, when it keeps a version, when a row counts as recorded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from nearline._errors import ConfigError


def _positive(settings: Any, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(f"{name} is a finite number of seconds > 0; got {value}")


def _at_least_one(settings: Any, *names: str) -> None:
    for name in names:
        if getattr(settings, name) < 1:
            raise ConfigError(f"{name} must be at least 1; got {getattr(settings, name)}")


@dataclass(frozen=True, slots=True)
class Pace:
    """How the learner works; durations in seconds.

    Parameters
    ----------
    tick : float
        Shortest time between two ticks: how long outcomes are collected before they are learned together.
    batch : int
        At most so many outcomes are learned in one tick.
    snapshot : float
        An immutable version is kept after this long, if something was learned since the last one.
    keep : int
        So many of the latest versions stay on disk; the live one and its base always do.
    follow : float
        How often the registry is looked at for a version that was published or rolled back elsewhere.
    lag : int
        A fit that is published learns what came since its cut-off before it is served: so many examples more than came
        in, between two ticks.

    Raises `ConfigError` for a value out of range.

    >>> Pace(tick=0.02).batch
    5000
    """

    tick: float = 0.05
    batch: int = 5_000
    snapshot: float = 600.0
    keep: int = 20
    follow: float = 0.1
    lag: int = 1_000

    def __post_init__(self) -> None:
        _positive(self, "tick", "snapshot", "follow")
        _at_least_one(self, "batch", "keep", "lag")


@dataclass(frozen=True, slots=True)
class Recording:
    """When a row counts as recorded, what goes with it, and how long it is kept.

    Parameters
    ----------
    durable : bool
        True: a response leaves once its predictions are on disk. False: at once, and a crash loses at most the
        predictions of the last `flush` seconds. Outcomes are always on disk before they are acknowledged.
    flush : float
        Seconds between two writes when `durable` is False.
    waiting : int
        At most so many rows wait for the disk; beyond, requests are answered 429.
    segment_rows : int
        Rows per segment of the ledger; a full segment is sealed to Parquet.
    memory_mb : int
        Budget of each of the three logs for recent rows in memory; older ones are read from disk.
    retention : float or None
        Sealed segments older than so many seconds are deleted; None keeps everything.
    sketch : int
        Length K of the gradient sketch of every prediction of a network, K + 2 bytes; 0 records none.

    Raises `ConfigError` for a value out of range.

    >>> Recording(durable=False).flush
    0.1
    """

    durable: bool = True
    flush: float = 0.1
    waiting: int = 200_000
    segment_rows: int = 1_000_000
    memory_mb: int = 64
    retention: float | None = None
    sketch: int = 0

    def __post_init__(self) -> None:
        _positive(self, "flush")
        _at_least_one(self, "waiting", "segment_rows", "memory_mb")
        if self.retention is not None:
            _positive(self, "retention")
