"""The stream of events: who saw what when, whether it was clicked, and when that became known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from nearline._errors import ConfigError, DataError
from nearline.simulate._config import DAY, START, Marketplace
from nearline.simulate._population import Floats, Ints, Population, populate
from nearline.simulate._truth import Truth, generator, pairs, path


class _Events(NamedTuple):
    time: Floats
    member: Ints
    ad: Ints
    probability: Floats
    clicked: NDArray[np.int8]
    outcome_time: Floats


class Market:
    """A marketplace that runs: the next events, the truth at any time, the features of any pair.

    The events depend on the configuration only, never on how many are asked for at once; looking at the truth does not
    disturb them.

    >>> market = Market(Marketplace(events=1000, members=50, ads=20, campaigns=5))
    >>> first, rest = market.next_events(10), market.next_events(5000)
    >>> first.num_rows, rest.num_rows, market.served
    (10, 990, 1000)
    >>> now = market.at(first["timestamp"][0].as_py())
    >>> bool(now.probability([3], now.live[:1])[0] < 1)
    True
    """

    def __init__(self, config: Marketplace) -> None:
        self.config = config
        self.served = 0
        self._edges = _grid(config)
        self._population = populate(config, self._edges, generator(config, 2))
        self._ahead = _simulate(config, self._population, self._edges)
        self._waiting: list[_Events] = []
        self._looked: tuple[Iterator[Truth], Truth] | None = None

    @property
    def members(self) -> pa.Table:
        """Members with their features; row i is member i."""
        return self._population.members

    @property
    def ads(self) -> pa.Table:
        """Ads with their features; row i is ad i. Ids grow in order of birth."""
        return self._population.ads

    def next_events(self, n: int) -> pa.Table:
        """The next n events in order of time, fewer (then none) when the configured events run out.

        `outcome_time` is null for an outcome that never arrives; `clicked` is then what it would have been.
        Raises `ConfigError` for n < 0.
        """
        if n < 0:
            raise ConfigError(f"next_events(n) needs n >= 0; got {n}")
        events = self._take(min(n, self.config.events - self.served))
        first, self.served = self.served, self.served + len(events.time)
        return _table(events, first, self._population)

    def at(self, time: float) -> Truth:
        """The true coefficients at a time (seconds since the epoch); `DataError` outside the simulated days.

        Times that grow are cheap; going back replays the path from day 0.
        """
        if not START <= time < START + self._edges[-1]:
            raise DataError(f"time {time} is outside the simulated days", fix="see Marketplace(days=...)")
        if self._looked is None or time < self._looked[1].start:
            ahead = path(self.config, self._population, self._edges)
            self._looked = ahead, next(ahead)
        ahead, truth = self._looked
        while truth.end <= time:
            truth = next(ahead)
        self._looked = ahead, truth
        return truth

    def features(self, member_id: ArrayLike, ad_id: ArrayLike) -> pa.Table:
        """The feature columns of pairs (n) of member and ad, as in the event tables."""
        return pa.table(_features(self._population, *pairs(self._population, member_id, ad_id)))

    def _take(self, n: int) -> _Events:
        have = sum(len(part.time) for part in self._waiting)
        while have < n:
            self._waiting.append(next(self._ahead))
            have += len(self._waiting[-1].time)
        held = self._waiting[0] if len(self._waiting) == 1 else _joined(self._waiting)
        self._waiting = [_cut(held, slice(n, None))]
        return _cut(held, slice(n))


def stream(config: Marketplace) -> pa.Table:
    """All events of a marketplace in one table, in order of time.

    Columns: event_id, timestamp, member_id, ad_id, campaign_id, country, device, age_group, interests, category,
    advertiser, price, formats, clicked, outcome_time, true_probability. Times are seconds since the epoch.

    >>> stream(Marketplace(events=500, members=50, ads=20)).column_names[:4]
    ['event_id', 'timestamp', 'member_id', 'ad_id']
    """
    return Market(config).next_events(config.events)


def batches(config: Marketplace, size: int) -> Iterator[pa.Table]:
    """The rows of `stream` in tables of `size` rows (the last may be shorter).

    >>> [part.num_rows for part in batches(Marketplace(events=500, members=50, ads=20), 200)]
    [200, 200, 100]
    """
    if size < 1:
        raise ConfigError(f"batches(size=...) must be at least 1; got {size}")
    market = Market(config)
    while market.served < config.events:
        yield market.next_events(size)


_NOTHING = _Events(
    np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0, np.int8), np.empty(0)
)


def _joined(parts: list[_Events]) -> _Events:
    return _Events._make(np.concatenate(columns) for columns in zip(*parts)) if parts else _NOTHING


def _cut(events: _Events, rows: slice) -> _Events:
    return _Events._make(column[rows] for column in events)


def _grid(config: Marketplace) -> Floats:
    """Times (seconds since day 0) at which something happens: every step, and at each shock and wave."""
    span = config.days * DAY
    extra = [day * DAY for day, _ in config.shocks + config.waves if day < config.days]
    return np.unique(np.r_[np.arange(0.0, span, config.step), extra, span])


def _simulate(config: Marketplace, who: Population, edges: Floats) -> Iterator[_Events]:
    share = np.diff(edges) / edges[-1]
    counts = generator(config, 3).multinomial(config.events, share)
    activity = np.cumsum(who.activity)
    for k, truth in enumerate(path(config, who, edges)):
        yield _interval(config, truth, activity, int(counts[k]), generator(config, 4, k))


def _interval(config: Marketplace, truth: Truth, activity: Floats, n: int, rng: np.random.Generator) -> _Events:
    time = truth.start + np.sort(rng.random(n)) * (truth.end - truth.start)
    member = _choose(activity, n, rng)
    ad = truth.live[_choose(np.cumsum(truth.population.popularity[truth.live]), n, rng)]
    p = truth.probability(member, ad)
    clicked = (rng.random(n) < p).astype(np.int8)
    arrival = time + rng.gamma(config.delay.shape, config.delay.mean / config.delay.shape, n)
    arrival[rng.random(n) < config.delay.never] = np.nan
    return _Events(time, member, ad, p, clicked, arrival)


def _choose(cumulative: Floats, n: int, rng: np.random.Generator) -> Ints:
    drawn: Ints = np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right")
    return np.minimum(drawn, len(cumulative) - 1)


def _table(events: _Events, first: int, who: Population) -> pa.Table:
    n = len(events.time)
    columns = {"event_id": np.arange(first, first + n, dtype=np.int64), "timestamp": events.time}
    outcome = {
        "clicked": events.clicked,
        "outcome_time": pa.array(events.outcome_time, from_pandas=True),
        "true_probability": events.probability,
    }
    return pa.table({**columns, **_features(who, events.member, events.ad), **outcome})


def _features(who: Population, member: Ints, ad: Ints) -> dict[str, pa.ChunkedArray]:
    seen, shown = who.members.take(pa.array(member)), who.ads.take(pa.array(ad))
    ids = {"member_id": seen["member_id"], "ad_id": shown["ad_id"], "campaign_id": shown["campaign_id"]}
    return ids | {name: part[name] for part in (seen, shown) for name in part.column_names if name not in ids}
