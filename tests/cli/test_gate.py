"""`nearline gate` and a gated `nearline publish`, on a state directory that has served."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.loop.running import candidates
from typer.testing import CliRunner

from nearline.cli._app import app

CONFIG = """
[schema]
label = "clicked"
time = "when"

[fixed]
on = ["price"]

[[random]]
key = "member"
on = ["price"]

[[random]]
key = "ad"

[live]
folder = "state"

[gate]
minimum = 100
slices = ["ad"]
slice_minimum = 50
latency_ratio = 20.0
"""


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """A configuration whose 1.0.0 has served 600 predictions; 2.0.0 learned flipped labels, 3.0.0 is 1.0.0 again."""
    candidates(tmp_path / "state")
    config = tmp_path / "nearline.toml"
    config.write_text(CONFIG)
    return config


def invoke(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    return done.exit_code, done.stdout


def test_a_refused_version_is_not_published_and_force_is_remembered(served: Path) -> None:
    status, text = invoke("publish", "2.0.0", str(served))
    assert status == 1
    assert "version 2.0.0 is refused:\n  loss: log loss" in text
    assert "is live" not in text
    _, found = invoke("versions", str(served), "--json")
    live = json.loads(found)["live"]
    assert live.startswith("1.0.")
    status, text = invoke("publish", "2.0.0", str(served), "--force", "--why", "we know better")
    assert (status, text.splitlines()[-1]) == (0, "version 2.0.0 is live")
    _, found = invoke("versions", str(served), "--json")
    change = json.loads(found)["history"][0]
    assert change["why"].startswith("we know better (forced, although refused: loss: log loss")
    assert change["previous"] == live


def test_the_gate_says_what_it_found_and_changes_nothing(served: Path) -> None:
    status, text = invoke("gate", "3.0.0", str(served))
    assert status == 0, text
    assert "version 3.0.0 may be published: every check passed" in text
    assert {"examples", "loss", "latency", "size", "slices"} <= set(text.split())
    status, text = invoke("gate", "2.0.0", str(served), "--json")
    found = json.loads(text)
    assert (status, found["version"], found["verdict"]["passed"]) == (1, "2.0.0", False)
    _, listed = invoke("versions", str(served), "--json")
    assert json.loads(listed)["live"].startswith("1.0.")


def test_a_version_that_passes_is_published(served: Path) -> None:
    assert invoke("publish", "3.0.0", str(served)) == (0, "version 3.0.0 is live\n")


def test_refusals_are_machine_readable_and_the_gate_can_be_switched_off(served: Path) -> None:
    status, text = invoke("publish", "2.0.0", str(served), "--json")
    found = json.loads(text)
    assert (status, found["published"]) == (1, False)
    served.write_text(CONFIG.replace("[gate]", "[gate]\nenabled = false"))
    assert invoke("publish", "2.0.0", str(served))[0] == 0
