"""`nearline backtest`: a table, a conclusion, a report, and what it says while it runs."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import threading
from pathlib import Path

import pytest
from tests.cli.parts import TRACEBACK, nearline

from nearline import config, evaluate
from nearline.cli import _progress, _show


@pytest.fixture(scope="module")
def ran(folder: Path) -> subprocess.CompletedProcess[str]:
    """`nearline backtest`, once."""
    return nearline("backtest", folder=folder)


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


@pytest.mark.parametrize(("patience", "quiet", "told"), [(0.0, False, True), (0.0, True, False), (300.0, False, False)])
def test_compiling_is_announced_when_it_takes_long(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    patience: float, quiet: bool, told: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(_progress, "PATIENCE", patience)
    setup = config.load(folder / "nearline.toml")
    _progress.warm_up(setup, setup.table(), quiet)
    assert ("compiling kernels (first run only)" in capsys.readouterr().err) == told
