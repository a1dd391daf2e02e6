"""The conclusion of a backtest, and its numbers as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nearline import evaluate
from nearline.cli import _show


def result(link: str, margins: dict[str, float], learns: str = "nothing") -> evaluate.Backtest:
    """A backtest in which each variant always says the same."""
    label, flat = np.array([0.0, 1.0, 1.0, 1.0]), np.ones(4)
    variants = [
        evaluate.Variant(name, learns="all" if name == "fresh" else learns)  # type: ignore[arg-type]
        for name in margins
    ]
    outcomes = tuple(
        evaluate.Outcome(variant, margin * flat, 0.0, 0) for variant, margin in zip(variants, margins.values())
    )
    return evaluate.Backtest("toy", link, label, flat, np.arange(4.0), {}, 1, outcomes, None, None)


def test_the_conclusion_compares_with_what_does_not_learn() -> None:
    found = result("logit", {"stale": 0.0, "fresh": float(np.log(3))})
    # log loss of a constant p is its cross entropy: ln 2 at p = 1/2, H(3/4) at p = 3/4
    best = -0.75 * np.log(0.75) - 0.25 * np.log(0.25)
    gain = 1 - best / np.log(2)
    assert _show.conclusion(found) == f"fresh predicts best: log loss {best:.4f}, {gain:.1%} below stale."


def test_the_conclusion_is_honest_when_learning_does_not_help() -> None:
    found = result("logit", {"stale": float(np.log(3)), "fresh": 0.0})
    assert _show.conclusion(found).startswith("stale predicts best")


@pytest.mark.parametrize(("link", "loss"), [("identity", "RMSE 0.4330"), ("log", "deviance")])
def test_other_links_have_their_own_loss(link: str, loss: str) -> None:
    margin = 0.75 if link == "identity" else float(np.log(0.75))
    assert loss in _show.conclusion(result(link, {"stale": -2.0, "fresh": margin}))


def test_one_variant_alone_is_compared_with_nothing() -> None:
    assert _show.conclusion(result("logit", {"fresh": 0.0})) == "fresh predicts best: log loss 0.6931."


def test_numbers_that_do_not_exist_are_null_in_json() -> None:
    found = json.loads(_show.as_json(result("logit", {"fresh": 0.0}), Path("r.html")))
    assert found["variants"][0]["events_per_s"] is None
