"""Health, metrics, status, events, versions, the document, the dashboard; and who may do what."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from nearline import ConfigError
from nearline.serve import App, Limits, Tokens, server
from nearline.serve._access import check_bind, is_loopback


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/api/status", "/versions", "/openapi.json", "/"])
def test_gets_may_be_heads(client: Any, path: str) -> None:
    got, head = client("GET", path), client("HEAD", path)
    assert got.status_code == head.status_code == 200
    assert head.content == b""
    assert head.headers["content-type"] == got.headers["content-type"]


@pytest.mark.parametrize(
    "path", ["/nope", "/predict/", "/static/../_app.py", "/static/%2e%2e/_app.py", "/api", "/nope//"]
)
def test_unknown_paths_are_404_as_json(client: Any, path: str) -> None:
    status, error = client.refused("GET", path)
    assert (status, error["type"]) == (404, "not_found")


@pytest.mark.parametrize(("method", "path"), [("POST", "/healthz"), ("GET", "/versions/publish"), ("DELETE", "/")])
def test_wrong_methods_are_405_as_json(client: Any, method: str, path: str) -> None:
    status, error = client.refused(method, path)
    assert (status, error["type"]) == (405, "method_not_allowed")
    assert client(method, path).headers["allow"]


def test_status_adds_the_traffic(client: Any, row: Any) -> None:
    client.predict(row, row)
    client.refused("POST", "/predict", json={})
    status = client("GET", "/api/status").json()
    assert status["model"]["version"] == "1.0.0"
    traffic = status["traffic"]
    assert traffic["errors"] == 1
    assert 2 / 10 <= traffic["predict_rps"] == traffic["rows_per_s"] <= 2  # two in the second since the start
    assert traffic["p99_ms"] >= traffic["p50_ms"] > 0


def test_metrics_count_and_stay_out_of_the_global_registry(client: Any, row: Any) -> None:
    client.predict(row, row)
    client.refused("POST", "/predict", json={})
    client("GET", "/nothing/here")
    families = {f.name: f for f in text_string_to_metric_families(client("GET", "/metrics").text)}
    requests = {(s.labels["route"], s.labels["status"]): s.value for s in families["nearline_requests"].samples}
    assert requests == {("/predict", "200"): 1, ("/predict", "422"): 1, ("other", "404"): 1}
    assert {s.labels["route"]: s.value for s in families["nearline_rows"].samples}["/predict"] == 2
    counts = [s.value for s in families["nearline_request_seconds"].samples if s.name.endswith("_count")]
    assert sum(counts) == 3
    assert families["nearline_lag_seconds"].samples[0].value == 0.5
    assert families["nearline_joins"].samples[0].labels == {"action": "learned"}
    assert not [name for name in REGISTRY._names_to_collectors if name.startswith("nearline")]


def test_events_follow_and_end_when_the_server_stops(service: Any) -> None:
    app = App(service)
    got: list[bytes] = []

    async def following() -> None:
        async def receive() -> Any:
            await asyncio.sleep(60)

        async def send(message: Any) -> None:
            got.append(message.get("body", b""))
            if len([part for part in got if part]) == 2:
                app.stop()

        scope = {"type": "http", "method": "GET", "path": "/api/events", "headers": [], "query_string": b"",
                 "root_path": ""}  # fmt: skip
        await asyncio.wait_for(app(scope, receive, send), 10)

    asyncio.run(following())
    events = b"".join(got).decode().strip().split("\n\n")
    assert len(events) == 2
    assert all(json.loads(event.split("data: ")[1])["model"]["version"] == "1.0.0" for event in events)
    assert app.control._followers == 0


def test_only_so_many_may_follow(make: Any, client_of: Any) -> None:
    status, error = client_of(make(limits=Limits(followers=0))).refused("GET", "/api/events")
    assert (status, error["type"]) == (429, "overloaded")


def test_publish_and_roll_back(client: Any, service: Any) -> None:
    assert client("POST", "/versions/publish", json={"version": "1.1.0", "why": "better"}).json() == {
        "version": "1.1.0", "gate": {"verdict": "passed", "reasons": [], "checks": {"loss": "less"}},
    }  # fmt: skip
    assert client("GET", "/versions").json()["live"] == "1.1.0"
    assert client("POST", "/versions/rollback", json={"why": "worse"}).json() == {"version": "1.0.0"}
    assert [entry.get("why") for entry in service.history] == [None, "better", "worse"]
    assert service.history[1]["who"].startswith("admin")


def test_a_refused_version_is_409_and_says_how_to_publish_it_all_the_same(client: Any) -> None:
    order = {"version": "1.2.0", "why": "better"}
    status, error = client.refused("POST", "/versions/publish", json=order)
    assert (status, error) == (409, {
        "type": "refused", "field": "force",
        "message": 'the gate refuses version 1.2.0: loss: much more; to publish it all the same, send "force": true',
    })  # fmt: skip
    assert client("GET", "/versions").json()["live"] == "1.0.0"
    assert client("POST", "/versions/publish", json={**order, "force": True}).json()["version"] == "1.2.0"


@pytest.mark.parametrize(
    ("body", "field"),
    [({"version": "1.1.0"}, "why"), ({"version": "1.1.0", "why": ""}, "why"), ({"why": "x"}, "version")],
)
def test_orders_are_refused_by_field(client: Any, body: Any, field: str) -> None:
    status, error = client.refused("POST", "/versions/publish", json=body)
    assert (status, error["field"]) == (422, field)


def test_unknown_versions_and_long_orders_are_refused(client: Any) -> None:
    status, error = client.refused("POST", "/versions/publish", json={"version": "9", "why": "x"})
    assert (status, "no version '9'" in error["message"]) == (422, True)
    assert client.refused("POST", "/versions/publish", json={"why": "x" * 100_000})[0] == 413
    assert client.refused("POST", "/versions/publish", content="{}")[0] == 415


def test_an_unexpected_error_is_500_without_its_text(client: Any, service: Any, row: Any, caplog: Any) -> None:
    service.ids = None
    with caplog.at_level(logging.ERROR, "nearline"):
        status, error = client.refused("POST", "/predict", json={"rows": [row]})
    assert (status, error["type"]) == (500, "internal")
    assert "NoneType" not in error["message"]
    assert "NoneType" in caplog.text


def test_the_dashboard_is_served_under_a_strict_policy(client: Any) -> None:
    page = client("GET", "/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert client("GET", "/static/app.js").headers["content-type"].startswith("text/javascript")
    assert client("GET", "/", headers={"If-None-Match": page.headers["etag"]}).status_code == 304


def test_the_access_log_is_off_by_default(service: Any, client_of: Any, row: Any, caplog: Any) -> None:
    with caplog.at_level(logging.INFO, "nearline.access"):
        client_of(service).predict(row)
        assert not caplog.records
        client_of(service, access_log=True).predict(row)
    line = json.loads(caplog.records[0].getMessage())
    assert (line["method"], line["path"], line["status"], line["rows"]) == ("POST", "/predict", 200, 1)


# -- who may do what -------------------------------------------------------------------------------------------------

CALLS = {
    "predict": ("/predict", {"rows": []}),
    "outcome": ("/outcome", {"outcomes": []}),
    "admin": ("/versions/rollback", {"why": "x"}),
}


@pytest.mark.parametrize("role", CALLS)
def test_each_role_has_its_own_token(service: Any, client_of: Any, tokens: Tokens, role: str) -> None:
    client, (path, body) = client_of(service, tokens=tokens), CALLS[role]
    status, error = client.refused("POST", path, json=body)
    assert (status, error["type"]) == (401, "unauthenticated")
    assert client("POST", path, json=body).headers["www-authenticate"] == "Bearer"
    for other in CALLS:
        answer = client("POST", path, json=body, headers={"Authorization": f"bearer a long {other} token"})
        assert answer.status_code == (200 if other == role else 403)
    for wrong in ("Basic eDp5", "Bearer", f"Bearer a long {role} token x", "Bearer é"):
        headers = {"Authorization": wrong.encode("latin-1")}
        assert client("POST", path, json=body, headers=headers).status_code in (401, 403)


def test_a_role_without_a_token_is_closed_once_there_are_any(service: Any, client_of: Any) -> None:
    client = client_of(service, tokens=Tokens.of({"admin": ["a long admin token"]}))
    headers = {"Authorization": "Bearer a long admin token"}
    assert client("POST", "/predict", json={"rows": []}, headers=headers).status_code == 403
    assert client("GET", "/healthz").status_code == 200


def test_without_tokens_a_page_of_another_name_cannot_publish(client: Any) -> None:
    for host, status in (("evil.example", 403), ("localhost:8000", 200), ("127.0.0.1", 200), ("[::1]:80", 200)):
        answer = client("POST", "/versions/rollback", json={"why": "x"}, headers={"Host": host})
        assert answer.status_code == status, host


def test_tokens_come_from_a_file_and_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text('predict = "first predict token"\nadmin = ["old long admin token", "new long admin token"]\n')
    path.chmod(0o600)
    tokens = Tokens.read(path, {"NEARLINE_PREDICT_TOKEN": "second predict token", "NEARLINE_OUTCOME_TOKEN": ""})
    assert {role: len(found) for role, found in tokens.by_role.items()} == {"predict": 2, "admin": 2}
    assert "token" not in repr(tokens).lower().replace("tokens(", "")
    assert not Tokens.read(None, {})


@pytest.mark.parametrize(
    ("text", "mode"),
    [('predict = "short"', 0o600), ('king = "a long enough token"', 0o600), ("predict =", 0o600),
     ('predict = "a long predict token"', 0o644)],
)  # fmt: skip
def test_unusable_token_files_are_refused(tmp_path: Path, text: str, mode: int) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(ConfigError):
        Tokens.read(path, {})
    with pytest.raises(ConfigError, match="cannot read"):
        Tokens.read(tmp_path / "none.toml", {})


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("10.0.0.1", False), ("example.org", False), ("", False)],
)  # fmt: skip
def test_only_this_machine_is_let_in_without_tokens(service: Any, tokens: Tokens, host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback
    check_bind(host, tokens)
    if not loopback:
        with pytest.raises(ConfigError, match="no token is configured"):
            server(App(service), host=host)
