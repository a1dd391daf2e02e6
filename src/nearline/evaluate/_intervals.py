"""The plot of what freshness is worth: a metric against how much time or how many events pass between updates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from nearline.evaluate import _canvas, _curves, _words
from nearline.evaluate._canvas import colour, dash, marker
from nearline.evaluate._facts import Facts, Measure, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Side = Literal["above", "below", "left", "right"]
Spot = tuple[float, float, Series]


def metric_by_interval(facts: Facts, measure: Measure) -> str:
    """The metric against how many events pass between updates, on average; models that never change at the right."""
    values = facts.values(measure)
    finite = [s.interval for s in facts.series if math.isfinite(s.interval) and s.variant.learns != "fixed"]
    low, high = min(finite, default=1.0), max(finite, default=1.0)
    never = 10 ** (math.log10(high) + max(0.6, 0.16 * math.log10(high / low)))

    def draw(axes: Axes) -> None:
        axes.set_ylim(*_curves.reach(values, room=0.14))
        _best_possible(axes, facts, measure)
        for series, value in zip(facts.series, values):
            if series.variant.learns == "fixed":
                _reference(axes, value, "fixed effect only", series.colour, series.number)
        _speed_layer(axes, facts, values, measure.higher)
        for series, value in zip(facts.series, values):
            _interval_point(axes, series, value, never)
        _interval_axis(axes, low, high, never, any(math.isinf(s.interval) for s in facts.series))
        _canvas.few_ticks(axes)

    return _canvas.svg(f"interval-{measure.key}", f"{measure.label} against update interval", draw)


def _best_possible(axes: Axes, facts: Facts, measure: Measure) -> None:
    """A line if that leaves room for the variants, else a note at the edge that it lies beyond."""
    if facts.optimum is None:
        return
    value, (low, high) = facts.optimum.values[measure.key], axes.get_ylim()
    if low - 0.5 * (high - low) <= value <= high + 0.5 * (high - low):
        axes.set_ylim(*_curves.reach([low, high, value], room=0.04))
        _reference(axes, value, "best possible", "ink")
    elif math.isfinite(value):
        text = f"best possible {_words.number(value, measure.digits)} {'↑' if measure.higher else '↓'}"
        axes.text(
            0.99,
            0.97 if measure.higher else 0.03,
            text,
            transform=axes.transAxes,
            ha="right",
            va="top" if measure.higher else "bottom",
            color=colour("muted"),
            fontsize=10,
        )


def _reference(axes: Axes, value: float, text: str, name: str, number: int | None = None) -> None:
    style = (0, (1, 2)) if number is None else dash(name)
    gid = None if number is None else f"series-{number}"
    axes.axhline(value, color=colour(name), linestyle=style, linewidth=1.4, zorder=2, gid=gid)
    axes.annotate(
        text, (0, value), xycoords=("axes fraction", "data"), xytext=(1, 3), textcoords="offset points",
        color=colour("muted"), fontsize=10,
    )  # fmt: skip


def _speed_layer(axes: Axes, facts: Facts, values: Sequence[float], higher: bool) -> None:
    """Curves over intervals in time (dashed) and in rows.

    On a bursty stream an hour is worth less than as many events as an hour has on average, so names of intervals in
    time stand on the worse side and names of those in rows on the better.
    """
    speed = [s for s in facts.series if s.speed and math.isfinite(s.interval)]
    points = [(s.interval, values[s.number], s) for s in sorted(speed, key=lambda s: s.interval)]
    timed = [p for p in points if isinstance(p[2].variant.every, str)]
    counted = [p for p in points if isinstance(p[2].variant.every, int)]
    worse: Side = "below" if higher else "above"
    better: Side = "above" if higher else "below"
    start = [p for p in points if p[2] is facts.freshest]
    both = len(counted) > 1 and bool(timed)
    _curve(axes, [*start, *(p for p in timed if p not in start)], (0, (4, 2)) if both else "-", worse)
    if both or not timed:
        _curve(axes, [*start, *(p for p in counted if p not in start)], "-", better if both else worse, skip=both)


def _curve(axes: Axes, points: Sequence[Spot], style: Any, side: Side, skip: bool = False) -> None:
    """A line through the points, each with its name where there is room; `skip` leaves the first without."""
    axes.plot([p[0] for p in points], [p[1] for p in points], color=colour("fresh0"), linestyle=style, linewidth=1.4)
    placed = -math.inf
    for k, (x, y, series) in enumerate(points):
        # points this close would write over each other; the freshest speaks for them
        if math.log10(x) - placed > 0.35:
            placed = math.log10(x)
            if k or not skip:
                _name_point(axes, x, y, _words.tick(series.variant.every), side)


def _name_point(axes: Axes, x: float, y: float, text: str, side: Side) -> None:
    shift, ha, va = {
        "above": ((0, 8), "center", "bottom"),
        "below": ((0, -8), "center", "top"),
        "left": ((-9, 0), "right", "center"),
        "right": ((9, 0), "left", "center"),
    }[side]
    ink = colour("ink")
    axes.annotate(text, (x, y), xytext=shift, textcoords="offset points", ha=ha, va=va, color=ink, fontsize=10.5)


def _interval_point(axes: Axes, series: Series, value: float, never: float) -> None:
    if series.variant.learns == "fixed":
        return
    x, front = (series.interval if math.isfinite(series.interval) else never), 7 if series.variant.refit else 6
    axes.plot(
        [x], [value], marker=marker(series.colour), color=colour(series.colour), markersize=8, linestyle="none",
        markeredgecolor=colour("paper"), markeredgewidth=1.2, zorder=front, clip_on=False,
        gid=f"series-{series.number}",
    )  # fmt: skip
    if series.variant.learns == "nothing":
        never_moves = math.isinf(series.interval)
        _name_point(axes, x, value, *(("never", "left") if never_moves else ("refit", "right")))


def _interval_axis(axes: Axes, low: float, high: float, never: float, stale: bool) -> None:
    axes.set_xscale("log")
    powers = [10.0**k for k in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    powers = [p for p in powers if low / 3 <= p <= high * 1.5]
    axes.set_xticks(powers, [_words.short(p) for p in powers])
    axes.minorticks_off()
    axes.set_xlim(low / 1.8, (never if stale else high) * 1.8)
    axes.set_xlabel("events between updates, on average")
