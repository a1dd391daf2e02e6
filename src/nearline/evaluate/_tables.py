"""The tables of a report: metrics of every variant, learned priors, and what was run."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Mapping
from html import escape
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from nearline.evaluate import _page, _words
from nearline.evaluate._facts import Facts, Measure, Series, best_of
from nearline.evaluate._headline import captured
from nearline.evaluate._resample import Interval
from nearline.glmix import LearnedPriors
from nearline.glmix._effects import INTERCEPT, Forgetting, PerColumn, per_column
from nearline.glmix._state import Belief

_PACKAGES = ("nearline", "numpy", "numba", "pyarrow", "matplotlib")


def results(facts: Facts) -> str:
    """Metrics of every variant, the best marked, and what is possible at the bottom."""
    rows = facts.table
    costs = [] if facts.result.served else ["seconds", "events/s"]
    head = ["variant", *(m.label for m in facts.measures), *_extras(facts), "updates", *costs]
    cells = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(_row(facts, series, row, rows) for series, row in zip(facts.series, rows))
    return (
        '<div class="card tablecard scroll" tabindex="0" role="region" aria-label="Metrics">'
        f'<table class="results"><thead><tr>{cells}</tr></thead>'
        f"<tbody>{body}{_optimum(facts)}</tbody></table></div>"
    )


def further(facts: Facts) -> str:
    """The metrics that were asked for, of every variant; means over entities with their intervals."""
    asked = facts.result.further()
    if not asked:
        return ""
    values = [[facts.result.measured(metric, series.name) for metric in asked] for series in facts.series]
    best = [best_of([row[k].estimate for row in values], metric.higher) for k, metric in enumerate(asked)]
    cells = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("variant", *(m.label for m in asked)))
    body = "".join(_further_row(series, row, best) for series, row in zip(facts.series, values))
    grouped = any(math.isfinite(found.low) for row in values for found in row)
    says = (
        "Means over entities weigh each by its events; "
        "their 95\N{NO-BREAK SPACE}% intervals take entities as independent."
        if grouped
        else ""
    )
    return _page.section(
        "Further metrics", says,
        '<div class="card tablecard scroll" tabindex="0" role="region" aria-label="Further metrics">'
        f'<table class="results"><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>',
    )  # fmt: skip


def _further_row(series: Series, row: list[Interval], best: list[float]) -> str:
    name = f'<span class="name">{_page.key(series.colour)}{escape(series.name)}</span>'
    cells = "".join(map(_interval_cell, row, best))
    return f'<tr class="v{series.number}"><th scope="row">{name}</th>{cells}</tr>'


def _interval_cell(found: Interval, best: float) -> str:
    text = _words.number(found.estimate, 4)
    text = f"<b>{text}</b>" if text == _words.number(best, 4) != _words.NOTHING else text
    if not math.isfinite(found.low):
        return f"<td>{text}</td>"
    ends = f"{_words.number(found.low, 4)} to {_words.number(found.high, 4)}"
    return f'<td>{text}<div class="quiet">{ends}</div></td>'


def _extras(facts: Facts) -> list[str]:
    out = ["calibration"] if facts.result.link == "logit" else []
    return [*out, "gain captured"] if facts.optimum is not None and facts.baseline is not None else out


def _row(facts: Facts, series: Series, row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    cells = [_metric(measure, row, rows) for measure in facts.measures]
    if facts.result.link == "logit":
        cells.append(_words.number(row["calibration"], 3))
    if "gain captured" in _extras(facts):
        cells.append(_share(facts, series))
    cells.append(f"{row['updates']:,}")
    if not facts.result.served:
        cells += [_words.significant(row["seconds"]), _words.short(row["events_per_s"])]
    data = "".join(f"<td>{cell}</td>" for cell in cells)
    name = f'<span class="name">{_page.key(series.colour)}{escape(series.name)}</span>'
    return f'<tr class="v{series.number}"><th scope="row">{name}</th>{data}</tr>'


def _metric(measure: Measure, row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    text = _words.number(row[measure.key], measure.digits)
    best = _words.number(measure.best([other[measure.key] for other in rows]), measure.digits)
    return f"<b>{text}</b>" if len(rows) > 1 and text == best != _words.NOTHING else text


def _share(facts: Facts, series: Series) -> str:
    share = 0.0 if series is facts.baseline else captured(facts, series)
    return _words.percent(share, 0) if math.isfinite(share) else _words.NOTHING


def _optimum(facts: Facts) -> str:
    if facts.optimum is None:
        return ""
    y, w, p = facts.result.label, facts.result.weight, facts.optimum.prediction
    cells = [_words.number(facts.optimum.values[m.key], m.digits) for m in facts.measures]
    if facts.result.link == "logit":
        happened = float(np.dot(w, y))
        cells.append(_words.number(float(np.dot(w, p)) / happened if happened else math.nan, 3))
    blank = 1 if facts.result.served else 3
    cells += [_words.percent(1.0, 0)] * ("gain captured" in _extras(facts)) + [""] * blank
    data = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr class="truth"><th scope="row"><span class="name">{_page.TRUTH_KEY}best possible</span></th>{data}</tr>'


def priors(learned: LearnedPriors | None) -> str:
    """What history taught about every effect before the first evaluated event."""
    if learned is None:
        return ""
    head = "".join(
        f'<th scope="col" class="text">{h}</th>' for h in ("effect", "prior variance", "random walk", "half-life")
    )
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="text">{_variance(belief)}</td>'
        f'<td class="text">{_walks(belief.forgetting)}</td><td class="text">{_half_life(belief.forgetting)}</td></tr>'
        for name, belief in learned.beliefs.items()
    )
    found = f'<table class="wide"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    frame = 'class="card tablecard scroll" tabindex="0" role="region" aria-label="Learned priors"'
    return _page.section("Learned priors", _learning(learned), f"<div {frame}>{found}</div>")


def _learning(learned: LearnedPriors) -> str:
    # the loss falls and the evidence rises; the record does not say which of the two it is
    what = "The log evidence of an event" if learned.after > learned.before else "The loss one step ahead"
    return (
        f"Set from history alone, which was replayed or fitted {_words.plural(learned.evaluations, 'time')}. {what} "
        f"went from {_words.number(learned.before, 4)} to {_words.number(learned.after, 4)}."
    )


def _variance(belief: Belief) -> str:
    names = _columns(belief.prior.variance)
    own = _pairs((name, belief.prior.variance_of(name), "") for name in names)
    if belief.covariance is None:
        return own
    return f'{_joint(belief.covariance)}<div class="quiet">before the joint fit: {own}</div>'


def _pairs(settings: Iterable[tuple[str, float, str]]) -> str:
    """Names and numbers that break between, not within."""
    named = (f"{'all' if name == '*' else name} {_words.significant(value)}{unit}" for name, value, unit in settings)
    return ", ".join(f'<span class="pair">{escape(text)}</span>' for text in named)


def _joint(covariance: np.ndarray[Any, np.dtype[Any]]) -> str:
    variance = np.diagonal(covariance)
    scale = np.sqrt(np.outer(variance, variance))
    strongest = np.abs(np.where(np.eye(len(variance), dtype=bool), 0, covariance / scale)).max()
    low, high = (_words.significant(float(v)) for v in (variance.min(), variance.max()))
    return (
        f"{low} to {high} over {_words.plural(len(variance), 'coefficient')} jointly, "
        f"strongest correlation {_words.number(float(strongest), 2)}"
    )


def _columns(value: PerColumn) -> list[str]:
    if not isinstance(value, Mapping):
        return ["*"]
    named = [name for name in value if name != "*"]
    return sorted(named, key=lambda name: name != INTERCEPT) or ["*"]


def _walks(forgetting: Forgetting) -> str:
    steps = [
        (name, step, unit)
        for value, unit in ((forgetting.walk_per_event, " per event"), (forgetting.walk_per_day, " per day"))
        for name in _columns(value)
        if (step := per_column(value, name, 0.0)) > 0
    ]
    return _pairs(steps) or "none"


def _half_life(forgetting: Forgetting) -> str:
    if forgetting.form == "per_update" and forgetting.delta < 1:
        return f"δ = {_words.significant(forgetting.delta, 6)} per update"
    if forgetting.half_life is None:
        return "never forgets"
    return f"{_words.span(forgetting.half_life)}, {forgetting.form}"


def what_was_run(facts: Facts) -> str:
    """Enough to know what the numbers stand for."""
    result, time = facts.result, facts.result.time
    share = result.history_rows / max(1, result.history_rows + facts.rows)
    pairs = [
        ("Stream", result.title),
        ("Evaluated", _words.plural(facts.rows, "event")),
        ("History", f"{_words.plural(result.history_rows, 'event')}, {_words.percent(share)} of all"),
    ]
    if facts.span > 0:
        ends = f", {_words.moment(time[0])} to {_words.moment(time[-1])} UTC" if _words.is_calendar(time) else ""
        pairs.append(("Time span", _words.span(facts.span) + ends))
    pairs += [("Link", result.link), ("Mean label", _mean_label(facts))]
    pairs += [(f"Entities of {key}", f"{len(np.unique(c[c >= 0])):,}") for key, c in result.entities.items()]
    pairs += [("Variants", "; ".join(f"{s.name}: {_words.keeping(s.variant)}" for s in facts.series))]
    pairs.append(("Software", ", ".join([f"Python {platform.python_version()}", *_versions()])))
    return _page.section("What was run", "", f'<div class="card">{_page.definitions(pairs)}</div>')


def _mean_label(facts: Facts) -> str:
    w = facts.result.weight
    return _words.significant(float(np.average(facts.result.label, weights=w)), 4) if w.sum() > 0 else _words.NOTHING


def _versions() -> list[str]:
    out = []
    for package in _PACKAGES:
        try:
            out.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return out
