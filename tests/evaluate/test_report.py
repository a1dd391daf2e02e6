"""A report can be made of whatever a backtest holds: few rows, odd columns, one class, a million rows."""

from __future__ import annotations

import time

import numpy as np
import pytest
from tests.evaluate.parts import SIX, START, checked, made

from nearline.evaluate import Outcome, _curves, _facts
from nearline.evaluate._report import render, write_report


@pytest.mark.parametrize("link", ["logit", "identity", "log"])
@pytest.mark.parametrize(
    ("n", "kinds", "truth"),
    [
        (1, SIX, True),
        (2, ("fixed", "event"), False),
        (10, SIX, False),
        (10, ("event",), True),
        (300, ("stale",), False),
        (700, SIX, False),
        (700, ("refit", "event"), True),
    ],
)
def test_any_link_size_and_choice_of_variants_renders(link, n, kinds, truth):
    page = render(made(n, link, kinds, truth))
    checked(page)
    assert ("AUC" in page) == (link == "logit")
    assert ("best possible" in page) == truth


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_constant_labels_leave_auc_out_and_the_rest_in(label):
    page = render(made(900, label=np.full(900, label)))
    checked(page)
    assert "nan" not in "".join(checked(page).text).lower().split()


def test_one_class_in_a_window_leaves_a_gap_there_only():
    result = made(3000)
    facts = _facts.gather(made(3000, label=np.where(np.arange(3000) < 1000, 0.0, result.label)))
    edges = _curves.window_edges(3000)
    values = _curves.over_time(facts, facts.measures[1], edges, facts.series[0].prediction)
    assert np.isnan(values).tolist() == (edges[1:] <= 1000).tolist()
    checked(render(facts.result))


@pytest.mark.parametrize(
    "changes",
    [
        {"time": np.zeros(800)},
        {"time": np.arange(800.0)},
        {"time": np.arange(800.0) * 1e9},
        {"time": START + np.arange(800) * 1e-3},
        {"weight": np.zeros(800)},
        {"weight": np.r_[np.zeros(790), np.full(10, 1e6)]},
        {"entities": {}},
        {"entities": {"k": np.full(800, -1, np.int32)}},
        {"entities": {"k": np.zeros(800, np.int32)}},
        {"entities": {"k": np.arange(800, dtype=np.int32)}},
        {"history_rows": 0},
    ],
)
def test_odd_columns_render(changes):
    checked(render(made(800, **changes)))


def test_equal_and_certain_predictions_render():
    result = made(500)
    for margin in (np.zeros(500), np.full(500, 40.0), np.where(result.label == 1, -60.0, 60.0)):
        outcomes = tuple(Outcome(o.variant, margin, 0.0, o.updates) for o in result.outcomes)
        checked(render(made(500, outcomes=outcomes)))


def test_million_rows_take_seconds_and_the_page_stays_small():
    result = made(1_000_000)
    began = time.process_time()
    page = render(result)
    assert time.process_time() - began < 15
    assert len(page) < 300_000


def test_write_report_makes_folders_and_returns_the_path(tmp_path):
    result = made(50)
    path = write_report(result, str(tmp_path / "deep" / "report.html"))
    assert path == tmp_path / "deep" / "report.html"
    assert path.read_text(encoding="utf-8") == render(result)
