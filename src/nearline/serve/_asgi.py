"""The little of ASGI that the hot routes need: headers, a body within bounds, an answer in two messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple, TypeAlias

from nearline.serve._problems import Problem

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON = "application/json"
_USUAL = JSON.encode()
ARROW = "application/vnd.apache.arrow.stream"


class Answer(NamedTuple):
    """Body of a success, its media type, and how many rows it is about."""

    body: bytes
    media: str
    rows: int


class Disconnected(Exception):  # noqa: N818 - an event, not a fault
    """The client went away before its request was whole."""


def header(scope: Scope, name: bytes) -> bytes | None:
    """First value of a header, by its name in lower case."""
    for key, value in scope["headers"]:
        if key == name:
            return value  # type: ignore[no-any-return]
    return None


def media_type(scope: Scope, *allowed: str) -> str:
    """Media type of the request's body, one of those allowed.

    Raises
    ------
    Problem
        Another one (415).
    """
    raw = header(scope, b"content-type") or b""
    if raw == _USUAL and JSON in allowed:
        return JSON
    given = raw.decode("latin-1")
    found = given.partition(";")[0].strip().lower()
    if found not in allowed:
        raise Problem("unsupported_media_type", f"Content-Type is {given!r}; send {' or '.join(allowed)}")
    return found


async def read_body(scope: Scope, receive: Receive, most: int) -> bytes:
    """Whole body of the request.

    Raises
    ------
    Problem
        It is longer than `most` bytes, or says so (413).
    Disconnected
        The client went away.
    """
    said = header(scope, b"content-length")
    if said is not None and said.isdigit() and int(said) > most:
        raise _too_large(most)
    parts: list[bytes] = []
    total = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        part = message.get("body", b"")
        total += len(part)
        if total > most:
            raise _too_large(most)
        if not message.get("more_body", False):
            return b"".join([*parts, part]) if parts else part
        parts.append(part)


def _too_large(most: int) -> Problem:
    # The rest of the body is not read, so the connection cannot be used again.
    return Problem(
        "too_large", f"the body is larger than {most} bytes; send fewer rows", headers={"Connection": "close"}
    )


async def respond(send: Send, status: int, body: bytes, media: str, headers: dict[str, str] | None = None) -> None:
    """Send an answer."""
    lines = [(b"content-type", media.encode()), (b"content-length", b"%d" % len(body))]
    if headers:
        lines += [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})
