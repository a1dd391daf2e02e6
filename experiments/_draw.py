"""Figures of the experiments: SVG whose bytes depend on the numbers alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

INK, GREY, BLUE, ORANGE, GREEN = "#1f2933", "#9aa5b1", "#2563a8", "#d9722e", "#2f8f5b"


@contextmanager
def figure(path: Path, columns: int, size: tuple[float, float]) -> Iterator[Any]:
    """Axes side by side, saved on leaving."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    settings: Any = {
        "svg.hashsalt": path.stem, "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9.0,
        "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": GREY, "axes.labelcolor": INK,
        "text.color": INK, "xtick.color": INK, "ytick.color": INK,
    }  # fmt: skip
    with mpl.rc_context(settings):
        drawn, axes = plt.subplots(1, columns, figsize=size, layout="constrained")
        yield axes
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn.savefig(path, metadata={"Date": None, "Creator": "nearline"})
        plt.close(drawn)
    # One line ending whatever the platform, and none at a line's end.
    text = path.read_text(encoding="utf-8")
    path.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n", encoding="utf-8", newline="\n")
