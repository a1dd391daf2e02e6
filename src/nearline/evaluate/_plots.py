"""The report's plots, each one set of axes, and the figure of what freshness is worth that the README shows.

No text that a user chose is drawn: names stand in the page's legend, so that every script and length of name works.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nearline.evaluate import _canvas, _curves, _words
from nearline.evaluate._canvas import colour, dash, marker
from nearline.evaluate._facts import Facts, Measure, Series
from nearline.evaluate._freshness import figure_freshness, save_freshness_figure
from nearline.evaluate._intervals import metric_by_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Characters that fit along the time axis with space between them.
_LABEL_ROOM = 42

__all__ = [
    "entity_gains",
    "figure_freshness",
    "gain_by_events",
    "lead_over_time",
    "metric_by_interval",
    "metric_over_time",
    "quality_by_cost",
    "reliability",
    "save_freshness_figure",
]


def metric_over_time(facts: Facts, measure: Measure, edges: Ints, lines: Floats) -> str:
    """The metric (variants, then the truth where it is known, by windows of the stream)."""

    def draw(axes: Axes) -> None:
        if facts.optimum is not None:
            axes.plot(_middle(edges), lines[-1], color=colour("ink"), linestyle=(0, (1, 2)), linewidth=1.4)
        _windows(axes, facts, edges, lines)

    return _canvas.svg(f"time-{measure.key}", f"{measure.label} over time for each variant", draw)


def lead_over_time(facts: Facts, measure: Measure, base: Series, edges: Ints, lines: Floats) -> str:
    """How much better than the baseline every variant is, by windows: what the stream does to all of them cancels."""
    ahead = (lines - lines[base.number]) * (1 if measure.higher else -1)

    def draw(axes: Axes) -> None:
        axes.axhline(0, color=colour("ink"), linewidth=1.2, zorder=2)
        _windows(axes, facts, edges, ahead[: len(facts.series)], base)

    return _canvas.svg(f"lead-{measure.key}", f"{measure.label} won over the baseline over time", draw)


def _windows(axes: Axes, facts: Facts, edges: Ints, lines: Floats, without: Series | None = None) -> None:
    for series in facts.series:
        if series is not without:
            _line(axes, series, facts, _middle(edges), lines[series.number])
    axes.set_xlim(0, edges[-1])
    axes.set_ylim(*_curves.reach([float(v) for v in lines.ravel()]))
    _time_axis(axes, facts)
    _canvas.few_ticks(axes)


def _middle(edges: Ints) -> Floats:
    return (edges[:-1] + edges[1:]) / 2


def _line(axes: Axes, series: Series, facts: Facts, x: Floats, y: Floats) -> None:
    top = series is facts.freshest
    axes.plot(
        x, y, color=colour(series.colour), linestyle=dash(series.colour), linewidth=2.4 if top else 1.5,
        gid=f"series-{series.number}", zorder=5 if top else 3, marker="o" if len(x) < 3 else "", markersize=4,
    )  # fmt: skip


def _time_axis(axes: Axes, facts: Facts) -> None:
    """Ticks at even shares of the rows, as many as have room, labelled with the time of the row there."""
    for count in (5, 4, 3):
        ticks = np.linspace(0, facts.rows - 1, count).round().astype(np.int64)
        labels = _time_labels(facts, ticks)
        if sum(map(len, labels)) <= _LABEL_ROOM:
            break
    if facts.span <= 0:
        axes.set_xlabel("events")
    elif not _words.is_calendar(facts.result.time):
        axes.set_xlabel("since the first event")
    axes.set_xticks(ticks, labels)
    axes.get_xticklabels()[0].set_horizontalalignment("left")
    axes.get_xticklabels()[-1].set_horizontalalignment("right")


def _time_labels(facts: Facts, ticks: Ints) -> list[str]:
    time = facts.result.time[ticks].tolist()
    if facts.span <= 0:
        return [_words.short(float(tick)) for tick in ticks]
    return _words.moments(time) if _words.is_calendar(facts.result.time) else _words.elapsed(time)


def reliability(facts: Facts, series: Series, found: _curves.Calibration, limits: tuple[float, float]) -> str:
    """Mean label against mean prediction in bins of equal counts, over a histogram of the predictions."""

    def draw(axes: Axes) -> None:
        name = colour(series.colour)
        low, high = limits
        axes.plot(limits, limits, color=colour("muted"), linewidth=1, linestyle=(0, (1, 2)), zorder=2)
        counts, edges = _curves.histogram(series.prediction, limits)
        bars = counts / max(1, counts.max()) * 0.24 * (high - low)
        axes.bar(edges[:-1], bars, np.diff(edges), bottom=low, align="edge", color=name, alpha=0.28)
        axes.errorbar(
            found.predicted, found.actual, yerr=1.96 * found.error, color=name, marker=marker(series.colour),
            markersize=4.5, linewidth=1.3, elinewidth=1.1, zorder=4,
        )  # fmt: skip
        _square(axes, limits)

    return _canvas.svg(
        f"reliability-{series.number}", f"Mean label against mean prediction: {series.name}", draw, 190, 178
    )


def _square(axes: Axes, limits: tuple[float, float]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(*limits)
    axes.set_ylim(*limits)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.set_xlabel("predicted")
    axes.text(0.03, 0.98, "actual", transform=axes.transAxes, va="top", color=colour("muted"))


def entity_gains(name: str, base: Series, series: Series, found: _curves.EntityGain) -> str:
    """How entities share in the gain: a histogram of the mean gain of each, in the colour of the one that wins."""
    cuts = _curves.around_zero(found.gain)
    counts, edges = np.histogram(found.gain, bins=cuts)

    def draw(axes: Axes) -> None:
        worse = edges[1:] <= 0.5 * (cuts[1] - cuts[0])
        for side, paint in ((~worse, series.colour), (worse, base.colour)):
            axes.bar(edges[:-1][side], counts[side], 0.92 * np.diff(edges)[side], align="edge", color=colour(paint))
        axes.axvline(0, color=colour("ink"), linewidth=1.2)
        axes.set_xlabel("loss saved per event")
        axes.locator_params(axis="x", nbins=6)
        _canvas.few_ticks(axes, 4, whole=True)

    return _canvas.svg(f"gains-{name}", "Histogram of the loss saved per event, by entity", draw)


def gain_by_events(name: str, facts: Facts, base: Series, found: _curves.Warming) -> str:
    """Loss saved on the baseline by every variant, against how many events the entity had before."""
    others = [s for s in facts.series if s is not base]
    curves = [found.mean(base.loss - s.loss, facts.result.weight) for s in others]

    def draw(axes: Axes) -> None:
        x = np.arange(len(found.least), dtype=np.float64)
        axes.axhline(0, color=colour("ink"), linewidth=1.2, zorder=2)
        for series, (mean, error) in zip(others, curves):
            if series is facts.freshest:
                low, high = mean - 1.96 * error, mean + 1.96 * error
                axes.fill_between(x, low, high, color=colour(series.colour), alpha=0.16, linewidth=0)
            _line(axes, series, facts, x, mean)
        step = 1 if len(x) <= 9 else 2
        axes.set_xticks(x[::step], [_words.short(float(k), 2) for k in found.least[::step]])
        axes.set_xlabel("earlier events of the entity")
        axes.set_ylim(*_curves.reach([0.0, *(float(v) for mean, _ in curves for v in mean)], room=0.2))
        axes.margins(x=0.02)
        _canvas.few_ticks(axes)

    return _canvas.svg(f"warming-{name}", "Loss saved against earlier events of the entity", draw)


def quality_by_cost(facts: Facts) -> str:
    """The first metric against the seconds each variant took."""
    measure = facts.measures[0]
    values = facts.values(measure)

    def draw(axes: Axes) -> None:
        for series, value in zip(facts.series, values):
            axes.plot(
                [max(series.outcome.seconds, 1e-6)], [value], marker=marker(series.colour), markersize=10,
                color=colour(series.colour), markeredgecolor=colour("paper"), markeredgewidth=1.2,
                gid=f"series-{series.number}", linestyle="none",
            )  # fmt: skip
        _seconds_axis(axes, [max(s.outcome.seconds, 1e-6) for s in facts.series])
        axes.set_ylim(*_curves.reach(values))
        _canvas.few_ticks(axes)

    return _canvas.svg("cost", f"{measure.label} against seconds of computation", draw)


def _seconds_axis(axes: Axes, seconds: Sequence[float]) -> None:
    axes.set_xscale("log")
    low, high = min(seconds) / 1.6, max(seconds) * 1.6
    steps = [m * 10.0**k for k in range(-6, 7) for m in (1, 2, 5)]
    inside = [s for s in steps if low <= s <= high]
    inside = [s for s in inside if f"{s:e}"[0] == "1"] if len(inside) > 6 else inside
    axes.set_xticks(inside, [_words.short(s) for s in inside])
    axes.minorticks_off()
    axes.set_xlim(low, high)
    axes.set_xlabel("seconds for all evaluated events")
