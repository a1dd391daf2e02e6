"""A small stream with a known truth, a `nearline.toml` with a network, and a real loop that is asked over HTTP."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tests.loop.parts import CALM
from tests.loop.running import turn
from typer.testing import CliRunner

from nearline.cli._app import app as commands
from nearline.cli._run import loop_of
from nearline.config import load
from nearline.deep import NetworkGLMix, load_model
from nearline.loop import Loop
from nearline.serve import App
from nearline.store import Registry, Version

CONFIG = """
[data]
path = "history.parquet"

[schema]
label = "clicked"

[fixed]
on = ["price", "device"]

[fixed.network]
kind = "mlp"
hidden = [8]
embedding = 4
epochs = 12
batch_size = 32
learning_rate = 0.01

[[random]]
key = "member"

[live]
folder = "state"
batch = 100

[fit]
learn_priors = false

[safety]
excess = 1e9
shift = 1e9

[join]
window = "1h"

[guard]
enabled = false

[change]
enabled = false

[training]
judge = 100

[gate]
enabled = {gate}
"""
SAFETY = CALM


def rows_of(n: int, seed: int) -> tuple[dict[str, list[Any]], np.ndarray[Any, Any]]:
    """Rows, and labels from a truth in which the device matters by price."""
    rng = np.random.default_rng(seed)
    price, device = rng.normal(size=n), rng.integers(0, 2, n)
    p = 1 / (1 + np.exp(-2.0 * price * (2 * device - 1)))
    rows = {
        "member": rng.integers(0, 12, n).tolist(), "price": price.tolist(),
        "device": [("phone", "desk")[d] for d in device],
    }  # fmt: skip
    return rows, (rng.random(n) < p).astype(float)


def configured(folder: Path, more: str = "", gate: str = "false") -> Path:
    """A configuration with 600 rows of history."""
    file = folder / "nearline.toml"
    file.write_text(CONFIG.format(gate=gate) + more)
    rows, label = rows_of(600, 0)
    pq.write_table(pa.table({**rows, "clicked": label.astype(int)}), folder / "history.parquet")
    return file


def said(*arguments: str, status: int = 0) -> Any:
    """The JSON that a command prints; it must end as expected."""
    done = CliRunner().invoke(commands, [*arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == status, done.output
    return json.loads(done.stdout)


class Talk:
    """A loop that is not started, and the questions of a client; `turn` makes it work."""

    def __init__(self, file: Path) -> None:
        self.loop: Loop = loop_of(load(file).running())
        self.loop.error = None
        self.app = App(self.loop)

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.close()

    def ask(self, method: str, path: str, **request: Any) -> Any:
        """The JSON of an answer, which must be 200."""

        async def asking() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=True)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.request(method, path, **request)

        answer = asyncio.run(asking())
        assert answer.status_code == 200, answer.text
        return answer.json() if "json" in answer.headers["content-type"] else answer.text

    def predict(self, rows: dict[str, list[Any]]) -> list[dict[str, Any]]:
        """Predictions of rows."""
        one_by_one = [dict(zip(rows, values)) for values in zip(*rows.values())]
        found: list[dict[str, Any]] = self.ask("POST", "/predict", json={"rows": one_by_one})["predictions"]
        return found

    def stream(self, n: int, seed: int, size: int = 50) -> list[str]:
        """Predict and label n rows, `size` at a time, and learn them; the ids of the predictions."""
        rows, label = rows_of(n, seed)
        ids: list[str] = []
        for at in range(0, n, size):
            told = self.predict({name: values[at : at + size] for name, values in rows.items()})
            ids += [one["prediction_id"] for one in told]
            outcomes = [
                {"prediction_id": one["prediction_id"], "label": float(y)}
                for one, y in zip(told, label[at : at + size])
            ]
            assert self.ask("POST", "/outcome", json={"outcomes": outcomes})["accepted"] == len(outcomes)
            self.turn()
        return ids

    def turn(self) -> None:
        """One turn of the learner thread."""
        self.loop._looked = -1e9
        turn(self.loop)


def model_of(config: Path, version: str) -> NetworkGLMix:
    registry = Registry(config.parent / "state", clock=lambda: 0.0)
    try:
        found = load_model(registry.path(Version.parse(version)))
    finally:
        registry.close()
    assert isinstance(found, NetworkGLMix)
    return found
