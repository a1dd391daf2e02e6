"""What a report says about a backtest: its variants as series, and which of them to compare."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearline.evaluate import _losses, _ranking
from nearline.evaluate._backtest import Backtest, Outcome, Variant
from nearline.glmix import _links

Floats = NDArray[np.float64]

# Shades for the variants that learn all effects, from the least to the most often updated, and hues for the others.
SHADES, HUES = 6, 3
_TINY = float(np.finfo(np.float64).tiny)
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric: its key in `Backtest.table`, how it is written, which way is better, and its value on some rows."""

    key: str
    label: str
    higher: bool
    digits: int
    value: Callable[[Floats, Floats, Floats], float]

    def best(self, values: list[float]) -> float:
        """The best finite value; NaN where there is none."""
        return best_of(values, self.higher)


def best_of(values: list[float], higher: bool) -> float:
    """The best finite value; NaN where there is none."""
    finite = [v for v in values if math.isfinite(v)]
    return (max if higher else min)(finite) if finite else math.nan


MEASURES = {
    "logit": (
        Measure("log_loss", "Log loss", False, 4, _losses.log_loss),
        Measure("auc", "AUC", True, 4, _ranking.auc),
    ),
    "log": (Measure("deviance", "Poisson deviance", False, 4, _losses.poisson_deviance),),
    "identity": (Measure("rmse", "RMSE", False, 4, _losses.rmse),),
}


@dataclass(frozen=True, slots=True)
class Series:
    """One variant as the plots show it.

    Attributes
    ----------
    colour
        Name of a colour in the report's palette, which is also its class in the page.
    prediction, loss
        Expected label and loss (n) of each row: log loss, squared error or Poisson deviance.
    """

    number: int
    colour: str
    outcome: Outcome
    prediction: Floats
    loss: Floats

    @property
    def variant(self) -> Variant:
        """What learned, and how often."""
        return self.outcome.variant

    @property
    def name(self) -> str:
        """The variant's name."""
        return self.outcome.variant.name

    @property
    def speed(self) -> bool:
        """Whether all effects learn from the stream."""
        return self.variant.learns == "all"

    @property
    def interval(self) -> float:
        """Rows between updates of what is served, on average; infinite when it never changes."""
        return len(self.loss) / self.outcome.updates if self.outcome.updates else math.inf


@dataclass(frozen=True, slots=True)
class Optimum:
    """The true expectation (n), its loss on each row (n), and its metrics by key."""

    prediction: Floats
    loss: Floats
    values: dict[str, float]


@dataclass(frozen=True, slots=True)
class Facts:
    """A backtest with everything computed once that several parts of the report show."""

    result: Backtest
    series: tuple[Series, ...]
    table: list[dict[str, Any]]
    optimum: Optimum | None

    @property
    def rows(self) -> int:
        """Rows evaluated."""
        return len(self.result.label)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The metrics of the link, the first of which is the mean loss (or its root)."""
        return MEASURES[self.result.link]

    @property
    def freshest(self) -> Series | None:
        """The most often updated variant of all effects."""
        return min((s for s in self.series if s.speed), key=lambda s: s.interval, default=None)

    @property
    def baseline(self) -> Series | None:
        """What lift is measured from: the fixed effect alone, else the stale model, else the least updated.

        Beside what was served it is the stale model first: what would have been served without learning.
        """
        others = [s for s in self.series if s is not self.freshest]
        order = ("nothing", "fixed", "all") if self.result.served else ("fixed", "nothing", "all")
        kinds = [[s for s in others if s.variant.learns == learns] for learns in order]
        return next((max(kind, key=lambda s: s.interval) for kind in kinds if kind), None)

    @property
    def slower(self) -> Series | None:
        """What the freshest is compared with first: daily, else the slowest, else what does not learn all effects."""
        fresh = self.freshest
        if fresh is None:
            return None
        slow = [s for s in self.series if s.speed and s.interval > 2 * fresh.interval]
        daily = next((s for s in slow if s.variant.every in ("1d", "24h")), None)
        refits = [s for s in self.series if s.variant.refit is not None and s is not fresh]
        return daily or max(slow, key=lambda s: s.interval, default=None) or next(iter(refits), None) or self.baseline

    @property
    def span(self) -> float:
        """Event time from the first to the last evaluated row, in seconds."""
        return float(self.result.time[-1] - self.result.time[0]) if self.rows else 0.0

    def values(self, measure: Measure) -> list[float]:
        """The metric of every variant over all evaluated rows."""
        return [row[measure.key] for row in self.table]

    def total(self, loss: Floats) -> float:
        """Σ_n w_n loss_n."""
        return float(np.dot(self.result.weight, loss))


def gather(result: Backtest) -> Facts:
    """Predictions and losses of every variant, each computed once."""
    link, y = _links.by_name(result.link), result.label
    series = []
    for k, (outcome, colour) in enumerate(zip(result.outcomes, _colours(result))):
        prediction = link.mean(outcome.margin)
        series.append(Series(k, colour, outcome, prediction, _loss(result.link, y, outcome.margin)))
    return Facts(
        result, tuple(series), result.table(), None if result.truth is None else _optimum(result, result.truth)
    )


def _optimum(result: Backtest, truth: Floats) -> Optimum:
    values = {m.key: m.value(result.label, truth, result.weight) for m in MEASURES[result.link]}
    return Optimum(truth, _loss(result.link, result.label, _margin(result.link, truth)), values)


def _colours(result: Backtest) -> list[str]:
    updates = sorted({o.updates for o in result.outcomes if o.variant.learns == "all"}, reverse=True)
    out, used = [], {"fixed": 0, "batch": 0, "refit": 0}
    for outcome in result.outcomes:
        variant = outcome.variant
        if variant.learns == "all":
            out.append(f"fresh{_spread(updates.index(outcome.updates), len(updates))}")
            continue
        kind = "fixed" if variant.learns == "fixed" else "batch" if variant.refit is None else "refit"
        out.append(f"{kind}{used[kind] % HUES}")
        used[kind] += 1
    return out


def _spread(rank: int, count: int) -> int:
    """A shade for the rank: neighbours while there are enough, spread over all of them otherwise."""
    return rank if count <= SHADES else round(rank * (SHADES - 1) / (count - 1))


def _loss(link: str, y: Floats, margin: Floats) -> Floats:
    if link == "logit":
        return _links.by_name(link).loss(y, margin)
    if link == "identity":
        return np.asarray((y - margin) ** 2)
    entropy = y * np.log(np.where(y > 0, y, 1.0)) - y
    return 2 * (_links.by_name(link).loss(y, margin) + entropy)


def _margin(link: str, mean: Floats) -> Floats:
    if link == "logit":
        p = np.clip(mean, _EPS, 1 - _EPS)
        return np.log(p) - np.log1p(-p)
    return mean if link == "identity" else np.log(np.maximum(mean, _TINY))
