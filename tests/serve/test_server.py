"""A real server on a real socket: it answers, keeps connections, and ends without losing what it has taken."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from nearline import ConfigError
from nearline.serve import App, bound, server


@contextmanager
def running(service: Any) -> Iterator[tuple[Any, str]]:
    listening = bound("127.0.0.1", 0)
    running_server = server(App(service), port=listening.getsockname()[1])
    thread = threading.Thread(target=running_server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not running_server.started:
            time.sleep(0.01)
        yield running_server, f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        running_server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def test_a_real_server_predicts_and_takes_outcomes(service: Any, row: Any) -> None:
    with running(service) as (_, url), httpx.Client(base_url=url) as client:
        for _ in range(20):
            found = client.post("/predict", json={"rows": [row] * 5}).json()["predictions"]
        outcomes = [{"prediction_id": p["prediction_id"], "label": 1} for p in found]
        assert client.post("/outcome", json={"outcomes": outcomes}).json() == {"accepted": 5, "rejected": []}
        assert client.get("/readyz").status_code == 200
        assert client.head("/healthz").status_code == 200
    assert service.predictions_log.end == 100


def test_stopping_finishes_open_requests_and_ends_streams(service: Any, row: Any) -> None:
    answers: list[int] = []

    def asking(url: str) -> None:
        with httpx.Client(base_url=url) as client:
            while True:
                try:
                    answers.append(client.post("/predict", json={"rows": [row] * 50}).status_code)
                except httpx.TransportError:
                    return

    with running(service) as (running_server, url):
        threads = [threading.Thread(target=asking, args=(url,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        with httpx.stream("GET", url + "/api/events", timeout=10) as events:
            parts = events.iter_bytes()
            assert next(parts).startswith(b"event: status")
            time.sleep(0.3)
            running_server.should_exit = True
            assert isinstance(list(parts), list)  # the stream ends by itself
        for thread in threads:
            thread.join(20)
    assert set(answers) == {200}
    service.predictions.close()
    assert service.predictions_log.end >= 50 * len(answers)


def send(url: str, raw: bytes) -> bytes:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 5) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        found = b""
        while part := connection.recv(65_536):
            found += part
        return found


def test_broken_http_does_not_hurt_the_next_request(service: Any, row: Any) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with running(service) as (_, url):
        assert b" 400 " in send(url, b"nonsense\r\n\r\n")
        send(url, head + b"Content-Length: 100\r\n\r\n{")  # goes away in the middle
        assert b" 413 " in send(url, head + b"Content-Length: 99999999999\r\n\r\n")
        assert b" 400 " in send(url, head + b"Content-Length: -5\r\n\r\n")
        chunked = head + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n\r\n"
        assert b'"malformed"' in send(url, chunked)
        assert httpx.post(url + "/predict", json={"rows": [row]}).status_code == 200
    assert service.predictions_log.end == 1


def test_a_client_that_sends_no_more_is_answered(service: Any, row: Any) -> None:
    body = json.dumps({"rows": [row]}).encode()
    asked = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with running(service) as (_, url):
        answer = send(url, asked % len(body) + body)  # and is told that nothing more comes
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"]}")
    assert b"connection: close" in answer.lower()
    assert service.predictions_log.end == 1


def test_a_taken_port_is_refused_before_anything_starts() -> None:
    with bound("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(ConfigError, match="choose another port"):
            bound("127.0.0.1", taken.getsockname()[1])
