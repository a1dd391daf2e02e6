"""The HTTP app: two hot routes as plain ASGI, everything else through a router."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, TypeAlias

import msgspec

from nearline.serve._access import Tokens
from nearline.serve._acknowledge import Acknowledger
from nearline.serve._asgi import (
    ARROW,
    JSON,
    Answer,
    Disconnected,
    Receive,
    Scope,
    Send,
    header,
    media_type,
    read_body,
    respond,
)
from nearline.serve._control import Control
from nearline.serve._metrics import Metrics
from nearline.serve._outcome import TakeOutcomes
from nearline.serve._predict import Predict
from nearline.serve._problems import Problem, busy, problem_of
from nearline.serve._service import Service
from nearline.serve._traffic import Traffic

Route: TypeAlias = Callable[[bytes, str, bytes, Acknowledger], Awaitable[Answer]]
_log = logging.getLogger("nearline.access")
_encode = msgspec.json.Encoder().encode


class App:
    """ASGI app in front of a `Service`.

    Parameters
    ----------
    service
        The running model.
    tokens
        Bearer tokens by role; none leaves every route open, for this machine's own use.
    version
        Of this program, for the OpenAPI document.
    access_log
        Log one JSON line per request to the logger "nearline.access".
    """

    def __init__(
        self, service: Service, *, tokens: Tokens | None = None, version: str = "0", access_log: bool = False
    ) -> None:
        self.service, self.tokens, self.traffic = service, tokens or Tokens(), Traffic()
        self.metrics = Metrics(service, self.traffic)
        self.control = Control(service, self.tokens, self.traffic, self.metrics, version)
        self._access_log = access_log
        self._hot: dict[str, tuple[str, str, Route]] = {
            "/predict": ("predict", "rows", Predict(service)),
            "/outcome": ("outcome", "outcomes", TakeOutcomes(service)),
        }
        self._waiter: Acknowledger | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or follow the server's start and end."""
        if scope["type"] == "http":
            began = perf_counter()
            hot = self._hot.get(scope["path"])
            if hot is None:
                status, rows = await self.control(scope, receive, send), 0
            else:
                status, rows = await self._answer(hot, scope, receive, send)
            if status:
                self._count(scope, status, rows, perf_counter() - began)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            raise RuntimeError(f"{scope['type']} is not served here")

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    def stop(self) -> None:
        """Say that the server stops: readiness ends, and so do the streams of events."""
        self.control.stopping.set()

    async def _answer(self, hot: tuple[str, str, Route], scope: Scope, receive: Receive, send: Send) -> tuple[int, int]:
        """Status and rows of a request to a hot route; status 0 when the client went away."""
        role, rows, route = hot
        self.metrics.open_requests += 1
        try:
            answer = await self._done(role, route, scope, receive)
        except Disconnected:
            return 0, 0
        except Exception as error:
            problem = problem_of(error, rows)
            body = b"" if scope["method"] == "HEAD" else problem.body()
            await respond(send, problem.status, body, JSON, problem.headers)
            return problem.status, 0
        finally:
            self.metrics.open_requests -= 1
        await respond(send, 200, answer.body, answer.media)
        return 200, answer.rows

    async def _done(self, role: str, route: Route, scope: Scope, receive: Receive) -> Answer:
        service = self.service
        if scope["method"] != "POST":
            raise Problem("method_not_allowed", "use POST", headers={"Allow": "POST"})
        if self.tokens:
            self.tokens.check(role, header(scope, b"authorization"))
        if self.metrics.open_requests > service.limits.open_requests:
            raise busy(f"{service.limits.open_requests} requests are open already", 1.0)
        if service.unready is not None:
            raise Problem("unavailable", service.unready, headers={"Retry-After": "1"})
        media = media_type(scope, JSON, ARROW)
        most, query, waiter = service.limits.body_bytes, scope["query_string"], self._acknowledger()
        return await route(await read_body(scope, receive, most), media, query, waiter)

    def _acknowledger(self) -> Acknowledger:
        loop = asyncio.get_running_loop()
        if self._waiter is None or loop is not self._loop:
            self._waiter, self._loop = Acknowledger(loop), loop
        return self._waiter

    def _count(self, scope: Scope, status: int, rows: int, seconds: float) -> None:
        path: str = scope["path"]
        known = path in self._hot or status not in (404, 405)
        self.traffic.add(path if known else "other", status, rows, seconds)
        if self._access_log:
            client: Any = scope.get("client") or ("",)
            line = {"method": scope["method"], "path": path, "status": status, "rows": rows,
                    "ms": round(seconds * 1000, 3), "client": client[0]}  # fmt: skip
            _log.info(_encode(line).decode())
