"""How late is it? The newest event that was seen, and the watermark that follows from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline.join import Policy

Floats = NDArray[np.float64]


@dataclass
class Arrivals:
    """The newest event time seen, and when it was received; both in seconds, −∞ before the first. `beside` is the
    event time of the last prediction that was written, 0 before the first.

    No event counts as newer than its arrival: one clock that is far ahead must not close everybody's windows.

    Examples
    --------
    >>> seen = Arrivals()
    >>> rows = pa.table({"time": [100.0, 999.0], "received": [101.0, 102.0]})
    >>> seen.watermark(Policy(window=60.0, lateness=10.0), rows, rows.slice(0, 0), now=105.0, more=False)
    95.0
    """

    newest: float = -np.inf
    heard: float = -np.inf
    beside: float = 0.0

    def times(self, predictions: pa.Table) -> Floats:
        """Event times of new predictions (n). A row that was never written has none: it takes that of the last one
        before it that was, however the log is cut into readings, and is refused when it comes up.

        >>> rows = [pa.table({"time": pa.array(times, pa.float64())}) for times in ([100.0, None], [None, 90.0])]
        >>> seen = Arrivals()
        >>> [seen.times(part).tolist() for part in rows]
        [[100.0, 100.0], [100.0, 90.0]]
        """
        times = np.concatenate([[self.beside], plain(predictions, "time")])
        written = np.maximum.accumulate(np.where(np.isfinite(times), np.arange(len(times)), 0))
        self.beside = float(times[written[-1]])
        return times[written[1:]]

    def watermark(self, policy: Policy, predictions: pa.Table, outcomes: pa.Table, now: float, more: bool) -> float:
        """The newest event seen, moved on by the clock while nothing comes, less the allowed lateness.

        While `more` outcomes wait than were read, time stands where the last of them arrived: they are not late.
        """
        for table in (predictions, outcomes):
            received = np.nan_to_num(plain(table, "received"), nan=now)
            times = np.minimum(plain(table, "time"), received)
            times[~np.isfinite(times)] = -np.inf
            newest = times.max(initial=-np.inf)
            if newest > self.newest:
                self.newest, self.heard = float(newest), float(received[times.argmax()])
        idle = max(0.0, now - self.heard) if np.isfinite(self.heard) else 0.0
        latest = self.newest + idle
        if more:
            latest = min(latest, float(np.nan_to_num(plain(outcomes, "received"), nan=-np.inf).max(initial=-np.inf)))
        return policy.watermark(latest)


def plain(table: pa.Table, name: str) -> Floats:
    """A column as numbers (n), NaN where it is null."""
    found: Floats = table.column(name).cast(pa.float64()).fill_null(np.nan).to_numpy().copy()
    return found
