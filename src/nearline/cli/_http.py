"""A small HTTP/1.1 client for asyncio: keep-alive connections to one service, standard library only."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

from nearline._errors import ConfigError


@dataclass(frozen=True)
class Answer:
    """Status, headers (names in lower case) and body of a response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The decoded body."""
        return msgspec.json.decode(self.body)


class Http:
    """At most `connections` keep-alive connections to the service at a URL such as ``http://127.0.0.1:8000``.

    A call waits for a free connection. It raises `OSError` (`ConnectionError`, `TimeoutError`) when the service is gone
    or too slow; nothing is sent twice, because a request that was cut off may have been carried out.
    """

    def __init__(self, url: str, *, connections: int = 8, timeout: float = 10.0) -> None:
        at = urlsplit(url)
        if at.scheme != "http" or not at.hostname:
            raise ConfigError(f"url must look like http://host:port, got {url!r}")
        self.host, self.port, self.path, self.timeout = at.hostname, at.port or 80, at.path.rstrip("/"), timeout
        self._host = at.netloc
        self._turn = asyncio.Semaphore(connections)
        self._idle: list[_Connection] = []

    async def get(self, path: str) -> Answer:
        """Answer to a GET."""
        return await self.ask("GET", path, None)

    async def post(self, path: str, body: Any, token: str | None = None) -> Answer:
        """Answer to a POST of JSON, with a bearer token where one is given; bytes are sent as they are."""
        return await self.ask("POST", path, body if isinstance(body, bytes) else msgspec.json.encode(body), token)

    async def ask(self, verb: str, path: str, body: bytes | None, token: str | None = None) -> Answer:
        """Answer to one request."""
        head = f"{verb} {self.path}{path} HTTP/1.1\r\nHost: {self._host}\r\n"
        head += f"Authorization: Bearer {token}\r\n" if token else ""
        head += "" if body is None else f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        message = f"{head}\r\n".encode() + (body or b"")
        async with self._turn:
            connection = await self._connection()
            try:
                answer = await asyncio.wait_for(connection.ask(message), self.timeout)
            except BaseException:
                connection.close()
                raise
            if answer.headers.get("connection", "").lower() == "close":
                connection.close()
            else:
                self._idle.append(connection)
            return answer

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
            connection.close()
        opened = asyncio.open_connection(self.host, self.port)
        return _Connection(*await asyncio.wait_for(opened, self.timeout))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._idle:
            connection = self._idle.pop()
            connection.close()
            await connection.closed()


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @property
    def usable(self) -> bool:
        return not (self._reader.at_eof() or self._writer.is_closing())

    async def ask(self, message: bytes) -> Answer:
        self._writer.write(message)
        await self._writer.drain()
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
            return Answer(int(head[0].split(" ", 2)[1]), headers, await self._body(headers))
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("the service closed the connection before it had answered") from error

    async def _body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return await self._reader.readexactly(int(headers.get("content-length", 0)))
        parts = []
        while size := int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16):
            parts.append(await self._reader.readexactly(size))
            await self._reader.readexactly(2)
        while await self._reader.readuntil(b"\r\n") != b"\r\n":
            pass  # trailers
        return b"".join(parts)

    def close(self) -> None:
        self._writer.close()

    async def closed(self) -> None:
        try:
            await self._writer.wait_closed()
        except OSError:
            return
