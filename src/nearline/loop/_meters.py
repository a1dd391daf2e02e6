"""What the loop measures of itself: how long outcomes waited, what was done with them, who is busiest."""

from __future__ import annotations

from collections import Counter, deque
from threading import Lock

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SPAN = 60.0
"""Seconds over which freshness is summarised."""


class Freshness:
    """How long acknowledged outcomes waited until predictions used them, over the last minute.

    Examples
    --------
    >>> freshness = Freshness()
    >>> freshness.saw(100.0, np.array([99.9, 99.8]))
    >>> freshness.summary(100.0)["p50_ms"]
    150.0
    """

    def __init__(self, span: float = SPAN) -> None:
        self.span = span
        self.last_received: float | None = None
        self._waits: deque[tuple[float, Floats]] = deque()

    def saw(self, now: float, received: Floats) -> None:
        """Outcomes received at these times (n, seconds) are used by predictions from `now` on."""
        received = received[~np.isnan(received)]
        if len(received):
            self._waits.append((now, now - received))
            self.last_received = max(float(received.max()), self.last_received or -np.inf)
        self._forget(now)

    def _forget(self, now: float) -> None:
        while self._waits and self._waits[0][0] < now - self.span:
            self._waits.popleft()

    def summary(self, now: float) -> dict[str, float | None]:
        """Median and 99th percentile of the waits in milliseconds, None while nothing was learned."""
        waits = [part for time, part in list(self._waits) if time >= now - self.span]
        if not waits:
            return {"p50_ms": None, "p99_ms": None}
        p50, p99 = np.percentile(np.concatenate(waits), [50, 99]) * 1e3
        return {"p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3)}


class Busiest:
    """Events per entity, counted lately: counts halve once a minute, the least counted are forgotten.

    May be read from another thread.
    """

    def __init__(self, most: int = 2_000) -> None:
        self.most = most
        self._counts: Counter[tuple[str, int]] = Counter()
        self._aged: float | None = None
        self._turn = Lock()

    def saw(self, now: float, effect: str, codes: NDArray[np.int32]) -> None:
        """One event for each of these entities (n codes of one effect)."""
        found, times = np.unique(codes[codes >= 0], return_counts=True)
        with self._turn:
            for code, count in zip(found.tolist(), times.tolist()):
                self._counts[effect, code] += count
            self._aged = now if self._aged is None else self._aged
            if now - self._aged > SPAN or len(self._counts) > 4 * self.most:
                self._aged = now
                self._counts = Counter({name: n // 2 for name, n in self._counts.most_common(self.most) if n > 1})

    def top(self, n: int) -> list[tuple[str, int, int]]:
        """(effect, entity code, events) of the n busiest."""
        with self._turn:
            return [(effect, code, count) for (effect, code), count in self._counts.most_common(n)]

    def clear(self) -> None:
        """Start again: entity codes belong to one line of models."""
        with self._turn:
            self._counts.clear()
