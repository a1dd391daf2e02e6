"""Crashes: kill -9 at random moments under load; nothing acknowledged may be lost or learned twice.

A client predicts, posts outcomes, and remembers what was acknowledged; whatever was in flight when the service died is
posted again after the restart, as a client would. After the last kill the service learns what waits and stops. Then

* every acknowledged prediction and outcome must be in the ledger (`events_lost`),
* every labelled prediction must have been learned once, with its last label (`events_doubled`),
* the posteriors must equal, bit for bit, those of a run over the same ledger that was never interrupted
  (`posteriors_differ`: entities that do not).

With `--refits` a re-fit is made after every other kill and published after the next, so that the service is also killed
while the new version catches up, at the swap, and after it; the same must hold.

`restart_s` is the median time from starting the process to its first ready answer, with 100,000 entities.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks import _report
from benchmarks._live_market import LiveMarket
from benchmarks._service import PINNED, Client, RefusedError, Service, settled

GONE = (OSError, http.client.HTTPException, RefusedError)

EVERYTHING = """
[safety]
excess = 1e9
shift = 1e9

[guard]
enabled = false

[gate]
enabled = false
"""
"""Whatever the labels, they are learned: what is refused or rolled back for them is not what is measured here."""


@dataclass
class Sent:
    """What a client was promised: predictions with an id, outcomes that were accepted, outcomes in doubt."""

    predictions: list[str] = field(default_factory=list)
    outcomes: dict[str, float] = field(default_factory=dict)
    doubtful: dict[str, float] = field(default_factory=dict)
    unlabelled: list[str] = field(default_factory=list)


def main() -> None:
    args = _report.arguments(__doc__, kills=200, members=100_000, seed=0, refits=False)
    kills, members = (20, 5_000) if args.quick else (args.kills, args.members)
    with tempfile.TemporaryDirectory() as folder:
        found = run(Path(folder), kills, members, args.seed, refits=args.refits)
    print(f"{found['predictions']:,} predictions and {found['outcomes']:,} outcomes acknowledged over {kills} kills")
    print(f"restart to ready: {found['restart']} s")
    bars = [
        _report.Bar("kills", kills, 200, "", ">="),
        _report.Bar("events_lost", found["lost"], 0, "events", "<="),
        _report.Bar("events_doubled", found["doubled"], 0, "events", "<="),
        _report.Bar("posteriors_differ", found["differ"], 0, "entities", "<="),
        _report.Bar("restart_s", found["restart"].median, 2.0, "s", "<="),
    ]
    _report.finish(bars, args.json)


def run(folder: Path, kills: int, members: int, seed: int, *, refits: bool = False) -> dict[str, Any]:
    """Kill, restart, and compare; `tests/test_crash.py` runs the same with fewer kills."""
    from nearline import config as configs
    from nearline.loop import Committed, audit

    market = LiveMarket(members=members, events=20_000, seed=seed)
    live = 'snapshot = "20s"' + ("\nlag = 100" if refits else "")
    config = market.prepare(folder, window="3s", live=live, extra=EVERYTHING)
    rng, sent, restarts = np.random.default_rng(seed), Sent(), []
    with Service(config) as service:
        version = ""
        for number in range(kills):
            restarts.append(service.start())
            load = threading.Thread(target=_load, args=(service.port, market, sent, rng))
            load.start()
            time.sleep(float(rng.uniform(0.05, 1.0)))
            service.kill()
            load.join()
            if refits and number % 2:
                version = _refit(config)
            elif refits and version:
                _nearline("publish", version, str(config))
        service.start()
        client = Client(service.port)
        _settle_doubts(client, sent)
        for _ in settled(client):
            pass
        _caught_up(client)
        service.stop()
    settings = configs.load(config).running()
    found = audit(settings.folder, settings.safety)
    lost = sum(name not in found.predictions for name in sent.predictions)
    lost += sum(found.labels.get(name) != label for name, label in sent.outcomes.items())
    return {
        "lost": lost, "doubled": found.doubled, "differ": found.posteriors_differ,
        "restart": _report.Spread.of(restarts), "predictions": len(sent.predictions), "outcomes": len(sent.outcomes),
        "swaps": len(Committed.of(settings.folder).copies),
    }  # fmt: skip


def _caught_up(client: Client, timeout: float = 60.0) -> None:
    """Wait until the published version has learned what came after its cut-off, and is served."""
    until = time.monotonic() + timeout
    while client.get("/api/status")["versions"]["coming"] is not None:
        if time.monotonic() > until:
            raise RuntimeError("the published version still catches up")
        time.sleep(0.05)


def _refit(config: Path) -> str:
    """Register the next batch version; its name."""
    version: str = _nearline("refit", str(config), "--no-publish")["version"]
    return version


def _nearline(*arguments: str) -> Any:
    command = [sys.executable, "-m", "nearline", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **PINNED})
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def _load(port: int, market: LiveMarket, sent: Sent, rng: np.random.Generator) -> None:
    """Predict and label as fast as one connection goes, until the service is gone."""
    client = Client(port)
    try:
        _settle_doubts(client, sent)
        while True:
            answer = client.post("/predict", {"rows": market.rows(20, rng)})
            ids = [row["prediction_id"] for row in answer["predictions"]]
            sent.predictions += ids
            sent.unlabelled += ids
            names = [sent.unlabelled.pop(int(rng.integers(len(sent.unlabelled)))) for _ in range(15)]
            sent.doubtful = {name: float(rng.random() < 0.3) for name in names}
            _settle_doubts(client, sent)
    except GONE:
        client.close()


def _settle_doubts(client: Client, sent: Sent) -> None:
    """Post the outcomes that nobody has acknowledged yet."""
    if sent.doubtful:
        rows = [{"prediction_id": name, "label": label} for name, label in sent.doubtful.items()]
        answer = client.post("/outcome", {"outcomes": rows})
        if answer["rejected"]:
            raise RuntimeError(f"outcomes of acknowledged predictions were rejected: {answer['rejected'][:3]}")
        sent.outcomes |= sent.doubtful
        sent.doubtful = {}


if __name__ == "__main__":
    main()
