"""What the app counts of itself: requests by route and status, rows, and how long they took."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from time import monotonic
from typing import Any

import numpy as np

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the histogram's buckets, in seconds."""
_SPAN = 10.0
_RECENT = 1 << 15


class Traffic:
    """Counts since the start, and the requests of the last seconds.

    Examples
    --------
    >>> traffic = Traffic()
    >>> traffic.add("/predict", 200, rows=100, seconds=0.002)
    >>> traffic.add("/predict", 422, rows=0, seconds=0.001)
    >>> traffic.rows["/predict"], traffic.summary()["errors"]
    (100, 1)
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.rows: Counter[str] = Counter()
        self.buckets: dict[str, list[int]] = {}
        self.seconds: Counter[str] = Counter()
        self.errors = 0
        self._began = monotonic()
        self._recent: dict[str, deque[tuple[float, int, float]]] = {}

    def add(self, route: str, status: int, rows: int, seconds: float) -> None:
        """Count one request."""
        self.requests[route, status] += 1
        self.rows[route] += rows
        if route not in self.buckets:
            self.buckets[route] = [0] * (len(BOUNDS) + 1)
            self._recent[route] = deque(maxlen=_RECENT)
        self.buckets[route][bisect_left(BOUNDS, seconds)] += 1
        self.seconds[route] += seconds  # type: ignore[assignment]
        now, recent = monotonic(), self._recent[route]
        recent.append((now, rows, seconds))
        while recent[0][0] < now - _SPAN:
            recent.popleft()
        self.errors += status >= 400

    def summary(self) -> dict[str, Any]:
        """Requests and rows per second over the last ten, and quantiles of the time that /predict took."""
        predict, outcome = self._last("/predict"), self._last("/outcome")
        span = min(_SPAN, max(1.0, monotonic() - self._began))
        p50, p99 = np.quantile([s for *_, s in predict], [0.5, 0.99]) * 1000 if predict else (None, None)
        return {
            "predict_rps": len(predict) / span,
            "rows_per_s": sum(rows for _, rows, _ in predict) / span,
            "outcomes_per_s": sum(rows for _, rows, _ in outcome) / span,
            "p50_ms": None if p50 is None else float(p50),
            "p99_ms": None if p99 is None else float(p99),
            "errors": self.errors,
        }

    def _last(self, route: str) -> list[tuple[float, int, float]]:
        since = monotonic() - _SPAN
        return [entry for entry in list(self._recent.get(route, ())) if entry[0] >= since]
