"""A status made of numbers that a model really had, a service that answers with it, and a glance at its page."""

from __future__ import annotations

import http.server
import json
import time
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from nearline import DataError, GLMix, evaluate

STATIC = Path(str(resources.files("nearline"))) / "serve" / "static"
POLICY = (  # nothing looser than what the service sends
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
FAULT = r"Content Security|Error:"
HOSTILE = "<img src=x onerror=alert(1)>"
TOKEN = "a long admin token"


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


def later(shift: float, held: dict[str, Any]) -> dict[str, Any]:
    return {name: value + shift if name in ("time", "started") else value for name, value in held.items()}


def visit(page: Any, service: Service) -> None:
    page.goto(service.url)
    page.wait_for_selector("body[data-state=live]")


def expect(page: Any, element: str, part: str) -> None:
    eventually(page, f"#{element}").to_contain_text(part)


def eventually(page: Any, selector: str) -> Any:
    """What Playwright waits for at an element."""
    from playwright.sync_api import expect as expected

    return expected(page.locator(selector))


def text(page: Any, element: str) -> str:
    return str(page.locator(f"#{element}").inner_text()).replace("\u00a0", " ")
