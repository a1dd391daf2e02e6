"""Matplotlib figures as small SVGs whose colours and fonts follow the page they stand in.

Figures are drawn in stand-in colours, one per name in `PALETTE`; the SVG then says ``var(--name)`` instead, and a
style sheet decides what that is by day and by night.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Name: (by day, by night). Shades run from the most to the least often updated; lightness carries the order, so that
# it survives any colour blindness, and hue only helps.
PALETTE = {
    "ink": ("#16202c", "#e8edf3"),
    "muted": ("#5b6775", "#9aa7b6"),
    "line": ("#dfe4ea", "#2c3643"),
    "paper": ("#ffffff", "#161d26"),
    "wash": ("#f4f6f9", "#0e141b"),
    "fixed0": ("#6f7a89", "#8b97a6"),
    "fixed1": ("#8a94a1", "#6d7987"),
    "fixed2": ("#525c68", "#b3bdc9"),
    "batch0": ("#cf5f06", "#ff9b4a"),
    "batch1": ("#9c3f00", "#ffc294"),
    "batch2": ("#dc7a30", "#cf6f28"),
    "refit0": ("#b0307f", "#f07fc0"),
    "refit1": ("#7d1258", "#ffb8df"),
    "refit2": ("#cf6bab", "#c4569a"),
    "fresh0": ("#0b3fae", "#a8ccff"),
    "fresh1": ("#1f6fd0", "#6aa7f8"),
    "fresh2": ("#1488ad", "#4796cf"),
    "fresh3": ("#169788", "#369398"),
    "fresh4": ("#3d9f5c", "#3f8a66"),
    "fresh5": ("#7f9c2c", "#62803a"),
}
_STAND_IN = {name: f"#0100{k:02x}" for k, name in enumerate(PALETTE)}
Paint = Callable[[str], str]
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

DASHES: dict[str, Any] = {
    "fixed": (0, (1.2, 1.6)),
    "batch": (0, (5, 2)),
    "refit": (0, (6, 1.6, 1.2, 1.6)),
    "fresh": "-",
}
MARKERS = {"fixed": "s", "batch": "D", "refit": "^", "fresh": "o"}


def colour(name: str) -> str:
    """The stand-in for a colour of the palette."""
    return _STAND_IN[name]


def by_day(name: str) -> str:
    """The colour itself, for formats that have no themes."""
    return PALETTE[name][0]


def dash(name: str) -> Any:
    """The line style that goes with a series' colour, so that colour is never the only sign."""
    return DASHES[name.rstrip("0123456789")]


def marker(name: str) -> str:
    """The marker that goes with a series' colour."""
    return MARKERS[name.rstrip("0123456789")]


def variables(night: bool = False) -> str:
    """The palette as CSS custom properties."""
    return "".join(f"--{name}:{pair[night]};" for name, pair in PALETTE.items())


def svg(name: str, label: str, draw: Callable[[Axes], None], width: float = 380, height: float = 236) -> str:
    """One drawn set of axes as an inline SVG.

    Parameters
    ----------
    name
        Unique in the page; prefixes the few ids that the SVG needs.
    label
        What the plot shows, for those who cannot see it; plain text.
    """
    with styled():
        figure = figure_of(width, height)
        axes = figure.add_subplot()
        draw(axes)
        _fit(axes, width, height)
        text = _write(figure)
    return _inline(text, name, label, width, height)


@contextmanager
def styled(paint: Paint | None = None) -> Iterator[None]:
    """Matplotlib as it comes, whatever the user's own settings, with the report's looks on top."""
    import matplotlib as mpl
    import matplotlib.style

    with mpl.style.context(["default", _looks(paint or colour)]):
        yield


def _looks(colour: Paint) -> dict[str, Any]:
    return {
        "svg.fonttype": "none", "svg.hashsalt": "nearline", "text.parse_math": False, "path.simplify": True,
        "font.size": 11, "font.family": "DejaVu Sans", "text.color": colour("ink"),
        "axes.edgecolor": colour("line"), "axes.labelcolor": colour("muted"), "axes.linewidth": 1.0,
        "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
        "axes.axisbelow": True, "axes.grid": True, "axes.grid.axis": "y",
        "grid.color": colour("line"), "grid.linewidth": 1.0,
        "xtick.color": colour("line"), "ytick.color": colour("line"),
        "xtick.labelcolor": colour("muted"), "ytick.labelcolor": colour("muted"),
        "xtick.labelsize": 11, "ytick.labelsize": 11, "axes.labelsize": 11,
        "ytick.major.size": 0, "ytick.minor.size": 0, "xtick.major.size": 4, "xtick.minor.size": 0,
        "xtick.major.pad": 3, "ytick.major.pad": 4, "lines.solid_capstyle": "round", "lines.dash_capstyle": "butt",
        "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none",
    }  # fmt: skip


def few_ticks(axes: Axes, count: int = 5, whole: bool = False) -> None:
    """At most so many labels on the vertical axis, at round (or whole) numbers."""
    from matplotlib.ticker import MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(count, steps=[1, 2, 2.5, 5, 10], integer=whole))


def figure_of(width: float, height: float) -> Figure:
    """A figure of so many units, one unit being a point."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / 72, height / 72), dpi=72)


def _fit(axes: Axes, width: float, height: float) -> None:
    """Fill the figure but for the labels; a margin in units rather than shares keeps plots aligned on the page."""
    left, right, top = 46, 14, 8
    bottom = 38 if axes.get_xlabel() else 22
    inner = ((width - left - right) / width, (height - bottom - top) / height)
    axes.set_position((left / width, bottom / height, *inner))


def _write(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", facecolor="auto", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return out.getvalue()


def _inline(text: str, name: str, label: str, width: float, height: float) -> str:
    from html import escape

    body = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
    body = _unique(_lean(body), name)
    return (
        f'<svg class="plot" role="img" aria-label="{escape(label)}" viewBox="0 0 {width:g} {height:g}">'
        f"{themed(body)}</svg>"
    )


def _lean(body: str) -> str:
    """Without comments, metadata, the document-wide style and digits that no screen shows."""
    for pattern in (r"<!--.*?-->", r"<metadata>.*?</metadata>", r"<defs>\s*<style.*?</style>\s*</defs>"):
        body = re.sub(pattern, "", body, flags=re.DOTALL)
    # only what a tag says: a label keeps its digits
    body = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(-?\d+\.\d\d)\d+", r"\1", tag[0]), body)
    return re.sub(r"\s*\n\s*", " ", body).replace("> <", "><").replace("xlink:href", "href")


def _unique(body: str, name: str) -> str:
    """Series become classes; ids that something points at get the plot's name in front; other ids go."""
    body = re.sub(r'id="series-(\d+)"', r'class="series v\1"', body)
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', body))
    body = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", body)
    return re.sub(r'(url\(|href=")#', rf"\1#{name}-", body)


def themed(text: str) -> str:
    """Stand-in colours and matplotlib's fonts become the page's."""
    for name, code in _STAND_IN.items():
        text = text.replace(code, f"var(--{name})")
    return re.sub(r"(font(?:-family)?: [^'\";]*)'DejaVu Sans'[^;\"]*", r"\1var(--font)", text)


def standalone(figure: Figure) -> str:
    """A figure as an SVG file of its own, light by day and dark by night."""
    text = themed(re.sub(r"<metadata>.*?</metadata>", "", _write(figure), flags=re.DOTALL))
    style = f"svg{{{variables()}--font:{FONT};}}@media (prefers-color-scheme:dark){{svg{{{variables(True)}}}}}"
    return re.sub(r'(<style type="text/css">)', rf"\1{style}", text, count=1)
