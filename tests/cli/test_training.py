"""`nearline fit` and `nearline refit` beside a running service: what they learn, where they stop, what they take."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks._service import Client, Service, settled

from nearline import ConfigError, GLMix, NearlineError, StateError
from nearline.cli import _training
from nearline.cli._app import app
from nearline.cli._schedule import Refits
from nearline.config import load
from nearline.glmix import Safety
from nearline.loop import Committed, audit
from nearline.store import Conflict, Registry, Version

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

[live]
folder = "state"

[fit]
learn_priors = false

[join]
window = "1h"

[guard]
enabled = false

[gate]
enabled = {gate}
"""
SAFETY = Safety(excess=1e9, shift=1e9)


def past(n: int = 300, start: float = 0.0) -> pa.Table:
    rng = np.random.default_rng(0)
    return pa.table({
        "member": rng.integers(0, 10, n), "price": rng.normal(10, 5, n), "clicked": rng.integers(0, 2, n),
        "when": start + np.arange(n, dtype=float),
    })  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose version 1.0.0 is live."""
    file = tmp_path / "nearline.toml"
    file.write_text(CONFIG.format(gate="false"))
    pq.write_table(past(), tmp_path / "history.parquet")
    assert said("fit", str(file))["version"] == "1.0.0"
    return file


def said(*arguments: str, status: int = 0) -> Any:
    """The JSON that a command prints; it must end as expected."""
    done = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == status, done.output
    return json.loads(done.stdout)


def talk(service: Service, n: int, seed: int) -> None:
    """Predict and label n rows, and wait until they are learned."""
    rng, client = np.random.default_rng(seed), Client(service.port)
    for _ in range(n // 20):
        now = time.time()
        rows = [{"member": int(rng.integers(14)), "price": float(rng.normal(10, 5)), "when": now} for _ in range(20)]
        answer = client.post("/predict", {"rows": rows})["predictions"]
        outcomes = [{"prediction_id": row["prediction_id"], "label": int(rng.integers(2))} for row in answer]
        assert client.post("/outcome", {"outcomes": outcomes})["accepted"] == 20
        for _ in settled(client):
            pass
    client.close()


def until_served(service: Service, line: str, seconds: float = 30.0) -> str:
    client, end = Client(service.port), time.monotonic() + seconds
    while time.monotonic() < end:
        version: str = client.get("/api/status")["versions"]["live"]
        if version.startswith(line):
            return version
        time.sleep(0.05)
    raise AssertionError(f"no version {line}* is served")


def test_a_service_goes_over_to_refits_and_fits_of_its_own_ledger_and_loses_nothing(config: Path) -> None:
    folder = config.parent / "state"
    with Service(config) as service:
        service.start()
        talk(service, 200, 1)
        until_served(service, "1.0.200")
        found = said("refit", str(config))
        assert (found["version"], found["published"], found["cutoff"], found["events"]) == ("1.1.0", True, 200, 200.0)
        assert until_served(service, "1.1.") == "1.1.0"
        talk(service, 100, 2)
        until_served(service, "1.1.300")
        found = said("fit", str(config), "--on", "both", "--cutoff", "250")
        assert (found["version"], found["cutoff"], found["events"]) == ("2.0.0", 250, 550.0)
        # fifty examples came after the cut-off: they are learned anew, and stand in the ledger once more
        assert until_served(service, "2.0.") == "2.0.350"
        talk(service, 20, 3)
        until_served(service, "2.0.370")
        assert service.stop() == 0
    assert Committed.of(folder).copies == ((300, 350),)
    found = audit(folder, SAFETY)
    assert (found.doubled, found.posteriors_differ, len(found.labels)) == (0, 0, 320)
    with_registry = Registry(folder, clock=time.time)
    records = {str(record.version): record for record in with_registry.versions()}
    with_registry.close()
    assert records["1.1.0"].positions == {"start": 0, "examples": 200}
    assert records["1.1.0"].parent == Version(1)
    assert records["2.0.0"].positions == {"start": 0, "examples": 250}
    about = json.loads((folder / "versions" / "2.0.0" / _training.TRAINING).read_text())
    assert (about["on"], about["positions"]["examples"], about["fit"]["learn_priors"]) == ("both", 250, False)


def test_a_fit_by_batch_is_the_batch_fit(config: Path) -> None:
    file = config.parent / "batch.toml"
    text = CONFIG.format(gate="false").replace("[fit]", '[fit]\nmethod = "batch"\ncycles = 30\ntolerance = 1e-12')
    file.write_text(text.replace('"state"', '"another"') + '\n[fixed.fit]\nnormalise = "standardise"\n')
    found = said("fit", str(file))
    settings = load(file)
    model = settings.model()
    objective = model.fit(settings.table(), cycles=30, tolerance=1e-12).objective
    assert found["version"] == "1.0.0"
    registry = Registry(config.parent / "another", clock=time.time)
    (record,) = registry.versions()
    assert record.metrics["objective"] == objective[-1]
    assert record.metrics["events"] == 300.0
    saved = GLMix.load(registry.path(record.version))
    registry.close()
    assert np.array_equal(saved.decision_function(past()), model.decision_function(past()))


def test_fits_are_judged_on_what_they_have_not_learned(config: Path) -> None:
    """[training] judge leaves the newest examples to the gate; what it refuses is registered, with the reasons."""
    config.write_text(CONFIG.format(gate="true\nminimum = 30") + "\n[training]\njudge = 50\n")
    with Service(config) as service:
        service.start()
        talk(service, 400, 1)
        assert service.stop() == 0
    found = said("refit", str(config))
    assert found["cutoff"] == found["events"]
    assert 0 < found["cutoff"] <= 350  # the last end of a batch that leaves at least 50; batches are the learner's own
    assert found["published"] or found["refused"]
    config.write_text(CONFIG.format(gate="true\nminimum = 1000") + "\n[training]\njudge = 50\n")
    refused = said("refit", str(config), status=1)
    assert not refused["published"]
    assert refused["refused"][0].startswith("examples")
    assert said("versions", str(config))["live"] != refused["version"]


def test_data_that_overlaps_the_ledger_must_say_what_is_in_it(config: Path) -> None:
    with Service(config) as service:
        service.start()
        talk(service, 40, 1)
        assert service.stop() == 0
    assert said("fit", str(config))["cutoff"] == 0  # [data] ends long before the ledger begins
    pq.write_table(past(300, start=time.time()), config.parent / "history.parquet")
    with pytest.raises(ConfigError, match="--cutoff POSITION"):
        said("fit", str(config))
    assert said("fit", str(config), "--cutoff", "40")["cutoff"] == 40


def test_without_a_ledger_it_says_so(config: Path) -> None:
    with pytest.raises(NearlineError, match="ledger"):
        said("refit", str(config))
    with pytest.raises(NearlineError):
        said("fit", str(config), "--on", "ledger")


def test_what_was_made_for_a_line_that_is_gone_is_not_published(config: Path) -> None:
    """Spec glmix.md 7, reconciliation 3: compare-and-set on (global, batch)."""
    said("fit", str(config), "--no-publish")
    settings = load(config)
    with _training.registry_of(settings) as registry:
        registry.publish(Version(2), who="ann", why="meanwhile")
        with pytest.raises(Conflict, match=r"made while 1\.0\.0 was live, and 2\.0\.0 is now"):
            _training.publish(settings, registry, Version(1), "refit", "late", Version(1), True)


def test_training_is_niced_and_limited() -> None:
    code = (
        "import os, resource, sys; from nearline import config; from nearline.cli import _own, _training;"
        "text = '[schema]\\nlabel = \"y\"\\n[training]\\nnice = 7\\nmemory_gb = 1.5\\n';"
        "given = config.loads(text); _training.confine(given); before = os.nice(0);"
        "_own.PROCESS = True; _training.confine(given);"
        "print(os.nice(0) - before, resource.getrlimit(resource.RLIMIT_DATA)[0]);"
        "bytearray(2 << 30)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert done.stdout.split() == ["7", str(int(1.5 * 2**30))]
    assert "MemoryError" in done.stderr


@pytest.mark.parametrize("table", ["nice = -1", "memory_gb = 0.0", "judge = -5"])
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, table: str) -> None:
    (tmp_path / "nearline.toml").write_text(f'[schema]\nlabel = "y"\n[training]\n{table}\n')
    with pytest.raises(ConfigError, match=table.split()[0]):
        load(tmp_path / "nearline.toml")
    (tmp_path / "nearline.toml").write_text('[schema]\nlabel = "y"\n[refit]\nevery = 0\n')
    with pytest.raises(ConfigError, match="every"):
        load(tmp_path / "nearline.toml")


def scheduled(config: Path, code: str, done: Callable[[], bool], every: float = 0.05) -> None:
    command = (sys.executable, "-c", code)
    with Refits(config, config.parent / "state", every, command=command, look=0.05):
        end = time.monotonic() + 20.0
        while not done():
            assert time.monotonic() < end
            time.sleep(0.02)


def test_a_refit_that_fails_is_logged_with_its_reason(config: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="nearline")
    scheduled(
        config, "import sys; print('error: the ledger is gone', file=sys.stderr); sys.exit(2)",
        lambda: "the re-fit failed with status 2: error: the ledger is gone" in caplog.text,
    )  # fmt: skip
    scheduled(
        config, "print('{\"version\": \"1.1.0\", \"published\": false, \"refused\": [\"loss: worse\"]}'); exit(1)",
        lambda: "version 1.1.0 is re-fitted and not published: loss: worse" in caplog.text,
    )  # fmt: skip


def test_a_service_refits_by_itself_and_goes_over_to_it(config: Path) -> None:
    config.write_text(CONFIG.format(gate="false") + "\n[refit]\nevery = 2.0\n")
    with Service(config) as service:
        service.start()
        talk(service, 60, 1)
        assert until_served(service, "1.1.", 60.0).startswith("1.1.")
        talk(service, 20, 2)
        assert service.stop() == 0
        assert "version 1.1.0 is live: publish by refit" in service.tail(200)
    found = audit(config.parent / "state", SAFETY)
    assert (found.doubled, found.posteriors_differ, len(found.labels)) == (0, 0, 80)


def test_a_refit_that_still_runs_is_ended_with_the_service(config: Path, tmp_path: Path) -> None:
    mark = tmp_path / "started"
    began = time.monotonic()
    scheduled(config, f"import pathlib, time; pathlib.Path({str(mark)!r}).touch(); time.sleep(600)", mark.exists)
    assert time.monotonic() - began < 30.0


def test_no_refit_is_due_while_the_newest_fit_is_young(config: Path) -> None:
    refits = Refits(config, config.parent / "state", 3600.0)
    assert not refits._due(time.time())
    assert refits._due(time.time() + 3601.0)


def test_a_fit_names_a_cutoff_that_the_ledger_has(config: Path) -> None:
    with Service(config) as service:
        service.start()
        talk(service, 20, 1)
        assert service.stop() == 0
    with pytest.raises((ConfigError, StateError)):
        said("fit", str(config), "--on", "ledger", "--cutoff", "0")
