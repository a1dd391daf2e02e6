"""`nearline fit`, `versions`, `publish`, `rollback`, `diff` and `run`, as a user runs them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks._service import Client, Service

from nearline import GLMix, NearlineError
from nearline.cli._app import app
from nearline.glmix import Safety
from nearline.loop import audit

CONFIG = """
[data]
path = "history.parquet"

[schema]
label = "clicked"
time = "when"

[fixed]
on = ["price"]

[[random]]
key = "member"
on = ["price"]

[live]
folder = "state"

[fit]
learn_priors = false

[join]
window = "1h"
"""


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration with two versions, of which 2.0.0 is live."""
    folder = tmp_path_factory.mktemp("live")
    rng = np.random.default_rng(0)
    n = 300
    table = pa.table({
        "member": rng.integers(0, 10, n), "price": rng.normal(10, 5, n), "clicked": rng.integers(0, 2, n),
        "when": np.arange(n, dtype=float),
    })  # fmt: skip
    config = folder / "nearline.toml"
    config.write_text(CONFIG)
    pq.write_table(table.slice(0, 200), folder / "history.parquet")
    assert said("fit", str(config), "--json") == {
        "version": "1.0.0", "published": True, "events": 200.0, "loss": pytest.approx(0.7, abs=0.1), "cutoff": 0,
    }  # fmt: skip
    pq.write_table(table, folder / "history.parquet")
    assert "version 2.0.0 is registered: learned 300 events" in told(
        "fit", str(config), "--no-publish", "--why", "more"
    )
    assert told("publish", "2.0.0", str(config), "--why", "it is newer").strip() == "version 2.0.0 is live"
    return config


def told(*arguments: str) -> str:
    """What a command prints; it must succeed."""
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def said(*arguments: str) -> Any:
    return json.loads(told(*arguments))


def test_versions_are_listed_with_who_why_and_when(fitted: Path) -> None:
    found = said("versions", str(fitted), "--json")
    assert found["live"] in ("1.0.0", "2.0.0")
    assert {version["version"]: version["why"] for version in found["versions"]} == {
        "2.0.0": "more", "1.0.0": "fit from history",
    }  # fmt: skip
    assert [change["action"] for change in found["history"]][-4:] == ["publish", "register", "publish", "register"]
    text = told("versions", str(fitted))
    assert "it is newer" in text
    assert "live" in text


def test_what_was_live_at_a_time(fitted: Path) -> None:
    history = said("versions", str(fitted), "--json")["history"]
    first = min(change["time"] for change in history if change["action"] == "publish")
    assert said("versions", str(fitted), "--json", "--at", repr(first))["live"] == "1.0.0"
    assert said("versions", str(fitted), "--json", "--at", "0")["live"] is None
    assert "nothing was live" in told("versions", str(fitted), "--at", "1999-12-31T23:59")
    assert "version" in told("versions", str(fitted), "--at", "2999-01-01")


def test_rolling_back_and_publishing_again(fitted: Path) -> None:
    assert said("rollback", str(fitted), "--json", "--why", "look")["version"] == "1.0.0"
    assert said("versions", str(fitted), "--json")["live"] == "1.0.0"
    change = said("publish", "2.0.0", str(fitted), "--json", "--why", "again")
    assert (change["action"], change["version"], change["previous"], change["why"]) == (
        "publish", "2.0.0", "1.0.0", "again",
    )  # fmt: skip
    assert told("rollback", str(fitted), "--to", "1.0.0").strip() == "rolled back from 2.0.0 to 1.0.0"
    told("publish", "2.0.0", str(fitted))


def test_a_difference_names_what_moved(fitted: Path) -> None:
    found = said("diff", "1.0.0", "2.0.0", str(fitted), "--json", "--top", "2")
    one, two = (GLMix.load(fitted.parent / "state" / "versions" / name) for name in ("1.0.0", "2.0.0"))
    by_name = {effect["name"]: effect for effect in found["effects"]}
    assert by_name.keys() == {"fixed", "member"}
    fixed = by_name["fixed"]["largest"]
    moved = np.abs(two.block("fixed").mean[0] - one.block("fixed").mean[0])
    assert [abs(move["after"] - move["before"]) for move in fixed] == pytest.approx(sorted(moved, reverse=True)[:2])
    assert by_name["member"]["changed"] == 10
    text = told("diff", "1.0.0", "2.0.0", str(fitted))
    assert "member: 10 → 10 entities" in text
    assert said("diff", "1.0.0", "1.0.0", str(fitted), "--json")["effects"][0]["largest"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("publish", "9.0.0"), "9.0.0"),
        (("publish", "nine"), "nine"),
        (("rollback", "--to", "9.0.0"), "9.0.0"),
        (("diff", "1.0.0", "9.0.0"), "9.0.0"),
        (("versions", "--at", "yesterday"), "'yesterday' is no time"),
        (("publish", "1.0.0", "--why", " "), "why"),
    ],
)
def test_errors_name_what_is_wrong(fitted: Path, arguments: tuple[str, ...], message: str) -> None:
    at = len(arguments) if arguments[0] == "diff" else (2 if arguments[0] == "publish" else 1)
    given = (*arguments[:at], str(fitted), *arguments[at:])
    with pytest.raises(NearlineError, match=message):
        CliRunner().invoke(app, list(given), catch_exceptions=False)


def test_without_versions_it_says_how_to_make_one(tmp_path: Path) -> None:
    config = tmp_path / "nearline.toml"
    config.write_text(CONFIG)
    for command in (("versions", str(config)), ("rollback", str(config))):
        with pytest.raises(NearlineError, match="nearline fit"):
            CliRunner().invoke(app, list(command), catch_exceptions=False)


def test_a_run_that_is_stopped_has_learned_everything_acknowledged(fitted: Path) -> None:
    rows = [{"member": i % 12, "price": float(i), "when": 1_000.0 + i} for i in range(40)]
    with Service(fitted) as service:
        service.start()
        client = Client(service.port)
        ids = [row["prediction_id"] for row in client.post("/predict", {"rows": rows})["predictions"]]
        outcomes = [{"prediction_id": name, "label": i % 2, "time": 1_100.0} for i, name in enumerate(ids)]
        assert client.post("/outcome", {"outcomes": outcomes})["accepted"] == 40
        client.close()
        assert service.stop() == 0
    assert said("versions", str(fitted), "--json")["live"] == "2.0.40"
    found = audit(fitted.parent / "state", Safety())
    assert found.labels == {name: i % 2 for i, name in enumerate(ids)}
    assert (found.doubled, found.posteriors_differ) == (0, 0)
