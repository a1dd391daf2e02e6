"""The report of a backtest: what its sentence claims, what its plots are drawn from, and that it stands on its own."""

from __future__ import annotations

import hashlib
import math
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline import _errors, evaluate
from nearline.evaluate import Backtest, Outcome, Variant, _canvas, _curves, _facts, _headline, _words
from nearline.evaluate._plots import figure_freshness, save_freshness_figure
from nearline.evaluate._report import render, write_report
from nearline.glmix import LearnedPriors
from nearline.glmix._effects import Forgetting, Prior
from nearline.glmix._state import Belief

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


def outside(checker: Checker) -> list[str]:
    """Attributes that would make a browser fetch something."""
    fetching = {"src", "href", "xlink:href", "data", "srcset", "action", "poster"}
    return [v or "" for k, v in checker.attributes if k in fetching and not (v or "").startswith("#")]


@pytest.fixture(scope="module")
def page() -> str:
    return render(made())


# The page as a whole.


def test_page_is_balanced_html_with_unique_ids_and_every_reference_resolves(page):
    checker = checked(page)
    pointed_at = set(re.findall(r'(?:url\(|href=")#([^)"]+)', page))
    assert pointed_at <= set(checker.ids)


def test_page_fetches_and_runs_nothing(page):
    checker = checked(page)
    assert outside(checker) == []
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(checker.tags)
    assert "http" not in page.replace("http-equiv", "")
    assert not [name for name, _ in checker.attributes if name.startswith("on")]
    assert "default-src 'none'" in page


def test_same_backtest_gives_the_same_page_in_another_process_whatever_its_hash_seed(page):
    code = (
        "import sys, hashlib; sys.path.insert(0, sys.argv[1]); import test_report as t;"
        "print(hashlib.sha256(t.render(t.made()).encode()).hexdigest())"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent)]
    elsewhere = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=elsewhere)
    assert done.stdout.strip() == hashlib.sha256(page.encode()).hexdigest()


def test_matplotlib_is_loaded_late_without_pyplot_and_its_settings_neither_leak_in_nor_out(page):
    import matplotlib as mpl

    with mpl.rc_context({"svg.fonttype": "path", "font.size": 30, "axes.grid": False, "lines.linewidth": 9}):
        before = dict(mpl.rcParams)
        assert render(made()) == page
        assert dict(mpl.rcParams) == before
    code = (
        "import sys, nearline.evaluate._report as r; assert 'matplotlib' not in sys.modules;"
        "r._plots.figure_freshness([('event', 0.9, 0.3)]); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_section_is_there_in_order(page):
    order = [
        "<h1>", "<table", "Over time", "Against the update interval", "Calibration", "Lift by entity", "Cost",
        "What was run",
    ]  # fmt: skip
    places = [page.index(f"<h2>{name}" if not name.startswith("<") else name) for name in order]
    assert places == sorted(places)


def test_every_plot_says_what_it_shows_and_has_a_caption(page):
    plots = re.findall(r'<svg class="plot" role="img" aria-label="([^"]+)"', page)
    captions = re.findall(r"<figcaption>(.+?)</figcaption>", page)
    # 4 over time, 2 by interval, 6 reliability, 2 by 2 lift, 1 cost
    assert len(plots) == len(captions) == 17
    assert all(plots)


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


HOSTILE = "<script>alert(1)</script>&\"' $x_1$ \\frac ${ 日本 🙂 -->"


def test_what_users_name_is_escaped_and_never_drawn():
    result = made(600, title=HOSTILE)
    named = tuple(
        Outcome(Variant(f"{HOSTILE}{k}", v.learns, v.every, v.refit), o.margin, o.seconds, o.updates)
        for k, o in enumerate(result.outcomes)
        for v in [o.variant]
    )
    belief = Belief(Prior(variance={HOSTILE: 0.5, "*": 1.0}), Forgetting(walk_per_event={HOSTILE: 0.1}))
    page = render(
        made(
            600, title=HOSTILE, outcomes=named, entities={HOSTILE: result.entities["user_id"]},
            learned=LearnedPriors(0.5, 0.4, 3, {HOSTILE: belief}),
        )
    )  # fmt: skip
    checker = checked(page)
    assert "script" not in checker.tags
    assert "".join(checker.text).count("<script>alert(1)</script>") >= 12


# Whatever there is to report.


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


# The sentence.


def test_sentence_says_the_relative_change_of_the_log_loss_and_the_share_captured():
    result = made(20_000)
    y = result.label
    loss = {o.variant.name: evaluate.log_loss(y, result.prediction(o.variant.name)) for o in result.outcomes}
    best = evaluate.log_loss(y, result.truth)
    gain = 100 * (1 - loss["per event"] / loss["per day"])
    share = 100 * (loss["fixed only"] - loss["per event"]) / (loss["fixed only"] - best)
    said = _headline.headline(_facts.gather(result)).replace(_words.NBSP, " ")
    assert said == (
        f"Updating after every event instead of every day lowers log loss by {gain:.1f} % and captures {share:.0f} % "
        "of what could be gained over the fixed effect alone."
    )


def test_sentence_without_truth_names_both_aucs():
    result = made(5000, truth=False)
    auc = {row["variant"]: row["auc"] for row in result.table()}
    said = _headline.headline(_facts.gather(result))
    assert said.endswith(f"and takes AUC from {auc['per day']:.3f} to {auc['per event']:.3f}.")


def test_sentence_admits_a_loss():
    result = made(8000)
    margins = [o.margin for o in result.outcomes]
    swapped = tuple(
        Outcome(o.variant, m, o.seconds, o.updates) for o, m in zip(result.outcomes, [*margins[:-3], *margins[:-4:-1]])
    )
    assert " raises log loss by " in _headline.headline(_facts.gather(made(8000, outcomes=swapped)))


def test_sentence_claims_no_difference_that_the_rows_cannot_tell():
    result = made(400)
    jitter = result.outcomes[3].margin + np.random.default_rng(1).normal(0, 1e-3, 400)
    outcomes = (*result.outcomes[:-1], Outcome(result.outcomes[-1].variant, jitter, 1.0, 400))
    said = _headline.headline(_facts.gather(made(400, outcomes=outcomes)))
    assert "makes no difference to log loss that 400 events can tell" in said


@given(st.integers(0, 2**32), st.sampled_from(["logit", "identity", "log"]))
@settings(max_examples=20, deadline=None)
def test_change_is_that_of_the_metric_in_the_table_and_lies_in_its_interval(seed, link):
    facts = _facts.gather(made(300, link, seed=seed, weight=np.random.default_rng(seed).gamma(1.0, size=300)))
    old, new = facts.series[0], facts.series[-1]
    found = _headline.change(facts, old, new)
    values = facts.values(facts.measures[0])
    assert found.gain == pytest.approx(1 - values[-1] / values[0], abs=1e-9)
    assert found.low <= found.gain <= found.high


def test_interval_of_the_change_covers_at_its_level():
    """200 streams of two equally good variants: 95 % of the intervals hold 0, within three standard errors."""
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        base = made(800, kinds=("day", "event"), seed=seed)
        score = rng.normal(0, 1, 800)
        label = (rng.random(800) < 1 / (1 + np.exp(-score))).astype(float)
        outcomes = tuple(
            Outcome(o.variant, score + rng.normal(0, 0.5, 800), o.seconds, o.updates) for o in base.outcomes
        )
        facts = _facts.gather(made(800, outcomes=outcomes, label=label, truth=False))
        covered += not _headline.change(facts, *facts.series).clear
    assert 0.95 - 3 * math.sqrt(0.95 * 0.05 / 200) <= covered / 200


def test_comparison_prefers_the_daily_variant_then_the_slowest_then_what_does_not_learn():
    facts = _facts.gather(made(900))
    assert (facts.freshest.name, facts.slower.name, facts.baseline.name) == ("per event", "per day", "fixed only")
    facts = _facts.gather(made(900, kinds=("stale", "refit", "hour", "event")))
    assert (facts.slower.name, facts.baseline.name) == ("per hour", "stale batch")
    facts = _facts.gather(made(900, kinds=("stale", "refit", "event")))
    assert (facts.slower.name, facts.baseline.name) == ("refitted", "stale batch")
    facts = _facts.gather(made(900, kinds=("event",)))
    assert (facts.slower, facts.baseline) == (None, None)


# The numbers behind the tables and plots.


def test_table_marks_the_best_of_each_metric_and_what_ties_with_it_in_print(page):
    row = re.search(r"<tr class=\"v5\">.*?</tr>", page)[0]
    assert row.count("<b>") == 2
    assert page.count("<b>") == 2 + 1  # and the title
    result = made(500)
    twin = Outcome(Variant("twin"), result.outcomes[-1].margin, 1.0, 500)
    again = render(made(500, outcomes=(*result.outcomes, twin)))
    assert again.count("<b>") == 4 + 1


def test_losses_add_up_to_the_metric_of_each_link():
    for link, key, root in (("logit", "log_loss", 1), ("log", "deviance", 1), ("identity", "rmse", 2)):
        facts = _facts.gather(made(400, link, weight=np.random.default_rng(2).gamma(1.0, size=400)))
        for series, value in zip(facts.series, facts.values(facts.measures[0])):
            mean = facts.total(series.loss) / facts.result.weight.sum()
            assert facts.measures[0].key == key
            assert mean ** (1 / root) == pytest.approx(value, rel=1e-9)
        mean = facts.total(facts.optimum.loss) / facts.result.weight.sum()
        assert mean ** (1 / root) == pytest.approx(facts.optimum.values[key], rel=1e-9)


def test_shades_follow_how_often_variants_update_and_never_run_out():
    outcomes = tuple(Outcome(Variant(f"v{k}", every=10**k), np.zeros(99), 1.0, 99 // 10**k + k) for k in range(9))
    colours = [s.colour for s in _facts.gather(made(99, outcomes=outcomes)).series]
    ranked = [c for _, c in sorted(zip([o.updates for o in outcomes], colours), reverse=True)]
    assert ranked == sorted(ranked)
    assert (ranked[0], ranked[-1]) == ("fresh0", "fresh5")
    assert set(colours) <= set(_canvas.PALETTE)


@given(st.integers(1, 10**6))
def test_windows_cover_the_rows_without_an_empty_one(rows):
    edges = _curves.window_edges(rows)
    assert (edges[0], edges[-1]) == (0, rows)
    assert np.diff(edges).min() >= 1
    assert len(edges) <= 41


def test_windows_of_the_metric_are_the_metric_of_the_windows():
    facts = _facts.gather(made(2000))
    edges = _curves.window_edges(2000)
    p = facts.series[2].prediction
    for measure, metric in zip(facts.measures, (evaluate.log_loss, evaluate.auc)):
        expected = evaluate.windowed(metric, facts.result.label, p, edges)
        np.testing.assert_allclose(_curves.over_time(facts, measure, edges, p), expected)


def test_calibration_of_distinct_predictions_is_that_of_the_quantile_reliability():
    rng = np.random.default_rng(3)
    p = rng.random(4000)
    y, w = (rng.random(4000) < p).astype(float), rng.gamma(2.0, size=4000)
    found = _curves.calibration(y, p, w)
    expected = evaluate.reliability(y, p, 10, w, "quantile")
    np.testing.assert_allclose(found.predicted, expected.predicted, rtol=1e-9)
    np.testing.assert_allclose(found.actual, expected.actual, rtol=1e-9)
    assert found.rows.sum() == 4000
    # a calibrated forecast is within three of its standard errors
    assert np.all(np.abs(found.actual - found.predicted) < 3 * found.error)


def test_calibration_error_is_the_binomial_one_when_weights_are_equal():
    y = np.r_[np.ones(30), np.zeros(70)]
    found = _curves.calibration(y, np.full(100, 0.3), np.ones(100))
    assert found.error.tolist() == pytest.approx([math.sqrt(0.3 * 0.7 / 100)])


@given(st.lists(st.integers(-1, 4), max_size=60))
def test_events_before_counts_earlier_rows_of_the_entity(codes):
    seen: dict[int, int] = {}
    expected = []
    for code in codes:
        expected.append(-1 if code < 0 else seen.get(code, 0))
        seen[code] = seen.get(code, 0) + 1
    assert _curves.events_before(np.array(codes, dtype=np.int32)).tolist() == expected


@given(st.lists(st.integers(-1, 6), min_size=1, max_size=400), st.integers(0, 1000))
@settings(deadline=None)
def test_warming_groups_hold_every_known_row_once_and_keep_the_mean(codes, seed):
    code = np.array(codes, dtype=np.int32)
    found = _curves.warming(code)
    before = _curves.events_before(code)
    assert np.array_equal(found.group >= 0, code >= 0)
    assert found.least[0] == 0
    assert np.all(np.diff(found.least) > 0)
    known = found.group >= 0
    upper = np.r_[found.least[1:], np.inf][found.group[known]]
    assert np.all((found.least[found.group[known]] <= before[known]) & (before[known] < upper))
    gain = np.random.default_rng(seed).normal(size=len(code))
    mean, _ = found.mean(gain, np.ones(len(code)))
    rows = np.bincount(found.group[known], minlength=len(found.least))
    if known.any():
        assert np.nansum(mean * rows) == pytest.approx(gain[known].sum())


def test_gain_by_entity_is_the_weighted_mean_of_its_rows_and_skips_those_with_few():
    code = np.r_[np.repeat(np.arange(30), 6), np.full(3, 30), [-1]].astype(np.int32)
    rng = np.random.default_rng(4)
    gain, w = rng.normal(size=len(code)), rng.gamma(1.0, size=len(code))
    found = _curves.by_entity(code, gain, w)
    expected = [np.average(gain[code == e], weights=w[code == e]) for e in range(30)]
    np.testing.assert_allclose(found.gain, expected)
    assert (found.left_out, found.least) == (1, 5)
    assert found.better == np.mean(np.array(expected) > 0)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=50))
def test_histogram_of_few_gains_has_an_edge_at_zero_and_holds_them_all(gain):
    values = np.array(gain)
    edges = _curves.around_zero(values)
    assert len(edges) >= 2
    assert np.abs(edges).min() == 0 or values.min() > 0 or values.max() < 0
    assert np.histogram(values, edges)[0].sum() >= len(values) - np.sum(values == values.min())


# Learned priors.


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


# The README's figure.

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
