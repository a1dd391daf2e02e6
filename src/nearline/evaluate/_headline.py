"""The result of a backtest in one sentence, and the comparison behind it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nearline.evaluate import _words
from nearline.evaluate._facts import Facts, Measure, Series

# Consecutive parts of the stream whose sums give a standard error that respects serial dependence.
_PARTS = 40


@dataclass(frozen=True, slots=True)
class Change:
    """Relative change of the metric from one series to another, and its 95 % interval: positive is better."""

    gain: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


def change(facts: Facts, old: Series, new: Series) -> Change:
    """Share of the loss saved, with a standard error from the sums over consecutive parts of the stream.

    gain = Σ_n w_n (loss_old − loss_new) / Σ_n w_n loss_old; for RMSE the root's share, 1 − √(1 − gain).
    """
    parts = min(_PARTS, facts.rows)
    cuts = np.linspace(0, facts.rows, parts + 1).astype(np.int64)[:-1]
    saved = np.add.reduceat(facts.result.weight * (old.loss - new.loss), cuts)
    total = facts.total(old.loss)
    if not total > 0:
        return Change(0.0, -math.inf, math.inf)
    gain = float(saved.sum()) / total
    error = 1.96 * float(np.std(saved, ddof=1)) * math.sqrt(parts) / total if parts > 1 else math.inf
    root: Callable[[float], float] = (lambda g: 1 - math.sqrt(max(0.0, 1 - g))) if _rooted(facts) else (lambda g: g)
    return Change(root(gain), root(gain - error), root(gain + error))


def _rooted(facts: Facts) -> bool:
    return facts.result.link == "identity"


def captured(facts: Facts, series: Series) -> float:
    """Share of the possible gain over the baseline, (L_base − L) / (L_base − L_true); NaN without truth or gain."""
    base = facts.baseline
    if facts.optimum is None or base is None or base is series:
        return math.nan
    possible = facts.total(base.loss) - facts.total(facts.optimum.loss)
    return (facts.total(base.loss) - facts.total(series.loss)) / possible if possible > 0 else math.nan


def headline(facts: Facts) -> str:
    """The result in one sentence."""
    fresh, slower = facts.freshest or facts.series[0], facts.slower
    if slower is None or slower is fresh:
        return _alone(facts, fresh)
    found, label = change(facts, slower, fresh), _in_text(facts.measures[0])
    doing, instead = _words.keeping(fresh.variant), _words.keeping(slower.variant)
    instead = instead.removeprefix("updating ") if slower.speed else instead
    start = f"{doing[0].upper()}{doing[1:]} instead of {instead}"
    if not found.clear:
        return f"{start} makes no difference to {label} that {_words.plural(facts.rows, 'event')} can tell."
    verb = "lowers" if found.gain > 0 else "raises"
    return f"{start} {verb} {label} by {_words.percent(abs(found.gain))}{_share(facts, fresh)}."


def _share(facts: Facts, fresh: Series) -> str:
    share, base = captured(facts, fresh), facts.baseline
    if math.isfinite(share) and share > 0 and base is not None:
        over = "the fixed effect alone" if base.variant.learns == "fixed" else base.name
        return f" and captures {_words.percent(share, 0)} of what could be gained over {over}"
    return _lifts(facts, fresh)


def _lifts(facts: Facts, fresh: Series) -> str:
    """The change of the second metric, where there is one."""
    if len(facts.measures) < 2 or facts.slower is None:
        return ""
    measure, values = facts.measures[1], facts.values(facts.measures[1])
    old, new = (_words.number(values[s.number], 3) for s in (facts.slower, fresh))
    return "" if _words.NOTHING in (old, new) else f" and takes {measure.label} from {old} to {new}"


def _alone(facts: Facts, only: Series) -> str:
    words = []
    for measure in facts.measures:
        value = facts.values(measure)[only.number]
        words.append(f"{_article(measure)} of {_words.number(value, measure.digits)}")
    doing = _words.keeping(only.variant)
    best = ""
    if facts.optimum is not None and (least := facts.total(facts.optimum.loss)) > 0:
        above = facts.total(only.loss) / least - 1
        above = math.sqrt(1 + above) - 1 if _rooted(facts) else above
        best = f", {_words.percent(above)} above the best possible {_in_text(facts.measures[0])}"
    return (
        f"{doing[0].upper()}{doing[1:]} predicts {_words.plural(facts.rows, 'event')} with {' and '.join(words)}{best}."
    )


def _article(measure: Measure) -> str:
    return f"{'an' if measure.label[0] in 'AR' else 'a'} {_in_text(measure)}"


def _in_text(measure: Measure) -> str:
    return {"Log loss": "log loss"}.get(measure.label, measure.label)
