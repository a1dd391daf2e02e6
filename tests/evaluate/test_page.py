"""The page of a report: it stands on its own, is the same wherever it is made, and names of users stay text."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.evaluate.parts import Checker, checked, made

from nearline.evaluate import Outcome, Variant
from nearline.evaluate._report import render
from nearline.glmix import LearnedPriors
from nearline.glmix._effects import Forgetting, Prior
from nearline.glmix._state import Belief


def outside(checker: Checker) -> list[str]:
    """Attributes that would make a browser fetch something."""
    fetching = {"src", "href", "xlink:href", "data", "srcset", "action", "poster"}
    return [v or "" for k, v in checker.attributes if k in fetching and not (v or "").startswith("#")]


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
        "import sys, hashlib; sys.path.insert(0, sys.argv[1]); from parts import made;"
        "from nearline.evaluate._report import render; print(hashlib.sha256(render(made()).encode()).hexdigest())"
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
