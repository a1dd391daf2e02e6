"""`nearline tune --on ledger` beside a service that runs: what it searches is what was recorded, as it was labelled."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.tune.streams import events
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks._service import Client, Service

from nearline import ConfigError, StateError
from nearline.cli import _tune
from nearline.cli._app import app
from nearline.config import load
from nearline.tune import tune

CONFIG = """
[data]
path = "history.parquet"

[schema]
label = "y"
time = "t"

[schema.columns]
a = { kind = "numeric", center = 0.0, scale = 1.0 }

[fixed]
on = ["a"]

[[random]]
key = "user"

[live]
folder = "state"
batch = 100

[join]
window = "30d"

[fit.priors]
rounds = 1
walks = false
half_lives = false

[training]
judge = 0

[tune]
pruning = "none"
structures = false

# kept as it is
[guard]
enabled = false
"""
PAST, SERVED, TRIALS = 300, 1_500, 16
START = float(int(time.time())) - 600.0 * (PAST + SERVED)
GONE = [3, 700, 701]
"""Served rows whose outcome is taken back."""


@pytest.fixture
def rows() -> pa.Table:
    """Clicks of users whose rates wander: first history, then what is served."""
    table = pa.table(events(PAST + SERVED, seed=2))
    return table.set_column(table.column_names.index("t"), "t", pa.array([START + t for t in table["t"].to_pylist()]))


@pytest.fixture
def config(tmp_path: Path, rows: pa.Table) -> Path:
    """A configuration whose version 1.0.0 is live."""
    file = tmp_path / "nearline.toml"
    file.write_text(CONFIG)
    pq.write_table(rows.slice(0, PAST), tmp_path / "history.parquet")
    assert invoke("fit", str(file))[0] == 0
    return file


@pytest.fixture
def service(config: Path) -> Iterator[Service]:
    with Service(config) as found:
        found.start()
        yield found


def invoke(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    return done.exit_code, done.stdout


def search(config: Path, *arguments: str) -> Any:
    status, text = invoke("tune", str(config), "--on", "ledger", "--json", *arguments)
    assert status == 0
    return json.loads(text)


def serve(service: Service, rows: pa.Table) -> None:
    """Predict rows, tell what happened a second later, take some of it back; all of it is learned when this returns."""
    client, ids = Client(service.port), list[str]()
    for part in (rows.slice(at, 100) for at in range(0, rows.num_rows, 100)):
        asked = part.select(["user", "a", "t"]).to_pylist()
        made = [row["prediction_id"] for row in client.post("/predict", {"rows": asked})["predictions"]]
        told = [
            {"prediction_id": name, "label": label, "time": when + 1.0}
            for name, label, when in zip(made, part["y"].to_pylist(), part["t"].to_pylist())
        ]
        assert client.post("/outcome", {"outcomes": told})["accepted"] == len(made)
        ids += made
    wait(client, "learned", rows.num_rows)
    back = [{"prediction_id": ids[at], "kind": "retract"} for at in GONE]
    assert client.post("/outcome", {"outcomes": back})["accepted"] == len(GONE)
    wait(client, "retracted", len(GONE))
    client.close()


def wait(client: Client, count: str, value: int) -> None:
    end = time.monotonic() + 30
    while (joins := client.get("/api/status")["joins"])[count] < value:
        assert time.monotonic() < end, joins
        time.sleep(0.05)


def test_a_search_of_a_running_services_ledger_is_that_of_what_it_recorded(
    config: Path, service: Service, rows: pa.Table
) -> None:
    served = rows.slice(PAST)
    serve(service, served)
    found = search(config, "--trials", str(TRIALS))

    kept = served.take([at for at in range(SERVED) if at not in GONE])
    settings = load(config)
    same = tune(
        settings.model(), kept, trials=TRIALS, share=0.5, structures=("full",), pruning="none",
        priors={"rounds": 1, "walks": False, "half_lives": False},
    )  # fmt: skip
    assert (found["rows"], found["trials"], found["complete"], found["reused"]) == (same.rows, TRIALS, TRIALS, 0)
    assert found["rows"] == (SERVED - len(GONE)) // 2
    assert found["loss"] == pytest.approx({"defaults": same.defaults.loss, "best": same.best.loss}, rel=1e-12)
    assert found["held_out"]["gain"] == pytest.approx(same.gap.estimate, rel=1e-9)
    # these users drift and history was not asked about it: the search is worth it, and says so
    assert found["worth_it"]
    assert found["held_out"]["low"] > 0

    # another search goes on where that one ended, and the best of both is written; the rest of the file stays
    again = search(config, "--trials", "2", "--write")
    assert (again["reused"], again["trials"], again["written"]) == (TRIALS, TRIALS + 2, True)
    assert (config.parent / "state" / _tune.FOLDER / "trials.jsonl").is_file()
    assert "# kept as it is\n[guard]\nenabled = false\n" in config.read_text("utf-8")
    assert load(config).tables.fit.priors.adjust

    # what is left to the gate is not searched either
    config.write_text(config.read_text("utf-8").replace("judge = 0", "judge = 300"), "utf-8")
    assert (SERVED - 300 - 100) // 2 < search(config, "--trials", "1")["rows"] <= (SERVED + len(GONE) - 300) // 2

    # the service has gone on, and a fit of its ledger takes what was written
    assert service.stop() == 0
    status, text = invoke("fit", str(config), "--on", "ledger", "--no-publish", "--json")
    assert status == 0
    assert json.loads(text)["version"] == "2.0.0"


def test_without_a_version_or_a_ledger_it_says_what_to_do(config: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^the ledger holds no examples yet; serve first: nearline run .*nearline.toml$"
    ):
        invoke("tune", str(config), "--on", "ledger")
    config.write_text(CONFIG.replace('"state"', '"another"'))
    with pytest.raises(StateError, match="another has no published version; make one with: nearline fit"):
        invoke("tune", str(config), "--on", "ledger")
