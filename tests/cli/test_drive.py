"""The load client against a real server on a socket: it is in time, loses no outcome, and measures what happened."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from nearline import _errors
from nearline.cli._drive import Seen, drive
from nearline.cli._http import Http
from nearline.simulate import Delay, Marketplace, Request, Traffic

MARKET = Marketplace(members=30, ads=20, campaigns=4, days=1.0)


class Service:
    """HTTP/1.1 on a socket: predictions by number, outcomes that are learned `slow` seconds after they were taken."""

    def __init__(self, slow: float = 0.05) -> None:
        self.slow, self.learned, self.asked = slow, 0, 0
        self.labels: dict[str, list[float]] = {}
        self.bodies: list[Any] = []
        self.full = 0  # answers with 429 still to give to outcomes
        self.cut = 0  # outcomes still to be taken without an answer
        self.connections = 0
        self.tokens: set[tuple[str, str | None]] = set()
        self.chunked = self.closing = False
        self.wait = 0.0  # before each prediction

    async def __aenter__(self) -> Service:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        await asyncio.sleep(0.02)  # until the connections that clients closed are gone here too

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:-2])
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.headers = headers
                self.tokens.add((head.split()[1], headers.get("authorization")))
                code, answer = await self.answer(head.split()[1], json.loads(body) if body else None)
                if code == 0:
                    break
                self.write(writer, code, json.dumps(answer).encode())
                if self.closing:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def write(self, writer: asyncio.StreamWriter, code: int, body: bytes) -> None:
        if self.chunked:
            parts = [body[k : k + 7] for k in range(0, len(body), 7)]
            text = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
            writer.write(f"HTTP/1.1 {code} X\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + text + b"0\r\n\r\n")
        else:
            close = "Connection: close\r\n" if self.closing else ""
            writer.write(f"HTTP/1.1 {code} X\r\n{close}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    async def answer(self, path: str, body: Any) -> tuple[int, Any]:
        if path == "/api/status":
            return 200, {"model": {"version": f"1.0.{self.learned}"}}
        self.bodies.append((time.perf_counter(), path, body))
        return await (self.predict(body) if path == "/predict" else self.outcome(body))

    async def predict(self, body: Any) -> tuple[int, Any]:
        await asyncio.sleep(self.wait)
        first, self.asked = self.asked, self.asked + len(body["rows"])
        version = f"1.0.{self.learned}"
        named = range(first, self.asked)
        return 200, {
            "predictions": [{"prediction_id": f"t-{k}", "probability": 0.25, "version": version} for k in named]
        }

    async def outcome(self, body: Any) -> tuple[int, Any]:
        if self.full:
            self.full -= 1
            return 429, {"error": {"type": "overloaded", "message": "too much"}}
        if self.cut:
            self.cut -= 1
            return 0, None
        for one in body["outcomes"]:
            self.labels.setdefault(one["prediction_id"], []).append(one["label"])
        asyncio.get_running_loop().call_later(self.slow, self.learn, len(body["outcomes"]))
        return 200, {"accepted": len(body["outcomes"]), "rejected": []}

    def learn(self, n: int) -> None:
        self.learned += n


def traffic(**changed: Any) -> Traffic:
    settings: dict[str, Any] = {"duration": 1.5, "rate": 400.0, "batch": 4, "delay": Delay(0.2, 2.0, 0.1)}
    return Traffic(MARKET, **{**settings, **changed})


def through(service: Service, work: Callable[[Service], Awaitable[Any]]) -> Any:
    async def inner() -> Any:
        async with service:
            return await work(service)

    return asyncio.run(inner())


def test_every_row_is_predicted_and_every_outcome_told_once() -> None:
    service, sent = Service(), list(traffic())
    seen: Seen = through(service, lambda s: drive(sent, s.url))
    truth = np.concatenate([one.outcome_at for one in sent])
    assert seen.rows == service.asked == len(truth)
    assert seen.outcomes == len(service.labels) == np.sum(~np.isnan(truth))
    assert all(len(labels) == 1 for labels in service.labels.values())
    assert (seen.failed, seen.refused, seen.overloaded) == ({}, [], 0)
    # predictions may be answered in another order than sent, so labels are compared by what was sent with them
    assert sum(labels[0] for labels in service.labels.values()) == sum(
        float(one.label[~np.isnan(one.outcome_at)].sum()) for one in sent
    )


def test_requests_are_sent_when_they_are_due_on_few_connections() -> None:
    service, sent = Service(), list(traffic())
    through(service, lambda s: drive(sent, s.url, connections=3))
    came = np.array([at for at, path, _ in service.bodies if path == "/predict"])
    late = (came - came[0]) - np.array([one.at - sent[0].at for one in sent])
    assert np.median(late) < 0.1
    assert service.connections <= 3


def test_freshness_is_the_time_the_service_took_to_learn() -> None:
    # a busy machine moves when an acknowledgement is read and when an answer is, either way
    seen = through(Service(slow=0.4), lambda s: drive(traffic(), s.url))
    assert len(seen.fresh_ms) > 10
    assert 300 < np.median(seen.fresh_ms) < 700


def test_a_service_that_does_not_learn_cannot_look_fresh() -> None:
    seen = through(Service(slow=60.0), lambda s: drive(traffic(), s.url))
    assert seen.fresh_ms == []
    assert max(seen.unseen_ms) > 800


def test_a_stalled_service_shows_in_the_latency_of_all_who_waited() -> None:
    service = Service()
    service.wait = 0.03
    one = through(service, lambda s: drive(traffic(), s.url, connections=1, drain=30.0))
    assert min(one.predict_ms) > 29
    assert one.predict_ms[-1] > 2000  # 150 requests of 30 ms each in 1.5 s: the last waited for 3 s


def test_outcomes_are_sent_again_where_the_service_was_full() -> None:
    service, sent = Service(), list(traffic())
    service.full = 3
    seen = through(service, lambda s: drive(sent, s.url))
    assert seen.overloaded == 3
    assert seen.outcomes == len(service.labels) == sum(int(np.sum(~np.isnan(one.outcome_at))) for one in sent)
    assert len(seen.fresh_ms) > 0


def test_outcomes_are_sent_again_where_no_answer_came_and_freshness_ends() -> None:
    service, sent = Service(), list(traffic())
    service.cut = 1
    seen = through(service, lambda s: drive(sent, s.url))
    assert sum(seen.failed.values()) == 1
    assert len(service.labels) == sum(int(np.sum(~np.isnan(one.outcome_at))) for one in sent)
    assert seen.unseen_ms == []


def test_errors_are_counted_by_their_words() -> None:
    class Refusing(Service):
        async def predict(self, body: Any) -> tuple[int, Any]:
            return 422, {"error": {"type": "data", "message": "no column 'x'", "field": "x"}}

    seen = through(Refusing(), lambda s: drive(traffic(duration=0.3), s.url))
    assert set(seen.failed) == {"422: no column 'x'"}
    assert seen.rows == 0


def test_the_quality_of_what_was_served_beside_the_best_possible() -> None:
    seen = through(Service(), lambda s: drive(traffic(rate=2000.0, batch=20), s.url))
    y = np.concatenate([one.label for one in seen.served])
    found = seen.log_loss()
    assert found["served"] == pytest.approx(-np.mean(np.log(np.where(y == 1, 0.25, 0.75))))  # it always says 0.25
    assert found["best"] < found["served"]
    assert np.isnan(seen.log_loss(begin=99.0)["served"])


def test_time_goes_into_the_column_that_was_named() -> None:
    service = Service()
    began = time.time()
    through(service, lambda s: drive(traffic(duration=0.2), s.url, time_column="when"))
    rows = [row for _, path, body in service.bodies if path == "/predict" for row in body["rows"]]
    assert all(began - 1 < row["when"] < began + 5 for row in rows)


def test_each_role_has_its_token() -> None:
    service, tokens = Service(), {"predict": "pp", "outcome": "oo"}
    through(service, lambda s: drive(traffic(duration=0.3), s.url, tokens=tokens))
    assert service.tokens == {("/api/status", None), ("/predict", "bearer pp"), ("/outcome", "bearer oo")}


def test_the_traffic_ends_when_it_is_told_to() -> None:
    service = Service()
    seen = through(service, lambda s: drive(traffic(duration=60.0), s.url, drain=0.2, stopped=lambda: s.asked > 40))
    assert 40 < seen.rows < 200


def test_no_service_is_an_error_that_says_so() -> None:
    with pytest.raises(_errors.ConfigError, match=r"no service answers at http://127\.0\.0\.1:9"):
        asyncio.run(drive([], "http://127.0.0.1:9"))


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "https://host", "http://"])
def test_urls_that_cannot_be_asked_are_refused(url: str) -> None:
    with pytest.raises(_errors.ConfigError, match="http://host:port"):
        Http(url)


@pytest.mark.parametrize(("chunked", "closing"), [(True, False), (False, True), (False, False)])
def test_answers_in_chunks_on_closed_and_on_kept_connections(chunked: bool, closing: bool) -> None:
    async def ask(service: Service) -> list[Any]:
        async with Http(service.url) as http:
            return [(await http.post("/predict", {"rows": [{}] * n}, "abc")).json() for n in (1, 3, 200)]

    service = Service()
    service.chunked, service.closing = chunked, closing
    answers = through(service, ask)
    assert [len(one["predictions"]) for one in answers] == [1, 3, 200]
    assert service.headers["authorization"] == "bearer abc"
    assert service.connections == (3 if closing else 1)


def test_a_service_that_is_too_slow_is_a_timeout_and_the_connection_is_not_used_again() -> None:
    async def ask(service: Service) -> int:
        async with Http(service.url, timeout=0.05) as http:
            with pytest.raises(TimeoutError):
                await http.post("/predict", {"rows": [{}]})
            service.wait = 0.0
            return len((await http.post("/predict", {"rows": [{}, {}]})).json()["predictions"])

    service = Service()
    service.wait = 0.3
    assert through(service, ask) == 2
    assert service.connections == 2


def test_requests_may_be_made_by_hand() -> None:
    one = Request(0.0, pa.table({"ad_id": [1, 2]}), np.array([0.1, 0.2]), np.array([0.0, 1.0]), np.array([0.0, np.nan]))
    service = Service()
    seen = through(service, lambda s: drive([one], s.url))
    assert (seen.rows, service.labels) == (2, {"t-0": [0.0]})
