"""The colours of the plots: they are the page's own, and stand out from the paper by day and by night."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest

from nearline.evaluate import _canvas, _facts


def test_colours_and_fonts_are_the_pages_own(page):
    drawn = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    assert re.findall(r"#[0-9a-f]{6}\b", drawn) == []
    assert "DejaVu" not in drawn
    used = set(re.findall(r"var\(--([a-z]+\d?)\)", drawn)) - {"w", "c", "font"}
    assert used <= set(_canvas.PALETTE)
    assert {"fixed0", "batch0", "refit0", "fresh0", "fresh1", "fresh2", "ink"} <= used


def _contrast(a: str, b: str) -> float:
    """Contrast ratio of WCAG 2.2."""
    light = []
    for colour in (a, b):
        c = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        light.append(float(linear @ [0.2126, 0.7152, 0.0722]))
    return (max(light) + 0.05) / (min(light) + 0.05)


@pytest.mark.parametrize("night", [0, 1])
def test_colours_stand_out_from_the_paper_and_shades_fall_in_order(night):
    paper = _canvas.PALETTE["paper"][night]
    contrast = {name: _contrast(pair[night], paper) for name, pair in _canvas.PALETTE.items()}
    assert min(contrast["ink"], contrast["muted"]) >= 4.5
    series = [name for name in contrast if name[-1].isdigit()]
    assert min(contrast[name] for name in series) >= 3.0
    shades = [contrast[f"fresh{k}"] for k in range(_facts.SHADES)]
    assert all(a > b for a, b in pairwise(shades))
