"""The `nearline` command, run as a user runs it."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import nearline as nl
from nearline import config, evaluate, simulate
from nearline.cli import _progress, _show

CONFIG = """
[data]
path = "events.parquet"

[schema]
label = "clicked"
time = "timestamp"

[fixed]
on = ["country"]

[[random]]
key = "ad_id"

[backtest]
history = 0.2
title = "ads"
truth = "true_probability"
priors = { rounds = 1, structure = "scalar" }
variants = [
    { name = "stale", learns = "nothing" },
    { name = "refit", learns = "nothing", refit = 400 },
    { name = "fresh" },
]
"""
TRACEBACK = "Traceback (most recent call last)"


def nearline(
    *arguments: object, folder: Path, data: Path | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run the command in `folder`; NEARLINE_DATA is `data`, or not set."""
    environment = {name: value for name, value in os.environ.items() if name != "NEARLINE_DATA"}
    environment |= {"NEARLINE_DATA": str(data)} if data is not None else {}
    command = [sys.executable, "-c", "from nearline.cli import main; main()", *map(str, arguments)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run(command, cwd=folder, env=environment, text=True, check=False, timeout=300, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with events and a nearline.toml for them."""
    folder = tmp_path_factory.mktemp("project")
    table = simulate.stream(simulate.Marketplace(events=1500, members=50, ads=20, campaigns=4, seed=2))
    pq.write_table(table, folder / "events.parquet")
    (folder / "nearline.toml").write_text(CONFIG)
    return folder


@pytest.fixture(scope="module")
def ran(folder: Path) -> subprocess.CompletedProcess[str]:
    """`nearline backtest`, once."""
    return nearline("backtest", folder=folder)


# --- backtest ---


def test_backtest_prints_a_table_a_conclusion_and_the_report(
    folder: Path, ran: subprocess.CompletedProcess[str]
) -> None:
    assert (ran.returncode, ran.stderr.count(TRACEBACK)) == (0, 0)
    result = config.load(folder / "nearline.toml").backtest()
    for row in result.table():
        line = next(line for line in ran.stdout.splitlines() if row["variant"] in line)
        assert f"{row['log_loss']:.4f}" in line
        assert f"{row['auc']:.4f}" in line
    assert "ads: 1,200 events predicted, then learned, after 300 of history" in ran.stdout
    assert f"{evaluate.log_loss(result.label, result.truth):.4f}" in ran.stdout
    *_, said, report = ran.stdout.splitlines()
    assert said == _show.conclusion(result)
    assert report == "report: backtest.html"
    page = (folder / "backtest.html").read_text("utf-8")
    assert page.lstrip().lower().startswith("<!doctype html")
    assert "fresh" in page


def test_backtest_says_what_it_is_doing(ran: subprocess.CompletedProcess[str]) -> None:
    said = [line.strip() for line in ran.stderr.splitlines() if "compiling" not in line]
    assert said == ["learning priors from history ...", "stale ...", "refit ...", "fresh ..."]


def test_backtest_as_json_is_one_object_with_the_same_numbers(folder: Path, tmp_path: Path) -> None:
    done = nearline("backtest", "nearline.toml", "--json", "--report", tmp_path / "new/r.html", folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    found = json.loads(done.stdout)
    wanted = config.load(folder / "nearline.toml").backtest()
    assert [row["variant"] for row in found["variants"]] == ["stale", "refit", "fresh"]
    for ours, theirs in zip(found["variants"], wanted.table(), strict=True):
        for name in ("log_loss", "auc", "calibration", "updates"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-9)
    assert found["truth"]["log_loss"] == pytest.approx(evaluate.log_loss(wanted.label, wanted.truth))
    assert found["priors"]["after"] <= found["priors"]["before"]
    assert (found["rows"], found["history_rows"], found["link"]) == (1200, 300, "logit")
    assert Path(found["report"]) == tmp_path / "new/r.html"
    assert Path(found["report"]).stat().st_size > 1000


def test_rows_cut_the_stream(folder: Path, tmp_path: Path) -> None:
    done = nearline("backtest", "--rows", 500, "--json", "--report", tmp_path / "r.html", folder=folder)
    found = json.loads(done.stdout)
    assert found["rows"] + found["history_rows"] == 500


def test_a_terminal_shows_a_bar(folder: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    shown: list[bytes] = []

    def watch() -> None:
        try:
            while part := os.read(ours, 4096):
                shown.append(part)
        except OSError:  # Linux ends a closed terminal so
            pass

    watcher = threading.Thread(target=watch)
    watcher.start()
    done = nearline("backtest", "--json", "--report", tmp_path / "r.html", folder=folder, stderr=theirs)
    os.close(theirs)
    watcher.join()
    os.close(ours)
    assert done.returncode == 0
    text = b"".join(shown).decode()
    assert "learning priors from history" in text
    assert "%" in text
    assert json.loads(done.stdout)["title"] == "ads"


# --- errors ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('label = "clicked"', 'lable = "clicked"'), "error: nearline.toml: [schema]: there is no 'lable' here"),
        (('"country"', '"county"'), "error: column 'county': the table has no such column; did you mean 'country'?"),
        (('path = "events', 'path = "absent'), "error: nearline.toml: no file matches 'absent.parquet'"),
        (("history = 0.2", "history = 1.5"), "error: backtest(history=1.5)"),
        (('label = "clicked"', 'label = "ad_id"'), "error: column 'ad_id', row 1: label is 2, expected 0 or 1"),
    ],
)
def test_errors_are_one_line_and_status_2(folder: Path, tmp_path: Path, change: tuple[str, str], message: str) -> None:
    (tmp_path / "events.parquet").symlink_to(folder / "events.parquet")
    (tmp_path / "nearline.toml").write_text(CONFIG.replace(*change))
    done = nearline("backtest", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    said = [line for line in done.stderr.splitlines() if not line.startswith("  ")]
    assert len(said) == 1
    assert said[0].startswith(message)


def test_rows_out_of_order_are_refused_with_the_fix(folder: Path, tmp_path: Path) -> None:
    table = pq.read_table(folder / "events.parquet")
    pq.write_table(table.take(np.arange(table.num_rows)[::-1]), tmp_path / "events.parquet")
    (tmp_path / "nearline.toml").write_text(CONFIG)
    done = nearline("backtest", folder=tmp_path)
    assert done.returncode == 2
    assert "time order" in done.stderr
    (tmp_path / "nearline.toml").write_text(CONFIG.replace("[schema]", "sort = true\n\n[schema]", 1))
    assert nearline("backtest", folder=tmp_path).returncode == 0


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    quiet, loud = nearline("backtest", folder=tmp_path), nearline("backtest", "--debug", folder=tmp_path)
    assert quiet.returncode == 2
    assert quiet.stderr.startswith("error: cannot read nearline.toml")
    assert TRACEBACK not in quiet.stderr
    assert loud.returncode != 0
    assert TRACEBACK in loud.stderr


def test_a_report_that_cannot_be_written_is_an_error(folder: Path) -> None:
    done = nearline("backtest", "--report", "events.parquet/r.html", folder=folder)
    assert done.returncode == 2
    assert "error: cannot write the report to events.parquet/r.html" in done.stderr
    assert "predicts best" in done.stdout  # what took long is not lost


def test_wrong_options_are_refused(folder: Path) -> None:
    for arguments in (("backtest", "--rows", 3), ("backtst",), ("demo", "--seed", -1), ("check", "--deadletter", "x")):
        done = nearline(*arguments, folder=folder)
        assert done.returncode == 2
        assert TRACEBACK not in done.stderr


def test_version_and_help(tmp_path: Path) -> None:
    assert nearline("--version", folder=tmp_path).stdout == f"nearline {nl.__version__}\n"
    assert "backtest" in nearline("--help", folder=tmp_path).stdout
    assert "[backtest] report" in re.sub(r"\s+", " ", nearline("backtest", "-h", folder=tmp_path).stdout)


# --- demo ---


def test_demo_runs_the_marketplace_and_leaves_what_it_ran(tmp_path: Path) -> None:
    done = nearline("demo", "--replay", "--rows", 1500, "--seed", 3, "--out", "here", folder=tmp_path)
    assert (done.returncode, done.stderr.count(TRACEBACK)) == (0, 0)
    assert "simulated marketplace" in done.stdout
    assert "best possible (truth)" in done.stdout
    assert "predicts best" in done.stdout.splitlines()[-2]
    assert done.stdout.splitlines()[-1] == "report: here/report.html"
    assert (tmp_path / "here/report.html").stat().st_size > 1000
    wrote = config.load(tmp_path / "here/nearline.toml").tables.data.marketplace
    assert wrote is not None
    assert (wrote.events, wrote.seed) == (1500, 3)
    again = json.loads(nearline("backtest", "here/nearline.toml", "--json", folder=tmp_path).stdout)
    for row in again["variants"]:
        line = next(line for line in done.stdout.splitlines() if row["variant"] in line)
        assert f"{row['log_loss']:.4f}" in line


def movielens(folder: Path) -> Path:
    """A data folder with a small MovieLens-1M in its original form."""
    rng, root = np.random.default_rng(0), folder / "ml-1m"
    root.mkdir(parents=True)
    users, films = range(1, 31), range(1, 41)
    (root / "users.dat").write_text("".join(f"{u}::{'FM'[u % 2]}::{(18, 25, 35)[u % 3]}::{u % 5}::0\n" for u in users))
    genres = ("Drama", "Comedy|Romance", "Action|Crime")
    (root / "movies.dat").write_text("".join(f"{m}::Film {m} ({1960 + m})::{genres[m % 3]}\n" for m in films))
    ratings = zip(rng.integers(1, 31, 900), rng.integers(1, 41, 900), rng.integers(1, 6, 900), range(900))
    (root / "ratings.dat").write_text("".join(f"{u}::{m}::{r}::{978_300_000 + 600 * t}\n" for u, m, r, t in ratings))
    return folder


def test_demo_runs_movielens_where_the_data_is(tmp_path: Path) -> None:
    data = movielens(tmp_path / "data")
    done = nearline("demo", "--replay", "--rows", 600, "--json", folder=tmp_path, data=data)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["title"] == "MovieLens-1M"
    assert found["rows"] + found["history_rows"] == 600
    assert [row["variant"] for row in found["variants"]][-1] == "nearline per event"
    refits = next(row for row in found["variants"] if row["variant"].startswith("refit every"))
    assert refits["updates"] == 2  # as often within fewer events
    assert (tmp_path / "nearline-demo/nearline.toml").is_file()


def test_demo_falls_back_to_the_marketplace_and_says_so(tmp_path: Path) -> None:
    done = nearline("demo", "--replay", "--rows", 300, folder=tmp_path, data=tmp_path)
    assert done.returncode == 0
    assert "No MovieLens-1M: data set 'movielens-1m' not found" in done.stderr
    assert "simulated marketplace" in done.stdout


def test_demo_refuses_a_folder_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = nearline("demo", "--replay", "--rows", 300, "--out", "file/x", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --out: cannot write")


# --- check ---


def test_check_of_good_data(folder: Path) -> None:
    done = nearline("check", folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["1,500 of 1,500 rows can be learned", "  country: categorical"]


@pytest.fixture
def spoilt(folder: Path, tmp_path: Path) -> Path:
    """The events with two bad rows and one out of order."""
    table = pq.read_table(folder / "events.parquet").slice(0, 30)
    clicked, ads, time = (table[name].to_pylist() for name in ("clicked", "ad_id", "timestamp"))
    clicked[3], ads[7], time[20] = 2, None, time[0] - 1
    for name, values in (("clicked", clicked), ("ad_id", ads), ("timestamp", time)):
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    pq.write_table(table, tmp_path / "bad.parquet")
    (tmp_path / "nearline.toml").write_text(CONFIG)
    return tmp_path


def test_check_of_bad_data_names_the_rows(spoilt: Path) -> None:
    done = nearline("check", "nearline.toml", "bad.parquet", folder=spoilt)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "28 of 30 rows can be learned",
        "  country: categorical",
        "row 3: clicked: label is 2, expected 0 or 1",
        "row 7: ad_id: key is null",
        "rows are not in order of time; the backtest needs them so: set [data] sort = true",
    ]


def test_check_writes_the_refused_rows(spoilt: Path) -> None:
    done = nearline(
        "check", "nearline.toml", "b*.parquet", "--dead-letter", "out/dead.parquet", "--json", folder=spoilt
    )
    assert (done.returncode, done.stderr) == (1, "")
    found = json.loads(done.stdout)
    assert (found["rows"], found["usable"], found["refused"], found["in_order"]) == (30, 28, 2, False)
    assert found["reasons"] == {"clicked: label is 2, expected 0 or 1": 1, "ad_id: key is null": 1}
    dead = pq.read_table(spoilt / found["dead_letter"])
    assert dead["event_id"].to_pylist() == [3, 7]
    assert dead["reason"].to_pylist() == list(found["reasons"])


def test_check_refuses_a_table_without_a_column(spoilt: Path) -> None:
    pq.write_table(pa.table({"clicked": [1]}), spoilt / "other.parquet")
    done = nearline("check", "nearline.toml", "other.parquet", folder=spoilt)
    assert done.returncode == 2
    assert done.stderr.startswith("error: column 'country': the table has no such column")


def test_check_shows_the_first_of_many_bad_rows(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "nearline.toml").write_text(CONFIG.replace('label = "clicked"', 'label = "price"'))
    done = nearline("check", "nearline.toml", folder / "events.parquet", folder=tmp_path)
    assert done.returncode == 1
    assert len([line for line in done.stdout.splitlines() if line.startswith("row ")]) == 10
    assert re.search(r"^\.\.\. and 1,\d\d\d more rows$", done.stdout, re.MULTILINE)


# --- the parts ---


@pytest.mark.parametrize(("patience", "quiet", "told"), [(0.0, False, True), (0.0, True, False), (300.0, False, False)])
def test_compiling_is_announced_when_it_takes_long(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    patience: float, quiet: bool, told: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(_progress, "PATIENCE", patience)
    setup = config.load(folder / "nearline.toml")
    _progress.warm_up(setup, setup.table(), quiet)
    assert ("compiling kernels (first run only)" in capsys.readouterr().err) == told


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
