"""A backtest as one self-contained HTML page: the result in a sentence, the table, and the plots behind it."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nearline.evaluate import _curves, _page, _plots, _tables, _words
from nearline.evaluate._backtest import Backtest
from nearline.evaluate._facts import Facts, Measure, Series, gather
from nearline.evaluate._headline import headline
from nearline.evaluate._reliability import expected_calibration_error

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# What one row costs, where the metric is a mean or the root of one.
_LOSS = {"logit": "log loss", "identity": "squared error", "log": "Poisson deviance"}


def write_report(result: Backtest, path: str | Path) -> Path:
    """Write `render(result)` to a file and return its path; folders on the way are made.

    Raises
    ------
    OSError
        When the file cannot be written.
    """
    path = Path(path)
    text = render(result)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def render(result: Backtest) -> str:
    """One HTML page about a backtest, with every plot inside it: it loads nothing and runs nothing.

    It opens with the result in a sentence and the table of metrics; then metrics over time and against the update
    interval, calibration, lift by entity, cost, learned priors and what was run. The same backtest gives the same page.

    Examples
    --------
    >>> from nearline.evaluate import Backtest, Outcome, Variant
    >>> y, t = np.tile([0.0, 1.0], 50), np.arange(100.0)
    >>> fresh = Outcome(Variant("per event"), 2 * y - 1, seconds=0.1, updates=100)
    >>> page = render(Backtest("toy", "logit", y, np.ones(100), t, {}, 10, (fresh,), None, None))
    >>> "Updating after every event predicts 100 events with a log loss of 0.3133" in page
    True
    """
    facts = gather(result)
    parts = [
        _opening(facts), _tables.results(facts), _tables.further(facts), _over_time(facts), _by_interval(facts),
        _calibration(facts), _lift(facts), _cost(facts), _tables.priors(result.learned), _tables.what_was_run(facts),
    ]  # fmt: skip
    return _page.page(f"{result.title} · nearline {_kind(result)}", "\n".join(p for p in parts if p), len(facts.series))


def _kind(result: Backtest) -> str:
    return "live run" if result.served else "backtest"


def _opening(facts: Facts) -> str:
    length = f" over {_words.span(facts.span)}" if facts.span > 0 else ""
    lead = (
        f"{_words.plural(facts.rows, 'event')}{length}, each {_how(facts.result)}. "
        f"The {_words.plural(facts.result.history_rows, 'event')} before them fitted the starting model."
    )
    return (
        f'<header>\n<p class="eyebrow">nearline {_kind(facts.result)} · <b>{escape(facts.result.title)}</b></p>\n'
        f'<h1>{escape(headline(facts))}</h1>\n<p class="lead">{escape(lead)}</p>\n</header>'
    )


def _legend(facts: Facts, without: Series | None = None, truth: bool = True) -> str:
    entries = [(f"v{s.number}", _page.key(s.colour), s.name) for s in facts.series if s is not without]
    if truth and facts.optimum is not None:
        entries.append(("truth", _page.TRUTH_KEY, "best possible"))
    return _page.legend(entries)


def _over_time(facts: Facts) -> str:
    edges = _curves.window_edges(facts.rows)
    lines = {measure: _window_lines(facts, measure, edges) for measure in facts.measures}
    figures = [_window_figure(facts, measure, edges, lines[measure]) for measure in facts.measures]
    figures += [_lead_figure(facts, measure, edges, lines[measure]) for measure in facts.measures]
    each = _words.plural(int(edges[1] - edges[0]), "event")
    says = (
        f"Every point is a window of {each}; the axis is even in events, so busy times take more room than quiet ones."
    )
    return _page.section("Over time", says, _legend(facts), _page.grid(figures))


def _window_lines(facts: Facts, measure: Measure, edges: Ints) -> Floats:
    predictions = [s.prediction for s in facts.series] + ([facts.optimum.prediction] if facts.optimum else [])
    return np.array([_curves.over_time(facts, measure, edges, p) for p in predictions])


def _window_figure(facts: Facts, measure: Measure, edges: Ints, lines: Floats) -> str:
    svg = _plots.metric_over_time(facts, measure, edges, lines)
    better = "Higher is better" if measure.higher else "Lower is better"
    gap = " The dotted line is what the true expectation scores." if facts.optimum else ""
    return _page.figure(measure.label, svg, f"{better}.{gap}")


def _lead_figure(facts: Facts, measure: Measure, edges: Ints, lines: Floats) -> str:
    base, fresh = facts.baseline, facts.freshest
    if base is None or fresh is None:
        return ""
    svg = _plots.lead_over_time(facts, measure, base, edges, lines)
    return _page.figure(f"{measure.label}: lead over {base.name}", svg, _lead_caption(facts, measure, lines))


def _lead_caption(facts: Facts, measure: Measure, lines: Floats) -> str:
    fresh, slower = facts.freshest, facts.slower
    if fresh is None or slower is None:
        return "Higher is better."
    ahead = (lines[fresh.number] - lines[slower.number]) * (1 if measure.higher else -1)
    known = ahead[np.isfinite(ahead)]
    wins = int((known > 0).sum())
    return f"Higher is better; {fresh.name} beats {slower.name} in {wins} of {_words.plural(len(known), 'window')}."


def _by_interval(facts: Facts) -> str:
    if facts.result.served or sum(s.variant.learns != "fixed" for s in facts.series) < 2:
        return ""
    kinds = {type(s.variant.every) for s in facts.series if s.speed and s is not facts.freshest}
    lines = " Solid: intervals in events; dashed: in time." if len(kinds) > 1 else ""
    figures = []
    for measure in facts.measures:
        caption = f"{measure.label}, {'higher' if measure.higher else 'lower'} is better; left is fresher.{lines}"
        figures.append(_page.figure(measure.label, _plots.metric_by_interval(facts, measure), caption))
    says = "What freshness is worth: the same model, served with updates more or less often."
    if facts.span > 0:
        says += (
            f" On average an event comes every {_words.span(facts.span / max(1, facts.rows - 1)).removeprefix('1 ')}."
        )
    return _page.section("Against the update interval", says, _legend(facts), _page.grid(figures))


def _calibration(facts: Facts) -> str:
    y, w = facts.result.label, facts.result.weight
    found = [_curves.calibration(y, series.prediction, w) for series in facts.series]
    limits = _curves.calibration_limits(found, facts.result.link)
    figures = []
    for series, bins in zip(facts.series, found):
        svg = _plots.reliability(facts, series, bins, limits)
        figures.append(_page.figure(series.name, svg, _calibration_caption(facts, series), _page.key(series.colour)))
    says = (
        "Points on the dotted diagonal are right on average: each is the mean label of about a tenth of the events, "
        "with its 95\N{NO-BREAK SPACE}% interval, against their mean prediction. Bars count the predictions."
    )
    return _page.section("Calibration", says, _page.grid(figures, small=True))


def _calibration_caption(facts: Facts, series: Series) -> str:
    w, y = facts.result.weight, facts.result.label
    if not w.sum() > 0:
        return "No weight."
    predicted, actual = float(np.average(series.prediction, weights=w)), float(np.average(y, weights=w))
    if facts.result.link == "logit":
        off = expected_calibration_error(y, series.prediction, weight=w, strategy="quantile")
        happen = f"Predicts {_words.percent(predicted, 2)}; {_words.percent(actual, 2)} happen."
        return f"{happen} Calibration error {_words.number(off, 4)}."
    return f"Predicts {_words.significant(predicted, 4)} on average; labels average {_words.significant(actual, 4)}."


def _lift(facts: Facts) -> str:
    base, fresh = facts.baseline, facts.freshest
    if base is None or fresh is None:
        return ""
    parts = []
    for k, (name, codes) in enumerate(facts.result.entities.items()):
        if (codes >= 0).any():
            parts += [f"<h3>By {escape(name)}</h3>", _lift_pair(facts, base, fresh, k, name)]
    says = f"Who gains from freshness: {_LOSS[facts.result.link]} saved against {base.name}, by entity."
    return _page.section("Lift by entity", says, _legend(facts, base, truth=False), *parts) if parts else ""


def _lift_pair(facts: Facts, base: Series, fresh: Series, k: int, name: str) -> str:
    codes = facts.result.entities[name]
    gains = _curves.by_entity(codes, base.loss - fresh.loss, facts.result.weight)
    warm = _curves.warming(codes)
    figures = []
    if len(gains.gain):
        svg = _plots.entity_gains(str(k), base, fresh, gains)
        figures.append(_page.figure(f"{fresh.name}: who gains", svg, _gain_caption(gains, name)))
    if len(warm.least) > 1:
        svg = _plots.gain_by_events(str(k), facts, base, warm)
        figures.append(_page.figure("From cold to warm", svg, _warm_caption(facts, base, fresh, warm)))
    return _page.grid(figures)


def _saves(gain: float) -> str:
    if abs(gain) < 1e-9:
        return "saves nothing"
    return f"{'saves' if gain >= 0 else 'loses'} {_words.significant(abs(gain), 2)}"


def _gain_caption(gains: _curves.EntityGain, name: str) -> str:
    few = f" with {gains.least} events or more" if gains.least > 1 else ""
    left = f" ({gains.left_out:,} with fewer are left out)" if gains.left_out else ""
    middle = _saves(float(np.median(gains.gain)))
    outside = "; the outermost 2\N{NO-BREAK SPACE}% are not drawn" if len(gains.gain) >= _curves.MANY else ""
    return (
        f"{_words.percent(gains.better, 0)} of {len(gains.gain):,} values of {name}{few}{left} are predicted better; "
        f"the median {middle} per event{outside}."
    )


def _warm_caption(facts: Facts, base: Series, fresh: Series, warm: _curves.Warming) -> str:
    mean, _ = warm.mean(base.loss - fresh.loss, facts.result.weight)
    first, last = _saves(float(mean[0])), _saves(float(mean[-1]))
    return (
        f"{fresh.name} {first} per event of an entity that is new to the evaluation and {last} after "
        f"{_words.plural(int(warm.least[-1]), 'event')} or more; "
        "the band is its 95\N{NO-BREAK SPACE}% interval."
    )


def _how(result: Backtest) -> str:
    if not result.served:
        return "predicted before it was learned"
    return "predicted by the running service before its outcome was known; the others were replayed on the same events"


def _cost(facts: Facts) -> str:
    if facts.result.served:
        return ""
    longest = max((s.outcome.seconds for s in facts.series), default=0.0)
    bars = "".join(_cost_bar(facts, series, longest) for series in facts.series)
    cheap = facts.freshest
    says = "Seconds of one process for learning and predicting all evaluated events."
    refits = [s for s in facts.series if s.variant.refit is not None]
    if cheap is not None and refits and cheap.outcome.seconds > 0:
        ratio = refits[0].outcome.seconds / cheap.outcome.seconds
        says += f" Here {refits[0].name} takes {_words.significant(ratio, 2)} times as long as {cheap.name}."
    label = facts.measures[0].label
    caption = f"{label} against seconds, on a log axis: left is cheaper, down is better."
    several = len(facts.series) > 1
    scatter = _page.figure(f"{label} for the cost", _plots.quality_by_cost(facts), caption) if several else ""
    return _page.section("Cost", says, _page.grid([f'<div class="card bars"><h4>Seconds</h4>{bars}</div>', scatter]))


def _cost_bar(facts: Facts, series: Series, longest: float) -> str:
    seconds = series.outcome.seconds
    share = seconds / longest if longest > 0 else 0.0
    rate = f" · {_words.short(facts.rows / seconds)} events/s" if seconds > 0 else ""
    text = f"{_words.significant(seconds, 3)} s{rate} · {_words.plural(series.outcome.updates, 'update')}"
    return _page.bar(series.name, text, share, series.colour)
