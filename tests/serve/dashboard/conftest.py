"""A service that answers with a status, and its page in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from tests.serve.dashboard.parts import FAULT, Service, described, later

from nearline import Fixed, GLMix, Random, Schema, simulate


@pytest.fixture(scope="session")
def status() -> dict[str, Any]:
    """What the service would say of a marketplace that it has learned from for a while."""
    table = simulate.stream(simulate.Marketplace(events=12_000, members=300, ads=60, campaigns=8, days=1.0, shocks=()))
    history, live_events = table.slice(0, 4_000), table.slice(4_000)
    on = ["country", "device", "category", "price"]
    random = [Random("member_id", on=["category"]), Random("ad_id", on=["device"])]
    live = GLMix(Schema(time="timestamp", label="clicked"), fixed=Fixed(*on), random=random)
    live.fit(history)
    only = GLMix(Schema(time="timestamp", label="clicked"), fixed=Fixed(*on))
    only.fit(history)
    stale = live.fork()
    p = {"stale": stale.predict_proba(live_events), "fixed": only.predict_proba(live_events)}
    progress = live.progressive(live_events)
    p["live"] = 1 / (1 + np.exp(-progress.margin))
    return described(live_events, p, stale, live)


@pytest.fixture
def service(status: dict[str, Any]) -> Iterator[Service]:
    shift = time.time() - status["time"]  # as if it had been measured just now
    fresh = json.loads(json.dumps(status), object_hook=partial(later, shift))
    with Service(fresh) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield running
        running.down = True
        running.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install .[dev]")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no chromium on the path: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page of 1280 by 900 that fails the test on any script error or refused resource."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page, problems = context.new_page(), []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: problems.append(said.text) if re.search(FAULT, said.text) else None)
    page.on("dialog", lambda dialog: (problems.append("a script ran"), dialog.dismiss()))
    page.set_default_timeout(8000)
    yield page
    context.close()
    assert problems == []
