"""The README's figure: what freshness is worth on one stream, as a file of its own."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nearline._errors import ConfigError
from nearline.evaluate import _canvas, _curves, _words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Point = tuple[str, float, float]
Value = tuple[str, float]

# Characters of a rival's name that fit over one panel.
_LONGEST = 44


def save_freshness_figure(path: str | Path, points: Sequence[Point], rival: Point | None = None) -> None:
    """Draw AUC and log loss against the update interval, as SVG (light by day, dark by night), PNG or PDF.

    Parameters
    ----------
    path
        Where to write; the suffix says the format.
    points
        (interval, AUC, log loss), such as ``("1,000 events", 0.881, 0.331)``. Intervals in events lie on a log axis;
        others, such as ``"day"``, stand to the right of it.
    rival
        (name, AUC, log loss) of what nearline is compared with, as a horizontal line.

    Raises
    ------
    ConfigError
        For another suffix, or without points.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".svg", ".png", ".pdf"):
        raise ConfigError(
            f"save_freshness_figure writes .svg, .png or .pdf, not {suffix!r}; rename {Path(path).name!r}"
        )
    Path(path).write_bytes(figure_freshness(points, rival, suffix))


def figure_freshness(points: Sequence[Point], rival: Point | None = None, suffix: str = ".svg") -> bytes:
    """The figure of `save_freshness_figure` as bytes."""
    if not points:
        raise ConfigError("figure_freshness needs at least one point; pass (interval, AUC, log loss)")
    paint = _canvas.colour if suffix == ".svg" else _canvas.by_day
    with _canvas.styled(paint):
        figure = _freshness(points, rival, paint)
        if suffix == ".svg":
            return _canvas.standalone(figure).encode()
        out = io.BytesIO()
        dated = {"CreationDate": None} if suffix == ".pdf" else {"Software": None}
        figure.savefig(out, format=suffix[1:], dpi=200, facecolor="auto", metadata=dated)
        return out.getvalue()


def _freshness(points: Sequence[Point], rival: Point | None, paint: _canvas.Paint) -> Figure:
    figure = _canvas.figure_of(860, 320)
    figure.set_facecolor(paint("paper"))
    for k, (title, better) in enumerate((("AUC", "higher is better"), ("Log loss", "lower is better"))):
        axes = figure.add_axes((0.065 + 0.49 * k, 0.2, 0.43, 0.62))
        values = [_value(point, k) for point in points]
        _panel(axes, values, None if rival is None else _value(rival, k), paint, higher=k == 0)
        figure.text(0.065 + 0.49 * k, 0.91, title, fontsize=15, fontweight="bold", color=paint("ink"))
        figure.text(0.495 + 0.49 * k, 0.91, better, ha="right", color=paint("muted"))
    return figure


def _value(point: Point, metric: int) -> Value:
    name, auc, log_loss = point
    return name, log_loss if metric else auc


def _panel(axes: Axes, values: list[Value], rival: Value | None, paint: _canvas.Paint, higher: bool) -> None:
    counted = sorted((n, v) for name, v in values if (n := _events(name)) is not None)
    named = [(name, v) for name, v in values if _events(name) is None]
    end = math.log10(counted[-1][0]) if counted else -1.0
    x, spots = [math.log10(n) for n, _ in counted], [end + 1 + k for k in range(len(named))]
    blue = paint("fresh1")
    axes.plot(x, [v for _, v in counted], color=blue, linewidth=2.4, marker="o", markersize=7)
    axes.plot(spots, [v for _, v in named], color=blue, linestyle="none", marker="D", markersize=7)
    for place, (_, value) in zip([*x, *spots], [*counted, *named]):
        _write_value(axes, place, value, paint, higher)
    axes.set_xticks([*x, *spots], [*(_words.short(n) for n, _ in counted), *(name for name, _ in named)])
    axes.set_xlim(-0.35, max([*x, *spots]) + 0.6)
    axes.set_xlabel("updated every … events")
    shown = [v for _, v in values]
    if rival is not None:
        last = counted[-1][1] if counted else shown[0]
        _draw_rival(axes, rival, paint, above=last < rival[1])
        shown.append(rival[1])
    axes.set_ylim(*_curves.reach(shown, room=0.1))
    _canvas.few_ticks(axes)


def _write_value(axes: Axes, x: float, value: float, paint: _canvas.Paint, higher: bool) -> None:
    """On the side from which the curve does not come."""
    shift, va = ((5, 4), "bottom") if higher else ((5, -4), "top")
    axes.annotate(
        f"{value:.3f}", (x, value), xytext=shift, textcoords="offset points", va=va, color=paint("ink"), fontsize=10.5,
        bbox={"facecolor": paint("paper"), "edgecolor": "none", "pad": 0.6},
    )  # fmt: skip


def _draw_rival(axes: Axes, rival: Value, paint: _canvas.Paint, above: bool) -> None:
    """A line, with its name at the right on the side that the curve has left."""
    name = rival[0] if len(rival[0]) <= _LONGEST else rival[0][: _LONGEST - 1] + "…"
    orange = paint("batch0")
    axes.axhline(rival[1], color=orange, linestyle=(0, (5, 2)), linewidth=1.8)
    axes.annotate(
        f"{name} {rival[1]:.3f}", (1, rival[1]), xycoords=("axes fraction", "data"), xytext=(0, 4 if above else -4),
        textcoords="offset points", ha="right", va="bottom" if above else "top", color=orange, fontsize=10.5,
    )  # fmt: skip


def _events(interval: str) -> int | None:
    """How many events an interval is, if it is one in events."""
    found = re.fullmatch(r"([\d,_]*) ?(?:events?)?", interval.strip())
    if found is None:
        return None
    return int(re.sub(r"[,_]", "", found[1]) or 1)
