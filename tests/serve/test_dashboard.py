"""The dashboard in a real browser: what it shows, that it keeps up, that it is safe, and that it fits."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearline import DataError, Fixed, GLMix, Random, Schema, evaluate, simulate

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install .[dev]")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path: apt-get install chromium")

STATIC = Path(str(resources.files("nearline"))) / "serve" / "static"
POLICY = (  # nothing looser than what the service sends
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
FAULT = r"Content Security|Error:"
HOSTILE = "<img src=x onerror=alert(1)>"
TOKEN = "a long admin token"


# -- a status made of numbers that a model really had -----------------------------------------------------------------


@pytest.fixture(scope="module")
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


def described(events: Any, p: dict[str, np.ndarray], before: GLMix, after: GLMix) -> dict[str, Any]:
    y = events["clicked"].to_numpy().astype(float)
    loss = {name: -np.log(np.where(y == 1, q, 1 - q)) for name, q in p.items()}
    won = loss["stale"] - loss["live"]
    wide = 3.0 * won.std() / np.sqrt(len(won))
    now = time.time()
    return {
        "time": now,
        "started": now - 5400,
        "model": {
            "version": "1.0.8000", "base": "1.0.0", "learned": len(y), "link": "logit",
            "entities": {"member_id": 300, "ad_id": 60}, "dims": {"fixed": 18, "member_id": 7, "ad_id": 4},
            "bytes": after.nbytes(),
        },
        "freshness": {"lag_s": 0.21, "p50_ms": 184.2, "p99_ms": 412.0, "waiting": 37},
        "traffic": {"predict_rps": 412.3, "rows_per_s": 20615.0, "outcomes_per_s": 1893.0,
                    "p50_ms": 1.84, "p99_ms": 7.2, "errors": 0},
        "joins": {"pending": 41_220, "learned": 183_402, "negative": 61_034, "late": 128, "corrected": 14,
                  "retracted": 3, "repeated": 52, "expired": 0, "refused": 2, "quarantined": 1},
        "quality": {
            "window": len(y),
            **{name: scores(y, p[name]) for name in ("live", "stale", "fixed")},
            "lift_over_stale": {"mean": won.mean(), "low": won.mean() - wide, "high": won.mean() + wide, "n": len(y)},
            "negative_flips": float(np.mean(((p["stale"] > 0.5) == y) & ((p["live"] > 0.5) != y))),
            "series": series(y, p, loss, now),
        },
        "guard": {"state": "watching", "reason": ""},
        "selection": {"version": "1.0.0", "rules": [
            rule("trained", "pps", 0.4213, 1.004, 0.31, 0.69), rule("shadow", "uniform", 0.4291, 0.991, None, None),
        ]},
        "versions": {"live": "1.0.0", "history": [
            {"time": now - 1900, "action": "publish", "version": "1.0.0", "who": "admin", "why": "Weekly batch fit"},
            {"time": now - 9000, "action": "rollback", "version": "0.9.0", "who": "guard", "why": "live lost 0.004"},
            {"time": now - 90000, "action": "publish", "version": "0.9.0", "who": "admin", "why": HOSTILE},
        ]},
        "busiest": busiest(events, before, after),
    }  # fmt: skip


def rule(role: str, name: str, loss: float, calibration: float, share: Any, kappa: Any) -> dict[str, Any]:
    return {
        "role": role, "rule": name, "seen": 20_000, "chosen": 2_000, "total_seen": 183_402, "total_chosen": 18_340,
        "effective": 1612.4, "largest_weight": 2.87, "uniform_share": share, "kappa": kappa, "lag": 1.0, "held": 0.0,
        "trimmed": 0.0, "examples": 12_000, "log_loss": loss, "calibration": calibration,
    }  # fmt: skip


def scores(y: np.ndarray, p: np.ndarray) -> dict[str, float]:
    return {
        "log_loss": evaluate.log_loss(y, p),
        "auc": evaluate.auc(y, p),
        "calibration": evaluate.calibration_ratio(y, p),
    }


def series(y: np.ndarray, p: dict[str, np.ndarray], loss: dict[str, np.ndarray], now: float) -> list[dict[str, float]]:
    """Means over a sliding window, every so many events."""
    window, ends = 1500, np.linspace(1500, len(y), 240).astype(int)
    lag = np.random.default_rng(0).gamma(6.0, 0.035, len(ends))
    return [
        {"time": now - 2.0 * (len(ends) - k), "lag_s": float(lag[k]),
         **{name: float(loss[name][end - window : end].mean()) for name in loss},
         "calibration": float(p["live"][end - window : end].mean() / y[end - window : end].mean())}
        for k, end in enumerate(ends)
    ]  # fmt: skip


def busiest(events: Any, before: GLMix, after: GLMix) -> list[dict[str, Any]]:
    found = []
    for effect in ("ad_id", "member_id"):
        ids, counts = np.unique(events[effect].to_numpy(), return_counts=True)
        for entity in ids[np.argsort(-counts)[:4]]:
            changes = moved(before, after, effect, int(entity))
            found.append(
                {"effect": effect, "entity": str(entity), "events": int(counts[ids == entity][0]), "changes": changes}
            )
    found.sort(key=lambda one: -one["events"])
    found[1]["entity"], found[2]["changes"][0]["feature"] = HOSTILE, HOSTILE
    return found


def moved(before: GLMix, after: GLMix, effect: str, entity: int) -> list[dict[str, Any]]:
    old, new = means(before, effect, entity), means(after, effect, entity)
    names = sorted(new, key=lambda name: -abs(new[name] - old.get(name, 0.0)))[:3]
    return [{"feature": name, "before": old.get(name, 0.0), "after": new[name]} for name in names]


def means(model: GLMix, effect: str, entity: int) -> dict[str, float]:
    try:
        return {one.name: one.mean for one in model.coefficients(effect, entity)}
    except DataError:  # not seen in the history
        return {}


# -- a service that answers with it ------------------------------------------------------------------------------------


class Service(http.server.ThreadingHTTPServer):
    """The static folder, a status that tests change, and roll-backs that are written down."""

    daemon_threads = True

    def __init__(self, status: dict[str, Any]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.streams, self.down = status, True, False
        self.orders: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is no error."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        path = self.path.split("?")[0].lstrip("/")
        if self.server.down:
            return self.close()
        if path == "api/status":
            return self.answer(200, self.server.status)
        if path == "api/events" and self.server.streams:
            return self.stream()
        file = STATIC / (path.removeprefix("static/") or "index.html")
        if not file.is_file():
            return self.answer(404, {"error": {"type": "not_found", "message": "no such page"}})
        kind = self.kinds.get(file.suffix, "application/octet-stream")
        return self.send(200, kind, file.read_bytes())

    kinds = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}  # noqa: RUF012

    def do_POST(self) -> None:
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.orders.append({"path": self.path, "token": self.headers["Authorization"], **order})
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            return self.answer(403, {"error": {"type": "forbidden", "message": f"not the admin token {HOSTILE}"}})
        return self.answer(200, {"version": "0.9.0"})

    def stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        while not self.server.down:
            self.wfile.write(b"event: status\ndata: " + json.dumps(self.server.status).encode() + b"\n\n")
            time.sleep(0.1)
        self.close()

    def answer(self, code: int, body: dict[str, Any]) -> None:
        self.send(code, "application/json", json.dumps(body).encode())

    def send(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def close(self) -> None:
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


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


def later(shift: float, held: dict[str, Any]) -> dict[str, Any]:
    return {name: value + shift if name in ("time", "started") else value for name, value in held.items()}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
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


def visit(page: Any, service: Service) -> None:
    page.goto(service.url)
    page.wait_for_selector("body[data-state=live]")


def expect(page: Any, element: str, part: str) -> None:
    playwright.expect(page.locator(f"#{element}")).to_contain_text(part)


def text(page: Any, element: str) -> str:
    return str(page.locator(f"#{element}").inner_text()).replace("\u00a0", " ")


# -- what it shows -----------------------------------------------------------------------------------------------------


def test_the_important_numbers_are_there(page: Any, service: Service) -> None:
    visit(page, service)
    lift, live = service.status["quality"]["lift_over_stale"], service.status["quality"]["live"]
    assert (text(page, "fresh-p50"), text(page, "fresh-p99"), text(page, "fresh-lag")) == ("184 ms", "412 ms", "210 ms")
    assert text(page, "lift-mean") == f"{lift['mean']:+.4f}"
    assert text(page, "lift-interval") == f"{lift['low']:+.4f} to {lift['high']:+.4f}"
    assert "above zero" in text(page, "lift-verdict")
    assert text(page, "live-log_loss") == f"{live['log_loss']:.4f}"
    assert text(page, "live-calibration") == f"{live['calibration']:.3f}"
    assert (text(page, "traffic-rows"), text(page, "traffic-p50")) == ("20.6k/s", "1.8 ms")
    assert (text(page, "join-pending"), text(page, "join-learned"), text(page, "join-quarantined")) == (
        "41.2k",
        "183k",
        "1",
    )
    assert text(page, "version") == "1.0.8000"
    assert text(page, "guard-text") == "Guard watching"


def test_rules_that_choose_what_a_network_is_trained_on_are_compared(page: Any, service: Service) -> None:
    visit(page, service)
    told = [
        [cell.inner_text().replace("\u00a0", " ") for cell in row.locator("th, td").all()]
        for row in page.locator("#selection-rules tr").all()
    ]
    assert told[0] == ["pps", "183k", "18.3k (10%)", "1.61k", "2.87", "0.31", "0.69", "0.4213", "1.004", "12k"]
    assert told[1][0] == "uniform (for comparison)"
    assert told[1][5:7] == ["–", "–"]
    service.status["selection"] = None
    playwright.expect(page.locator("#selection")).to_be_hidden()


def test_numbers_follow_the_service_and_elements_stay(page: Any, service: Service) -> None:
    visit(page, service)
    page.evaluate("for (const e of document.querySelectorAll('#busiest li, #history li, path')) e.kept = true")
    service.status["freshness"]["p50_ms"] = 2500.0
    service.status["busiest"][0]["events"] = 123_456
    expect(page, "fresh-p50", "2.5")
    expect(page, "busiest", "123k")
    assert page.evaluate("[...document.querySelectorAll('#busiest li, #history li, path')].every((e) => e.kept)")


def test_it_asks_again_and_again_where_events_do_not_come_through(page: Any, service: Service) -> None:
    service.streams = False
    visit(page, service)
    service.status["freshness"]["waiting"] = 4711
    expect(page, "fresh-waiting", "4.71k")


def test_charts_have_lines_axes_and_values(page: Any, service: Service) -> None:
    visit(page, service)
    assert page.locator("#loss-chart path.line").evaluate_all(
        "(all) => all.every((p) => p.getAttribute('d').length > 1000)"
    )
    assert page.locator("#loss-chart .axis text").count() >= 5
    page.locator("#loss-chart svg").focus()
    page.keyboard.press("End")
    series = service.status["quality"]["series"]
    shown = page.locator("#loss-chart .tip").inner_text()
    for name in ("live", "stale", "fixed"):
        assert f"{np.mean([point[name] for point in series[-7:]]):.4f}" in shown
    assert text(page, "averaged") == "Curves are means over the last 14 s."
    page.keyboard.press("Home")
    assert f"{service.status['quality']['series'][0]['live']:.4f}" in page.locator("#loss-chart .tip").inner_text()
    assert "Latest: Live" in page.locator("#loss-chart svg").get_attribute("aria-label")


def test_seconds_without_a_click_count_in_the_mean_calibration(page: Any, service: Service) -> None:
    """Σ prediction / Σ outcome: thirty seconds that predict 1 each; all clicks of seven come in one of them."""
    point = {"live": 0.3, "stale": 0.3, "fixed": 0.3}
    service.status["quality"]["series"] = [
        {"time": 1e9 + k, **point, "calibration": 1 / 7 if k % 7 == 4 else None} for k in range(30)
    ]
    visit(page, service)
    page.locator("#calibration-chart svg").focus()
    page.keyboard.press("End")
    assert page.locator("#calibration-chart .tip b").nth(1).inner_text() == "1.000"


def test_lag_is_drawn_from_what_the_page_saw_where_the_service_keeps_no_series(page: Any, service: Service) -> None:
    for point in service.status["quality"]["series"]:
        del point["lag_s"]
    visit(page, service)
    assert page.locator("#lag-chart .none").is_visible()
    service.status["time"] += 1
    playwright.expect(page.locator("#lag-chart .none")).to_be_hidden()
    assert "Lag 210" in page.locator("#lag-chart svg").get_attribute("aria-label")


def test_the_live_version_is_found_by_its_base_and_can_go_back_to_it(page: Any, service: Service) -> None:
    service.status["versions"]["live"] = "1.0.8000"
    visit(page, service)
    row = page.locator("#history li").first
    assert row.locator(".pill").inner_text() == "Base of the live one"
    assert row.get_by_role("button", name="Roll back to 1.0.0").is_visible()


def test_a_learner_that_stopped_says_why(page: Any, service: Service) -> None:
    service.status["error"] = f"disk full {HOSTILE}"
    visit(page, service)
    assert text(page, "stopped") == f"Learning has stopped: disk full {HOSTILE}"


def test_silence_is_obvious_and_ends(page: Any, service: Service) -> None:
    visit(page, service)
    service.down = True
    page.wait_for_selector("body[data-state=lost]")
    assert re.match(r"No answer since \d\d:\d\d:\d\d", text(page, "alert"))
    assert text(page, "fresh-p50") == "184 ms"
    service.down = False
    page.wait_for_selector("body[data-state=live]")
    assert page.locator("#alert").is_hidden()


@pytest.mark.parametrize(
    "empty", [{}, {"model": {"version": "1.0.0", "learned": 0}, "quality": {"live": None, "series": []}}]
)
def test_no_data_yet_is_friendly(page: Any, service: Service, empty: dict[str, Any]) -> None:
    service.status = {"time": time.time(), **empty}
    visit(page, service)
    assert page.locator("#empty").is_visible()
    assert f"{service.url}predict" in text(page, "example-predict")
    assert page.locator("#loss-chart .none").is_visible()
    assert not re.search(r"NaN|undefined|null|Infinity", page.locator("body").inner_text())


def test_the_guard_says_when_it_rolled_back(page: Any, service: Service) -> None:
    service.status["guard"] = {"state": "rolled_back", "reason": f"live lost {HOSTILE}"}
    visit(page, service)
    assert text(page, "guard-notice") == f"The guard rolled back: live lost {HOSTILE}"


# -- rolling back ------------------------------------------------------------------------------------------------------


def test_rolling_back_posts_version_reason_and_token(page: Any, service: Service) -> None:
    visit(page, service)
    page.get_by_role("button", name="Roll back to 0.9.0").click()
    page.get_by_label("Reason").fill("calibration is off")
    page.get_by_label("Admin token").fill(TOKEN)
    page.locator("#confirm").click()
    page.wait_for_selector("#done:not([hidden])")
    assert text(page, "done") == "Rolled back: version 0.9.0 is live."
    order = {"path": "/versions/rollback", "token": f"Bearer {TOKEN}", "to": "0.9.0", "why": "calibration is off"}
    assert service.orders == [order]
    assert page.evaluate("Object.values(sessionStorage)") == [TOKEN]
    assert page.evaluate("localStorage.length") == 0


def test_rolling_back_needs_a_reason_and_shows_the_servers_error(page: Any, service: Service) -> None:
    visit(page, service)
    page.locator("#roll-back").click()
    page.keyboard.press("Enter")
    assert "Say why" in text(page, "dialog-error")
    assert service.orders == []
    page.get_by_label("Reason").fill("try")
    page.get_by_label("Admin token").fill("wrong")
    page.keyboard.press("Enter")
    expect(page, "dialog-error", "not the admin token")
    assert text(page, "dialog-error") == f"not the admin token {HOSTILE}"
    assert "to" not in service.orders[0]
    assert page.evaluate("sessionStorage.length") == 0
    page.keyboard.press("Escape")
    assert page.locator("#dialog").is_hidden()


# -- safe, and made for people -----------------------------------------------------------------------------------------


def test_hostile_names_are_text(page: Any, service: Service) -> None:
    visit(page, service)
    assert page.get_by_text(HOSTILE, exact=True).count() == 3  # an entity, a feature and a reason
    assert page.locator("img").count() == 0


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_sticks_out(page: Any, service: Service, width: int) -> None:
    long = "member_" + "x" * 200
    service.status["busiest"][0].update(entity=long, effect=long)
    service.status["versions"]["history"][0].update(why=long, who=long)
    page.set_viewport_size({"width": width, "height": 844})
    visit(page, service)
    expect(page, "busiest", "xxx")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_follows_the_colour_scheme(page: Any, service: Service) -> None:
    visit(page, service)
    paint = "getComputedStyle(document.body).backgroundColor"
    page.emulate_media(color_scheme="light")
    light = page.evaluate(paint)
    page.emulate_media(color_scheme="dark")
    assert sum(rgb(light)) > 600
    assert sum(rgb(page.evaluate(paint))) < 120


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(page: Any, service: Service, scheme: str) -> None:
    """WCAG 2.2, 1.4.3: a contrast of at least 4.5 to 1."""
    page.emulate_media(color_scheme=scheme)
    visit(page, service)
    for element in (
        ".about",
        "dt",
        ".verdict",
        ".pill",
        ".connection",
        "#history .why",
        ".hint",
        ".facts dt",
        "#lift-mean",
    ):
        assert page.locator(element).first.evaluate(CONTRAST) >= 4.5, element


CONTRAST = """(node) => {
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map((v) => linear(v / 255))
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  let ground = node;
  while (/(, 0\\)|transparent)$/.test(getComputedStyle(ground).backgroundColor)) ground = ground.parentElement;
  const [a, b] = [getComputedStyle(node).color, getComputedStyle(ground).backgroundColor].map(light);
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""


def rgb(colour: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", colour)[:3]]


def test_the_page_loads_nothing_from_elsewhere_and_builds_no_markup_from_strings() -> None:
    files = {file.name: file.read_text("utf-8") for file in STATIC.iterdir()}
    assert {"index.html", "app.js", "style.css"} <= set(files)
    for name, source in files.items():
        assert not re.search(r"(src|href)=.https?:|url\(|@import|from .https?:", source), name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|localStorage", source), (
            name
        )
        assert not re.search(r"<[^>]* (style|on\w+)=", source), name
