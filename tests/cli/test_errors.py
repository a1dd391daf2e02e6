"""Errors of the command: one line, status 2, no traceback unless asked for; version and help."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.cli.parts import CONFIG, TRACEBACK, nearline

import nearline as nl


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
