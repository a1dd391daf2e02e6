"""The README's figure of what freshness is worth."""

from __future__ import annotations

import re

import pytest

from nearline import _errors
from nearline.evaluate._plots import figure_freshness, save_freshness_figure

POINTS = [("event", 0.89, 0.32), ("10 events", 0.887, 0.33), ("1,000 events", 0.85, 0.37), ("day", 0.834, 0.39)]


def test_freshness_figure_is_deterministic_svg_with_both_themes(tmp_path):
    rival = ("best VW $a$", 0.878, 0.338)
    save_freshness_figure(tmp_path / "a.svg", POINTS, rival)
    text = (tmp_path / "a.svg").read_text()
    assert text == figure_freshness(POINTS, rival).decode()
    assert "prefers-color-scheme:dark" in text
    assert "best VW $a$ 0.878" in text
    assert re.findall(r"#0100\w\w", text) == []
    assert "<dc:date>" not in text
    for label in ("1", "10", "1k", "day"):
        assert f">{label}</text>" in text


def test_freshness_figure_of_one_point_without_rival_and_as_an_image(tmp_path):
    save_freshness_figure(tmp_path / "a.png", POINTS[:1])
    first = (tmp_path / "a.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    assert figure_freshness(POINTS[:1], suffix=".png") == first
    assert figure_freshness(POINTS[-1:], POINTS[0]).startswith(b"<?xml")


def test_freshness_figure_refuses_what_it_cannot_write(tmp_path):
    with pytest.raises(_errors.ConfigError, match=r"\.gif"):
        save_freshness_figure(tmp_path / "a.gif", POINTS)
    with pytest.raises(_errors.ConfigError, match="at least one point"):
        save_freshness_figure(tmp_path / "a.svg", [])
