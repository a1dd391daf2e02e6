"""`POST /versions/publish` on a running loop asks the gate that `nearline publish` asks; judging holds up nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.loop.parts import rows
from tests.loop.running import Clock, candidates, happened, opened, predict, turn

from nearline._errors import Conflict, StateError
from nearline.gate import PublishSettings, Refused
from nearline.loop import Gating, Loop, _gatekeeper
from nearline.serve import App

GATING = Gating(PublishSettings(minimum=100, slice_minimum=50, latency_ratio=20.0), slices=("ad",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    candidates(tmp_path / "state")
    return tmp_path / "state"


@pytest.fixture
def loop(folder: Path) -> Iterator[Loop]:
    made = opened(folder, Clock(2_000.0), gating=GATING)
    yield made
    made.close()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Judging waits: the first event says that it has begun, setting the second lets it go on."""
    begun, go_on, real = threading.Event(), threading.Event(), _gatekeeper.judged

    def judged(*given: Any, **options: Any) -> Any:
        begun.set()
        assert go_on.wait(30)
        return real(*given, **options)

    monkeypatch.setattr(_gatekeeper, "judged", judged)
    yield begun, go_on
    go_on.set()


def order(loop: Loop, **body: Any) -> tuple[int, Any]:
    """Status and answer of POST /versions/publish."""

    async def asking() -> httpx.Response:
        transport = httpx.ASGITransport(app=App(loop))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post("/versions/publish", json=body, timeout=60)

    answer = asyncio.run(asking())
    return answer.status_code, answer.json()


def aside(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Do work in a thread; what it returned or raised is in the list when it is done."""
    came: list[Any] = []

    def doing() -> None:
        try:
            came.append(work())
        except Exception as error:
            came.append(error)

    thread = threading.Thread(target=doing)
    thread.start()
    return thread, came


def test_a_version_that_would_do_worse_is_refused_with_reasons(loop: Loop) -> None:
    before = loop.live.scorer.version
    status, answer = order(loop, version="2.0.0", why="it is newer")
    error = answer["error"]
    assert (status, error["type"], error["field"]) == (409, "refused", "force")
    assert error["message"].startswith("the gate refuses version 2.0.0: loss: log loss ")
    assert error["message"].endswith('; to publish it all the same, send "force": true')
    assert loop.live.scorer.version == before
    assert loop.history()[0]["version"] == before


def test_a_refused_version_can_be_forced_and_the_history_says_so(loop: Loop) -> None:
    status, answer = order(loop, version="2.0.0", why="we know better", force=True)
    assert (status, answer["gate"]["verdict"]) == (200, "refused")
    assert answer["gate"]["reasons"][0].startswith("loss: log loss ")
    newest = loop.history()[0]
    assert (newest["version"], newest["who"].split()[0]) == ("2.0.0", "admin")
    assert newest["why"].startswith("we know better (forced, although refused: loss: log loss ")


def test_a_version_that_passes_is_published_with_what_was_found(loop: Loop) -> None:
    status, answer = order(loop, version="3.0.0", why="as good")
    assert (status, answer["gate"]["verdict"], answer["gate"]["reasons"]) == (200, "passed", [])
    assert set(answer["gate"]["checks"]) >= {"examples", "loss", "calibration", "slices", "latency", "size"}
    assert answer["gate"]["checks"]["examples"] == "600 with an outcome"
    assert loop.history()[0]["why"] == "as good"
    turn(loop)
    assert loop.live.scorer.version.startswith("3.0.")


def test_what_is_live_is_not_judged(loop: Loop) -> None:
    live = loop.live.scorer.version
    assert order(loop, version=live, why="again")[1]["gate"] == {
        "verdict": "not judged", "reasons": ["it is live already"], "checks": {},
    }  # fmt: skip


def test_without_a_gate_everything_is_published(folder: Path) -> None:
    ungated = opened(folder, Clock(3_000.0))
    found = ungated.publish("2.0.0", "the gate is off", "ann").gate
    assert found is not None
    assert (found.verdict, found.reasons) == ("not judged", ["the gate is switched off: [gate] enabled = false"])
    assert ungated.history()[0]["version"] == "2.0.0"
    ungated.close()


def test_predictions_and_learning_go_on_while_a_version_is_judged(loop: Loop, held: Any) -> None:
    begun, go_on = held
    thread, came = aside(lambda: loop.publish("3.0.0", "as good", "ann"))
    assert begun.wait(30)
    learned = loop.learner.counts.get("learn", 0)
    happened(loop, predict(loop, rows([1, 2])), 1.0)
    turn(loop)
    assert loop.learner.counts["learn"] == learned + 2
    with pytest.raises(Conflict, match=r"another version is being judged; ask for 2\.0\.0 again"):
        loop.publish("2.0.0", "meanwhile", "bob")
    go_on.set()
    thread.join(60)
    assert came[0].gate.verdict == "passed"
    assert came[0].gate.checks["examples"] == "602 with an outcome"


def test_what_went_live_meanwhile_is_not_replaced(loop: Loop, held: Any) -> None:
    begun, go_on = held
    thread, came = aside(lambda: loop.publish("3.0.0", "as good", "ann"))
    assert begun.wait(30)
    loop.rollback("1.0.0", "worse", "bob")
    go_on.set()
    thread.join(60)
    assert isinstance(came[0], Conflict)
    assert "something else went live while version 3.0.0 was judged" in str(came[0])
    assert loop.history()[0]["action"] == "rollback"


def test_judging_is_given_up_when_the_service_stops(loop: Loop) -> None:
    with pytest.raises(StateError, match=r"the service stops while version 3\.0\.0 is judged; nothing was published"):
        loop.publish("3.0.0", "as good", "ann", halted=lambda: True)
    with pytest.raises(Refused, match="the gate refuses version"):  # and the next one can be judged
        loop.publish("2.0.0", "newer", "ann")
