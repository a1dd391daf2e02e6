"""The lines for `nearline.toml`: they load, they give the same score, and they leave the rest of the file alone."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.tune.streams import QUICK, events, model
from typer.testing import CliRunner

from nearline import ConfigError, config
from nearline.cli._app import app
from nearline.evaluate import log_loss
from nearline.tune import Tuned, fragment, tune, written
from nearline.tune._fragment import tables

BASE = """\
# who clicks on what
[data]
path = "events.parquet"

[schema]
label = "y"
time = "t"

[fixed]
on = ["a"]

[[random]]
key = "user"

[fit.priors]  # quick
rounds = 1
walks = false
half_lives = false

[backtest]
history = 0.5
variants = [{ name = "each" }]

[tune]
trials = 16
pruning = "none"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tuned")
    pq.write_table(pa.table(events()), place / "events.parquet")
    (place / "nearline.toml").write_text(BASE)
    return place


@pytest.fixture(scope="module")
def found(folder: Path) -> Tuned:
    setup = config.load(folder / "nearline.toml")
    how: dict[str, object] = {"rounds": 1, "walks": False, "half_lives": False}
    return tune(setup.model(), setup.table(), trials=16, pruning="none", priors=how)


def score(text: str, folder: Path) -> float:
    """Progressive log loss of the half of the rows that was not searched on."""
    result = config.loads(text, folder / "nearline.toml").backtest()
    return log_loss(result.label, result.prediction("each"))


def test_the_fragment_loads_back_and_gives_the_same_progressive_score(found: Tuned, folder: Path) -> None:
    assert found.worth_it
    assert score(written(BASE, found), folder) == pytest.approx(found.gap.after, abs=1e-12)
    defaults = BASE.replace(
        "[backtest]", "[backtest.priors]\nrounds = 1\nwalks = false\nhalf_lives = false\n[backtest]"
    )
    assert score(defaults, folder) == pytest.approx(found.gap.before, abs=1e-12)
    head = BASE[: BASE.index("[fit.priors]")]
    alone = config.loads(head + fragment(found), folder / "nearline.toml").tables
    assert alone.fit.priors == config.loads(written(BASE, found), folder / "nearline.toml").tables.fit.priors


def test_what_was_written_keeps_comments_and_replaces_earlier_adjustments(found: Tuned) -> None:
    text = written(BASE, found)
    assert "# who clicks on what" in text
    assert "# quick" in text
    assert written(text, found) == text
    older = BASE + "\n[fit.priors.adjust.fixed]\nvariance = 7.0\n"
    assert "7.0" not in written(older, found)


def test_a_chosen_interval_becomes_the_tick() -> None:
    found = tune(model(), events(400), trials=2, priors=QUICK, every=("1h", "2h"))
    best = replace(found.best, settings={**found.best.settings, "every": "2h"})
    chosen = replace(found, best=best, gap=replace(found.gap, low=0.1))
    assert tables(chosen)["live"] == {"tick": "2h"}
    assert "live" not in tables(tune(model(), events(400), trials=1, priors=QUICK))


def test_without_tomlkit_the_error_names_the_extra(found: Tuned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tomlkit", None)
    with pytest.raises(ConfigError, match=r"pip install 'nearline\[tune\]'"):
        fragment(found)


# --- the command ---


def command(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["tune", *arguments], catch_exceptions=False)


def test_the_command_says_what_it_found_and_writes_only_when_asked(folder: Path) -> None:
    file = folder / "nearline.toml"
    shown = command(str(file))
    assert shown.exit_code == 0
    assert "16 trials on 750 rows: 0 from earlier searches, 0 pruned" in shown.stdout
    assert "Worth it: the best trial gains" in shown.stdout
    assert "[fit.priors.adjust.user]" in shown.stdout
    assert file.read_text() == BASE
    told = json.loads(command(str(file), "--json", "--write", "--trials", "1").stdout)
    assert (told["trials"], told["reused"], told["worth_it"], told["written"]) == (17, 16, True, True)
    assert np.isfinite(told["held_out"]["gain"])
    assert config.load(file).tables.fit.priors.adjust
    assert (folder / "nearline-state" / "tune" / "trials.jsonl").is_file()
    assert "# who clicks on what" in file.read_text()


def test_defaults_are_kept_and_nothing_is_written_where_a_search_is_not_worth_it(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "nearline.toml"
    text = BASE.replace("events.parquet", str(folder / "events.parquet"))
    file.write_text(text)
    shown = command(str(file), "--trials", "1", "--write")
    assert "Nothing that was tried beats what history teaches: keep the defaults." in shown.stdout
    assert file.read_text() == text


def test_adjustments_of_the_file_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"nearline.toml: \[fit.priors.adjust\]: no effect is named 'usr'"):
        config.loads(BASE + "\n[fit.priors.adjust.usr]\nvariance = 2.0\n")
    with pytest.raises(ConfigError, match=r"\[backtest.priors.adjust\]: Adjustment\(half_life=...\) must be > 0"):
        config.loads(BASE + "\n[backtest.priors.adjust.user]\nhalf_life = 0.0\n")
