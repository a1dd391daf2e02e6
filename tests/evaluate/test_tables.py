"""The tables of the report: the best in bold, learned priors in readable units, metrics with intervals."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from tests.evaluate.parts import checked, made

from nearline import evaluate
from nearline.evaluate import Backtest, Outcome, Variant
from nearline.evaluate._report import render
from nearline.glmix import LearnedPriors
from nearline.glmix._effects import Forgetting, Prior
from nearline.glmix._state import Belief


def test_table_marks_the_best_of_each_metric_and_what_ties_with_it_in_print(page):
    row = re.search(r"<tr class=\"v5\">.*?</tr>", page)[0]
    assert row.count("<b>") == 2
    assert page.count("<b>") == 2 + 1  # and the title
    result = made(500)
    twin = Outcome(Variant("twin"), result.outcomes[-1].margin, 1.0, 500)
    again = render(made(500, outcomes=(*result.outcomes, twin)))
    assert again.count("<b>") == 4 + 1


def test_priors_are_told_in_readable_units():
    covariance = np.array([[0.5, 0.1], [0.1, 0.2]])
    beliefs = {
        "fixed": Belief(Prior(variance=0.25), Forgetting(half_life=36 * 3600.0)),
        "user": Belief(
            Prior(variance={"(intercept)": 1.0, "genres": 0.0625}),
            Forgetting(walk_per_event={"(intercept)": 0.01}, walk_per_day={"genres": 0.002}),
            covariance=covariance,
        ),
        "ad": Belief(Prior(), Forgetting(form="per_update", delta=0.99)),
    }
    page = render(made(200, learned=LearnedPriors(0.61, 0.58, 42, beliefs)))
    text = " ".join(checked(page).text)
    for said in (
        "42 times", "The loss one step ahead went from 0.6100 to 0.5800", "1.5 days, reverting", "all 0.25",
        "(intercept) 0.01 per event", "genres 0.002 per day", "δ = 0.99 per update", "never forgets",
        "0.2 to 0.5 over 2 coefficients jointly", f"strongest correlation {0.1 / math.sqrt(0.1):.2f}",
    ):  # fmt: skip
        assert said in text
    rising = render(made(200, learned=LearnedPriors(-0.61, -0.58, 1, {})))
    assert "The log evidence of an event went from -0.6100 to -0.5800" in rising


def test_metrics_that_were_asked_for_have_a_section_with_intervals() -> None:
    rng = np.random.default_rng(0)
    y, codes = rng.integers(0, 2, 400).astype(float), rng.integers(0, 20, 400).astype(np.int32)
    outcome = Outcome(Variant("per event"), rng.normal(size=400), seconds=0.1, updates=400)
    names = ("brier", "ndcg@5 by user_id")
    result = Backtest("toy", "logit", y, np.ones(400), np.arange(400.0), {"user_id": codes}, 10, (outcome,), None, None,
                      metrics=names)  # fmt: skip
    row = result.table()[0]
    assert row["brier"] == pytest.approx(evaluate.brier(y, result.prediction("per event")))
    assert set(names) < set(row)
    page = render(result)
    found = result.measured(result.further()[1], "per event")
    assert "Further metrics" in page
    assert f'{found.estimate:.4f}</b><div class="quiet">{found.low:.4f} to {found.high:.4f}</div>' in page
    assert "Calibration error" in page
    assert "Further metrics" not in render(replace(result, metrics=()))
