"""The dashboard over a service that really runs: a loop that records, joins and learns, behind uvicorn, in Chromium."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from nearline import config as configs
from nearline import simulate
from nearline.cli import _fit
from nearline.cli._run import loop_of
from nearline.serve import App, Tokens, bound, server

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install .[dev]")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path: apt-get install chromium")

TOKENS = {"predict": "a long predict token", "outcome": "a long outcome token", "admin": "a long admin token"}
MARKET = simulate.Marketplace(events=6_000, members=60, ads=20, campaigns=4, days=1.0, shocks=())
CONFIG = """
[data]
path = "history.parquet"
[schema]
label = "clicked"
time = "timestamp"
[fixed]
on = ["country", "device"]
[[random]]
key = "member_id"
on = ["category"]
[[random]]
key = "ad_id"
[fit]
learn_priors = false
[live]
folder = "state"
[join]
window = "1h"
"""
COLUMNS = ["member_id", "ad_id", "country", "device", "category"]


class Running:
    """The address of a service, a client with its tokens, and rows that nobody has seen yet."""

    def __init__(self, url: str, rows: list[dict[str, Any]], labels: list[int]) -> None:
        self.url, self.rows, self.labels = url, rows, labels

    def post(self, path: str, body: dict[str, Any]) -> Any:
        role = path.split("/")[1]
        headers = {"Authorization": f"Bearer {TOKENS.get(role, TOKENS['admin'])}"}
        answer = httpx.post(f"{self.url}{path}", json=body, headers=headers, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def status(self) -> Any:
        return httpx.get(f"{self.url}/api/status", timeout=60).json()

    def learn(self, first: int, last: int) -> None:
        """Predict rows, say what happened, and wait until it was learned."""
        before = self.status()["joins"]["learned"]
        made = self.post("/predict", {"rows": self.rows[first:last]})["predictions"]
        outcomes = [{"prediction_id": p["prediction_id"], "label": y} for p, y in zip(made, self.labels[first:last])]
        assert self.post("/outcome", {"outcomes": outcomes}) == {"accepted": last - first, "rejected": []}
        until(lambda: self.status()["joins"]["learned"] >= before + last - first)


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.05)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    table = simulate.stream(MARKET)
    pq.write_table(table.slice(0, 4_000), tmp_path / "history.parquet")
    (tmp_path / "nearline.toml").write_text(CONFIG)
    config = configs.load(tmp_path / "nearline.toml")
    model, found = _fit.learn(config, config.table(), lambda name, share: None)
    _fit.keep(config, model, "fit from history", True, found)
    listening = bound("127.0.0.1", 0)
    with loop_of(config.running()) as loop:
        app = App(loop, tokens=Tokens.of({role: [token] for role, token in TOKENS.items()}))
        serving = server(app)
        thread = threading.Thread(target=serving.run, kwargs={"sockets": [listening]})
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        until(lambda: serving.started)
        rest = table.slice(4_000)
        yield Running(url, rest.select(COLUMNS).to_pylist(), rest["clicked"].to_pylist())
        serving.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
    listening.close()


@pytest.fixture
def page() -> Iterator[Any]:
    """A page whose script errors fail the test."""
    errors: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
        browser.close()
    assert not errors


def test_the_page_follows_a_run_and_rolls_it_back(page: Any, running: Running) -> None:
    """What is predicted, joined and learned shows without a reload; a roll back there is one of the service."""
    untaught = [p["probability"] for p in running.post("/predict", {"rows": running.rows[:50]})["predictions"]]
    page.goto(running.url)
    page.wait_for_selector("body[data-state=live]")
    assert page.locator("#version").inner_text() == "1.0.0"

    running.learn(0, 400)
    expect = playwright.expect
    expect(page.locator("#version")).to_have_text("1.0.400")
    expect(page.locator("#join-learned")).to_have_text("400")
    expect(page.locator("#join-pending")).to_have_text("50")
    expect(page.locator("#live-log_loss")).to_have_text(f"{running.status()['quality']['live']['log_loss']:.4f}")
    expect(page.locator("#fresh-p50")).to_contain_text("ms")
    expect(page.locator("#empty")).to_be_hidden()
    assert page.locator("#busiest li .who").count() > 0
    taught = running.post("/predict", {"rows": running.rows[:50]})["predictions"]
    assert [p["probability"] for p in taught] != untaught

    page.get_by_role("button", name="Roll back to 1.0.0").click()
    page.get_by_label("Reason").fill("trying it out")
    page.get_by_label("Admin token").fill("no such admin token")
    page.locator("#confirm").click()
    expect(page.locator("#dialog-error")).to_have_text("this is no token for admin")
    assert running.status()["model"]["version"] == "1.0.400"

    page.get_by_label("Admin token").fill(TOKENS["admin"])
    page.locator("#confirm").click()
    expect(page.locator("#done")).to_have_text("Rolled back: version 1.0.0 is live.")
    expect(page.locator("#version")).to_have_text("1.0.0")
    expect(page.locator("#history")).to_contain_text("trying it out")
    again = running.post("/predict", {"rows": running.rows[:50]})["predictions"]
    assert {p["version"] for p in again} == {"1.0.0"}
    assert [p["probability"] for p in again] == untaught
    newest = running.status()["versions"]["history"][0]
    assert (newest["action"], newest["version"], newest["why"]) == ("rollback", "1.0.0", "trying it out")

    running.learn(400, 600)  # and it learns on from there
    expect(page.locator("#version")).not_to_have_text("1.0.0")
    assert page.get_by_role("button", name="Roll back to 1.0.400").is_visible()
