"""From prediction to roll back over HTTP, against a real loop."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.loop.parts import CALM, same_model
from tests.loop.running import Clock, opened, published, turn

from nearline.loop import audit
from nearline.serve import App


def test_predict_outcome_correct_retract_rollback(tmp_path: Path) -> None:
    clock = Clock()
    published(tmp_path, clock=clock)
    loop = opened(tmp_path, clock)
    loop.error = None
    base = loop.live.scorer.model.replica()
    app = App(loop)
    row = {"member": 3, "ad": "ad1", "price": 9.0, "when": clock.now}

    def ask(method: str, path: str, **request: Any) -> Any:
        async def asking() -> httpx.Response:
            transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.request(method, path, **request)

        answer = asyncio.run(asking())
        assert answer.status_code == 200, answer.text
        return answer.json()

    def predicted() -> dict[str, Any]:
        found: dict[str, Any] = ask("POST", "/predict", json={"rows": [row]})["predictions"][0]
        return found

    before = predicted()
    assert before["version"] == "1.0.0"
    name = before["prediction_id"]
    assert ask("POST", "/outcome", json={"prediction_id": name, "label": 1})["accepted"] == 1
    turn(loop)
    learned = predicted()
    assert learned["version"] == "1.0.1"
    assert learned["probability"] > before["probability"]
    ask("POST", "/outcome", json={"prediction_id": name, "label": 0, "kind": "correct"})
    turn(loop)
    corrected = predicted()
    assert corrected["version"] == "1.0.2"
    assert corrected["probability"] < before["probability"]
    ask("POST", "/outcome", json={"prediction_id": name, "kind": "retract"})
    turn(loop)
    retracted = predicted()
    assert retracted["probability"] == pytest.approx(before["probability"], abs=1e-6)
    status = ask("GET", "/api/status")
    assert [status["joins"][key] for key in ("learned", "corrected", "retracted")] == [1, 1, 1]
    assert status["model"]["version"] == "1.0.3"
    clock.now += 1.0
    assert ask("POST", "/versions/rollback", json={"why": "a test"}) == {"version": "1.0.0"}
    assert same_model(loop.live.scorer.model, base)
    assert predicted()["version"] == "1.0.0"
    assert predicted()["probability"] == before["probability"]
    shown = ask("GET", "/versions")
    assert shown["live"] == "1.0.0"
    assert [change["action"] for change in shown["history"]] == ["rollback", "publish", "publish"]
    loop.close()
    found = audit(tmp_path, CALM)
    assert (found.labels, found.doubled, found.posteriors_differ) == ({}, 0, 0)
    assert found.predictions >= {name, learned["prediction_id"]}
