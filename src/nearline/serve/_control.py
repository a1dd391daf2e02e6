"""The routes that are not hot: health, metrics, status, events, versions, the document and the dashboard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route, Router

from nearline.serve import _messages, _openapi
from nearline.serve._access import Tokens, check_host
from nearline.serve._asgi import JSON, Receive, Scope, Send, header, media_type, read_body, respond
from nearline.serve._metrics import MEDIA, Metrics
from nearline.serve._pages import POLICY, Page, pages
from nearline.serve._problems import Problem, busy, problem_of
from nearline.serve._service import Service
from nearline.serve._traffic import Traffic

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]
_encode = msgspec.json.Encoder(enc_hook=str).encode
_LARGEST = 1 << 16


class Control:
    """An ASGI app of all routes but /predict and /outcome."""

    def __init__(self, service: Service, tokens: Tokens, traffic: Traffic, metrics: Metrics, version: str) -> None:
        self._service, self._tokens, self._traffic, self._metrics = service, tokens, traffic, metrics
        self._version = version
        self._pages = pages()
        self._followers = 0
        self._said: tuple[float, bytes] = (-1.0, b"")
        self.stopping = asyncio.Event()
        self._router = Router(self._routes(), redirect_slashes=False)

    def _routes(self) -> list[BaseRoute]:
        gets: dict[str, Handler] = {
            "/healthz": self._health, "/readyz": self._readiness, "/metrics": self._metrics_text,
            "/api/status": self._status, "/api/events": self._events, "/versions": self._versions,
            "/openapi.json": self._document, **dict.fromkeys(self._pages, self._page),
        }  # fmt: skip
        posts: dict[str, Handler] = {"/versions/publish": self._publish, "/versions/rollback": self._rollback}
        routes: list[BaseRoute] = [Route(path, handler, methods=["GET"]) for path, handler in gets.items()]
        return routes + [Route(path, handler, methods=["POST"]) for path, handler in posts.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> int:
        """Answer one request; the status."""
        status = 0

        async def sending(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            # With an app in the scope the router raises instead of answering 404 and 405 itself.
            await self._router({**scope, "app": self}, receive, sending)
        except Exception as error:
            if status:
                raise
            problem = _of_starlette(error)
            body = b"" if scope["method"] == "HEAD" else problem.body()
            await respond(sending, problem.status, body, JSON, problem.headers)
        return status

    async def _health(self, request: Request) -> Response:
        return _json({"status": "alive"})

    async def _readiness(self, request: Request) -> Response:
        why = "stopping" if self.stopping.is_set() else self._service.unready
        if why is not None:
            raise Problem("unavailable", why, headers={"Retry-After": "1"})
        return _json({"status": "ready"})

    async def _metrics_text(self, request: Request) -> Response:
        return Response(self._metrics.text(), headers={"Content-Type": MEDIA})

    async def _status(self, request: Request) -> Response:
        return Response(self._status_json(), media_type=JSON, headers={"Cache-Control": "no-store"})

    def _status_json(self) -> bytes:
        """Status, made at most twice a second however many ask."""
        now = asyncio.get_running_loop().time()
        if now - self._said[0] > 0.5 or self._said[0] < 0:
            self._said = now, _encode({**self._service.status(), "traffic": self._traffic.summary()})
        return self._said[1]

    async def _events(self, request: Request) -> Response:
        if self._followers >= self._service.limits.followers:
            raise busy(f"{self._followers} follow already", 10.0)
        return StreamingResponse(
            self._stream(request), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    async def _stream(self, request: Request) -> AsyncIterator[bytes]:
        self._followers += 1
        try:
            while not self.stopping.is_set() and not await request.is_disconnected():
                yield b"event: status\ndata: " + self._status_json() + b"\n\n"
                await _within(self.stopping, 1.0)
        finally:
            self._followers -= 1

    async def _versions(self, request: Request) -> Response:
        return _json(self._service.versions())

    async def _publish(self, request: Request) -> Response:
        order = await self._order(request, _messages.Publish)
        given = order.version, order.why, _who(request), order.force, self.stopping.is_set
        return _json(await asyncio.to_thread(self._service.publish, *given))

    async def _rollback(self, request: Request) -> Response:
        order = await self._order(request, _messages.Rollback)
        version = await asyncio.to_thread(self._service.rollback, order.to, order.why, _who(request))
        return _json(_messages.Published(version))

    async def _order(self, request: Request, kind: Any) -> Any:
        self._tokens.check("admin", header(request.scope, b"authorization"))
        if not self._tokens:
            check_host(header(request.scope, b"host"))
        media_type(request.scope, JSON)
        return msgspec.json.decode(await read_body(request.scope, request.receive, _LARGEST), type=kind)

    async def _document(self, request: Request) -> Response:
        limits, secured = self._service.limits, bool(self._tokens)
        return _json(_openapi.document(self._service.live, limits, self._version, secured))

    async def _page(self, request: Request) -> Response:
        page: Page = self._pages[request.url.path]
        headers = {**POLICY, "ETag": page.tag, "Content-Type": page.media}
        if request.headers.get("if-none-match") == page.tag:
            return Response(status_code=304, headers=headers)
        return Response(page.body, headers=headers)


def _json(value: Any) -> Response:
    return Response(_encode(value), media_type=JSON, headers={"Cache-Control": "no-store"})


def _who(request: Request) -> str:
    return f"admin from {request.client.host}" if request.client else "admin"


def _of_starlette(error: Exception) -> Problem:
    if not isinstance(error, HTTPException):
        return problem_of(error)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        return Problem("method_not_allowed", f"use {headers.get('Allow', 'another method')}", headers=headers)
    return Problem("not_found", "there is nothing at this path; /openapi.json lists what there is")


async def _within(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, but not longer."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
