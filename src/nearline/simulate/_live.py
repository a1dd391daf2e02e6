"""A marketplace that runs by the clock on the wall: when each request is sent, and when its outcomes become known."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline._errors import ConfigError
from nearline.simulate._config import DAY, START, Delay, Marketplace
from nearline.simulate._market import Market

Floats = NDArray[np.float64]
_CHUNK = 4096
_OUTCOME = ("event_id", "timestamp", "clicked", "outcome_time", "true_probability")


@dataclass(frozen=True)
class Request:
    """Rows (n) that are predicted together, and what will become of them; times are seconds since the start.

    Attributes
    ----------
    at
        When the request is sent: the moment of its last row; the others happened up to batch / rate seconds before.
    rows
        Keys and features, as the service is asked.
    probability
        True click probability of each row: no prediction is better.
    label
        1.0 for a click, 0.0 for none.
    outcome_at
        When the outcome of each row is known, at or after `at`; NaN for one that never comes.
    """

    at: float
    rows: pa.Table
    probability: Floats
    label: Floats
    outcome_at: Floats


@dataclass(frozen=True)
class Traffic:
    """Requests and outcomes of a marketplace, its days pressed into seconds; the same values give the same traffic.

    The last `1 − history` of the marketplace's days pass in `duration` seconds: coefficients drift, ads come and go,
    and a second of the wall clock is `warp` simulated ones. The days before are the history that a first model is
    fitted on. There is no clock in here: times are seconds since the start, which whoever sends the requests decides.

    Parameters
    ----------
    market
        Members, ads, drift, days. Its `events`, `seed`, `delay`, `waves`, and `shocks` after the start give way to what
        is said here.
    duration
        Seconds that the traffic lasts.
    rate
        Rows per second, on average; arrivals are random.
    batch
        Rows per request.
    delay
        How long outcomes take, in seconds of the wall clock.
    history
        Share of the days that lies before the start, 0 ≤ history < 1.
    shock_at, shock
        Second at which ad and campaign coefficients β become √(1 − shock²) β + shock · fresh noise; None for never.
    cold_start_at, wave
        Second at which a share `wave` of all ads yet to come appears at once; None for never.

    Examples
    --------
    >>> traffic = Traffic(Marketplace(members=50, ads=20, campaigns=5), duration=10, rate=200, batch=8)
    >>> requests = list(traffic)
    >>> sum(len(request.label) for request in requests) == traffic.size, requests[0].rows.num_rows
    (True, 8)
    >>> requests[0].rows.column_names[:3]
    ['member_id', 'ad_id', 'campaign_id']
    >>> traffic.past(start=0.0)["timestamp"][-1].as_py() < 0
    True
    """

    market: Marketplace = field(default_factory=Marketplace)
    duration: float = 600.0
    rate: float = 200.0
    batch: int = 20
    delay: Delay = field(default_factory=lambda: Delay(mean=2.0))
    history: float = 0.3
    shock_at: float | None = None
    shock: float = 0.8
    cold_start_at: float | None = None
    wave: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("duration", "rate", "batch"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"Traffic({name}=...) must be positive; got {getattr(self, name)}")
        if not 0 <= self.history < 1:
            raise ConfigError(f"Traffic(history=...) must be at least 0 and below 1; got {self.history}")
        for name in ("shock_at", "cold_start_at"):
            at = getattr(self, name)
            if at is not None and not 0 <= at < self.duration:
                raise ConfigError(f"Traffic({name}=...) must lie in [0, duration={self.duration}); got {at}")

    @property
    def warp(self) -> float:
        """Simulated seconds per second: days · 86,400 · (1 − history) / duration."""
        return self.market.days * DAY * (1 - self.history) / self.duration

    @property
    def size(self) -> int:
        """Rows after the start."""
        return self.marketplace.events - self._before

    @property
    def marketplace(self) -> Marketplace:
        """The marketplace that is simulated: with the events, delay, shock and wave of this traffic."""
        return replace(
            self.market,
            events=round(self.rate * self.duration / (1 - self.history)),
            delay=replace(self.delay, mean=self.delay.mean * self.warp),
            shocks=(
                *self._shocks_before,
                *(() if self.shock_at is None else ((self._day(self.shock_at), self.shock),)),
            ),
            waves=() if self.cold_start_at is None else ((self._day(self.cold_start_at), self.wave),),
            seed=self.seed,
        )

    def past(self, start: float) -> pa.Table:
        """Events of the days before `start` (seconds since the epoch), in order of time, as `stream` has them.

        `timestamp` and `outcome_time` are on the clock that `start` is on: the last event lies just before it.
        """
        table = Market(self.marketplace).next_events(self._before)
        for name in ("timestamp", "outcome_time"):
            moved = pa.array(start + self._seconds(_floats(table, name)), from_pandas=True)
            table = table.set_column(table.column_names.index(name), name, moved)
        return table

    def __iter__(self) -> Iterator[Request]:
        """The requests in order of `at`; only the last may have fewer than `batch` rows."""
        market = Market(self.marketplace)
        market.next_events(self._before)
        while (table := market.next_events(self.batch * max(1, _CHUNK // self.batch))).num_rows:
            yield from self._requests(table)

    def _requests(self, table: pa.Table) -> Iterator[Request]:
        rows = table.drop_columns(list(_OUTCOME))
        sent, known = (self._seconds(_floats(table, name)) for name in ("timestamp", "outcome_time"))
        p, label = _floats(table, "true_probability"), _floats(table, "clicked")
        for k in range(0, len(p), self.batch):
            cut = slice(k, k + self.batch)
            at = float(sent[cut][-1])
            waited = at + (known[cut] - sent[cut])
            yield Request(at, rows.slice(k, self.batch), p[cut], label[cut], waited)

    @cached_property
    def _before(self) -> int:
        """Events before the start."""
        market, count = Market(self.marketplace), 0
        while (times := _floats(market.next_events(_CHUNK), "timestamp")).size and self._seconds(times[:1])[0] < 0:
            count += int(np.sum(self._seconds(times) < 0))
        return count

    @property
    def _shocks_before(self) -> tuple[tuple[float, float], ...]:
        """Shocks of the marketplace that lie in its history."""
        return tuple(shock for shock in self.market.shocks if shock[0] < self.market.days * self.history)

    def _day(self, second: float) -> float:
        return self.market.days * self.history + second * self.warp / DAY

    def _seconds(self, time: Floats) -> Floats:
        """Seconds since the start of simulated times (since the epoch)."""
        seconds: Floats = (time - START - self.market.days * self.history * DAY) / self.warp
        return seconds


def _floats(table: pa.Table, name: str) -> Floats:
    values: Floats = table[name].to_numpy().astype(np.float64)
    return values
