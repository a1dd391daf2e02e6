"""`nearline demo --replay`: the marketplace or MovieLens, and the configuration it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tests.cli.parts import TRACEBACK, nearline

from nearline import config


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
