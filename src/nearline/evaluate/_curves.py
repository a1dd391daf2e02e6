"""The numbers behind the report's plots, small enough to draw whatever the number of rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearline.evaluate._facts import Facts, Measure

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# As many windows as a plot can show, each with as many rows as give a metric some meaning.
_WINDOWS, _WINDOW_ROWS = 40, 250
_BINS, _BIN_ROWS = 10, 20
_HISTOGRAM = 30
# An entity's mean gain says little from fewer events, and a point of a curve from fewer rows.
_ENTITY_EVENTS, _POINT_ROWS, _POINT_SHARE = 5, 30, 0.002


def window_edges(rows: int) -> Ints:
    """Row numbers that cut the stream into windows of equal numbers of rows."""
    count = int(np.clip(rows // _WINDOW_ROWS, min(rows, 4), _WINDOWS))
    return np.linspace(0, rows, count + 1).astype(np.int64)


def over_time(facts: Facts, measure: Measure, edges: Ints, prediction: Floats) -> Floats:
    """The metric in each window; NaN where it is undefined."""
    y, w = facts.result.label, facts.result.weight
    pairs = zip(edges[:-1].tolist(), edges[1:].tolist())
    return np.array([measure.value(y[a:b], prediction[a:b], w[a:b]) for a, b in pairs])


# Beyond this many a few outliers must not set the axis.
MANY = 100


@dataclass(frozen=True, slots=True)
class Calibration:
    """Mean prediction, mean label and its standard error in bins of equal counts."""

    predicted: Floats
    actual: Floats
    error: Floats
    rows: Ints


def calibration(y: Floats, p: Floats, w: Floats) -> Calibration:
    """Bins at the quantiles of the prediction; equal predictions stay in one bin."""
    bins = int(np.clip(len(p) // _BIN_ROWS, 1, _BINS))
    cuts = np.arange(1, bins) / bins
    inner = np.unique(np.quantile(p, cuts)).astype(np.float64) if bins > 1 else np.empty(0)
    code = np.searchsorted(inner, p, side="left")
    mass, sum_p, sum_y, sum_yy, sum_ww = (
        np.bincount(code, values, minlength=len(inner) + 1) for values in (w, w * p, w * y, w * y * y, w * w)
    )
    held = mass > 0
    mass, rows = mass[held], np.bincount(code, minlength=len(inner) + 1)[held]
    actual = sum_y[held] / mass
    spread = np.maximum(sum_yy[held] / mass - actual**2, 0.0)
    return Calibration(sum_p[held] / mass, actual, np.sqrt(spread * sum_ww[held]) / mass, rows)


def calibration_limits(found: list[Calibration], link: str) -> tuple[float, float]:
    """One range for all variants and both axes that shows every bin; counts and probabilities start at 0 if near."""
    shown = [v for c in found for v in (*c.predicted, *c.actual)]
    low, high = (min(shown), max(shown)) if shown else (0.0, 1.0)
    room = 0.08 * (high - low) or 0.1 * max(abs(high), 0.1)
    if link == "identity":
        return low - room, high + room
    low = 0.0 if low < 0.3 * high else low - room
    return low, min(1.0, high + room) if link == "logit" else high + room


def histogram(p: Floats, limits: tuple[float, float]) -> tuple[Ints, Floats]:
    """Counts and edges within the limits."""
    counts, edges = np.histogram(p, bins=_HISTOGRAM, range=limits)
    return counts, edges


@dataclass(frozen=True, slots=True)
class EntityGain:
    """Mean gain over the baseline of each entity with enough events, and how many have fewer."""

    gain: Floats
    left_out: int
    least: int

    @property
    def better(self) -> float:
        """Share of entities that gain."""
        return float(np.mean(self.gain > 0)) if len(self.gain) else math.nan


def by_entity(codes: NDArray[np.int32], gain: Floats, w: Floats) -> EntityGain:
    """Gain per event, averaged over each entity's events."""
    known = codes >= 0
    code = codes[known]
    events = np.bincount(code)
    mass, total = np.bincount(code, w[known]), np.bincount(code, (w * gain)[known])
    seen = (events > 0) & (mass > 0)
    enough = seen & (events >= _ENTITY_EVENTS)
    least = _ENTITY_EVENTS if enough.sum() >= 20 else 1
    kept = enough if least > 1 else seen
    return EntityGain(total[kept] / mass[kept], int(seen.sum() - kept.sum()), least)


def around_zero(gain: Floats) -> Floats:
    """Edges of a histogram, one of them 0, over all gains or, where there are many, the inner 98 % of them."""
    low, high = (float(v) for v in np.quantile(gain, [0.01, 0.99] if len(gain) >= MANY else [0.0, 1.0]))
    bins = int(np.clip(2 * math.sqrt(len(gain)), 6, 36))
    width = max(max(high, 0.0) - min(low, 0.0), 1e-9) / bins
    first = math.floor(low / width)
    return width * np.arange(first, max(math.ceil(high / width), first + 1) + 1, dtype=np.float64)


def events_before(codes: NDArray[np.int32]) -> Ints:
    """How many earlier rows each row's entity has; −1 where the entity is unknown.

    >>> events_before(np.array([0, 1, 0, -1, 0], dtype=np.int32)).tolist()
    [0, 0, 1, -1, 2]
    """
    order = np.argsort(codes, kind="stable")
    grouped = codes[order]
    first = np.r_[True, grouped[1:] != grouped[:-1]] if len(codes) else np.empty(0, dtype=bool)
    start = np.flatnonzero(first)
    rank = np.arange(len(codes)) - np.repeat(start, np.diff(np.r_[start, len(codes)]))
    out = np.empty(len(codes), np.int64)
    out[order] = rank
    out[codes < 0] = -1
    return out


@dataclass(frozen=True, slots=True)
class Warming:
    """Rows grouped by how many events their entity had: the least of each group, and the group of each row or −1."""

    least: Ints
    group: Ints

    def mean(self, gain: Floats, w: Floats) -> tuple[Floats, Floats]:
        """Mean gain of each group and its standard error."""
        held = self.group >= 0
        group, gain, w = self.group[held], gain[held], w[held]
        mass, total, square, ww = (
            np.bincount(group, values, minlength=len(self.least)) for values in (w, w * gain, w * gain**2, w * w)
        )
        mass = np.where(mass > 0, mass, np.nan)
        mean = total / mass
        return mean, np.asarray(np.sqrt(np.maximum(square / mass - mean**2, 0.0) * ww) / mass, dtype=np.float64)


def warming(codes: NDArray[np.int32]) -> Warming:
    """Groups of 0, 1, 2–3, 4–7, ... earlier events, neighbours joined until each group has enough rows.

    >>> warming(np.zeros(100, dtype=np.int32)).least.tolist()
    [0, 32, 64]
    """
    before = events_before(codes)
    fine = np.floor(np.log2(np.maximum(before, 0) + 0.5)).astype(np.int64) + 1
    rows = np.bincount(fine[before >= 0], minlength=1)
    joined, least = _joined(rows, max(_POINT_ROWS, int(_POINT_SHARE * len(codes))))
    group = np.where(before < 0, -1, joined[fine])
    return Warming(np.array([2**k // 2 for k in least], dtype=np.int64), group)


def _joined(rows: Ints, enough: int) -> tuple[Ints, list[int]]:
    """The joined group of each fine group, and the fine group that each joined one starts with."""
    group, first, held = np.zeros(len(rows), np.int64), [0], 0
    for k, count in enumerate(rows.tolist()):
        if held >= enough and int(rows[k:].sum()) >= enough:
            first.append(k)
            held = 0
        group[k] = len(first) - 1
        held += count
    return group, first


def reach(values: list[float], room: float = 0.08) -> tuple[float, float]:
    """Limits of an axis that hold all finite values with some room."""
    finite = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    room = room * (high - low) or 0.05 * max(abs(high), 1e-3)
    return low - room, high + room
