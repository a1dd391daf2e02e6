"""The dashboard is safe, and made for people: names stay text, it fits, and it can be read."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.serve.dashboard.parts import HOSTILE, STATIC, Service, expect, visit


def test_hostile_names_are_text(page: Any, service: Service) -> None:
    visit(page, service)
    assert page.get_by_text(HOSTILE, exact=True).count() == 3  # an entity, a feature and a reason
    assert page.locator("img").count() == 0


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_sticks_out(page: Any, service: Service, width: int) -> None:
    long = "member_" + "x" * 200
    service.status["busiest"][0].update(entity=long, effect=long)
    service.status["versions"]["history"][0].update(why=long, who=long)
    page.set_viewport_size({"width": width, "height": 844})
    visit(page, service)
    expect(page, "busiest", "xxx")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_follows_the_colour_scheme(page: Any, service: Service) -> None:
    visit(page, service)
    paint = "getComputedStyle(document.body).backgroundColor"
    page.emulate_media(color_scheme="light")
    light = page.evaluate(paint)
    page.emulate_media(color_scheme="dark")
    assert sum(rgb(light)) > 600
    assert sum(rgb(page.evaluate(paint))) < 120


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(page: Any, service: Service, scheme: str) -> None:
    """WCAG 2.2, 1.4.3: a contrast of at least 4.5 to 1."""
    page.emulate_media(color_scheme=scheme)
    visit(page, service)
    for element in (
        ".about",
        "dt",
        ".verdict",
        ".pill",
        ".connection",
        "#history .why",
        ".hint",
        ".facts dt",
        "#lift-mean",
    ):
        assert page.locator(element).first.evaluate(CONTRAST) >= 4.5, element


CONTRAST = """(node) => {
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map((v) => linear(v / 255))
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  let ground = node;
  while (/(, 0\\)|transparent)$/.test(getComputedStyle(ground).backgroundColor)) ground = ground.parentElement;
  const [a, b] = [getComputedStyle(node).color, getComputedStyle(ground).backgroundColor].map(light);
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""


def rgb(colour: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", colour)[:3]]


def test_the_page_loads_nothing_from_elsewhere_and_builds_no_markup_from_strings() -> None:
    files = {file.name: file.read_text("utf-8") for file in STATIC.iterdir()}
    assert {"index.html", "app.js", "style.css"} <= set(files)
    for name, source in files.items():
        assert not re.search(r"(src|href)=.https?:|url\(|@import|from .https?:", source), name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|localStorage", source), (
            name
        )
        assert not re.search(r"<[^>]* (style|on\w+)=", source), name
