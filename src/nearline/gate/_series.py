"""A time series of bounded length: sums in buckets of time that widen as the series grows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Series:
    """Sums of `width` numbers per bucket; when more than `points` buckets are there, each two become one.

    >>> series = Series(width=1, points=4, resolution=1.0)
    >>> for second in range(6):
    ...     series.add(float(second), [10.0])
    >>> [(time, sums.tolist()) for time, sums in series.buckets()]
    [(0.0, [20.0]), (2.0, [20.0]), (4.0, [20.0])]
    """

    def __init__(self, width: int, points: int, resolution: float) -> None:
        self._width, self._points, self._resolution = width, points, resolution
        self._times: list[float] = []
        self._sums: list[Floats] = []

    def add(self, time: float, sums: Any) -> None:
        """Add to the bucket of `time`; a time that falls back counts for the last bucket."""
        values = np.asarray(sums, np.float64)
        if self._times and time < self._times[-1] + self._resolution:
            self._sums[-1] = self._sums[-1] + values
            return
        self._times.append(time)
        self._sums.append(values)
        if len(self._times) > self._points:
            self._coarsen()

    def buckets(self) -> list[tuple[float, Floats]]:
        """Start and sums of every bucket, in order of time."""
        return list(zip(self._times, self._sums))

    def _coarsen(self) -> None:
        self._resolution *= 2
        times, sums, self._times, self._sums = self._times, self._sums, [], []
        for time, values in zip(times, sums):
            if self._times and time < self._times[-1] + self._resolution:
                self._sums[-1] = self._sums[-1] + values
            else:
                self._times.append(time)
                self._sums.append(values)
        # buckets far apart in time do not merge by time: then by order
        if len(self._times) > self._points:
            self._sums = [sum(self._sums[k : k + 2], np.zeros(self._width)) for k in range(0, len(self._sums), 2)]
            self._times = self._times[::2]

    def state(self) -> dict[str, Any]:
        """All it remembers, for JSON."""
        return {"resolution": self._resolution, "times": self._times, "sums": [row.tolist() for row in self._sums]}

    @classmethod
    def load(cls, width: int, points: int, state: Mapping[str, Any]) -> Self:
        """The series that gave this state."""
        series = cls(width, points, state["resolution"])
        series._times = list(state["times"])
        series._sums = [np.array(row) for row in state["sums"]]
        return series
