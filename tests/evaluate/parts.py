"""Backtests of a made-up stream, and a reading of the page about them."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import numpy as np

from nearline.evaluate import Backtest, Outcome, Variant

DAY = 86_400.0
START = 956_703_932.0
SIX = ("fixed", "stale", "refit", "day", "hour", "event")


def variants(n: int) -> dict[str, tuple[Variant, int]]:
    """Each kind of variant with the number of updates it makes in n rows."""
    return {
        "fixed": (Variant("fixed only", learns="fixed"), n),
        "stale": (Variant("stale batch", learns="nothing"), 0),
        "refit": (Variant("refitted", learns="nothing", refit=max(1, n // 4)), 3),
        "day": (Variant("per day", every="1d"), max(1, n // 500)),
        "hour": (Variant("per hour", every="1h"), max(1, n // 20)),
        "event": (Variant("per event"), n),
    }


def made(
    n: int = 3000,
    link: str = "logit",
    kinds: tuple[str, ...] = SIX,
    truth: bool = True,
    seed: int = 0,
    **changes: Any,
) -> Backtest:
    """A backtest whose variants see the true score through less and less noise."""
    rng = np.random.default_rng(seed)
    score = rng.normal(0, 1.5, n)
    mean = {"logit": 1 / (1 + np.exp(-score)), "identity": score, "log": np.exp(score)}[link]
    label = {
        "logit": lambda: (rng.random(n) < mean).astype(float),
        "identity": lambda: score + rng.normal(0, 1, n),
        "log": lambda: rng.poisson(mean).astype(float),
    }[link]()
    noise = dict(zip(SIX, (1.4, 1.2, 0.9, 0.8, 0.5, 0.3)))
    outcomes = tuple(
        Outcome(v, score + rng.normal(0, noise[kind], n), seconds=0.5 + noise[kind], updates=updates)
        for kind, (v, updates) in variants(n).items()
        if kind in kinds
    )
    entities = {
        "user_id": rng.integers(0, max(2, n // 30), n).astype(np.int32),
        "ad_id": rng.integers(-1, 8, n).astype(np.int32),
    }
    when = START + np.sort(rng.uniform(0, 6 * DAY, n))
    fields = {
        "title": "a made-up stream", "link": link, "label": label, "weight": np.ones(n), "time": when,
        "entities": entities, "history_rows": n // 9, "outcomes": outcomes, "truth": mean if truth else None,
        "learned": None,
    }  # fmt: skip
    return Backtest(**(fields | changes))


class Checker(HTMLParser):
    """Fails on unbalanced tags and collects ids, tags and attributes."""

    VOID = frozenset({"meta", "br", "img", "hr", "link", "input"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def checked(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    assert len(set(checker.ids)) == len(checker.ids)
    return checker
