"""Head and body of an answer are one write; nothing that is written is kept back for long."""

from __future__ import annotations

import asyncio
from typing import Any

from nearline.serve._protocol import OneWrite

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class Written:
    """The end of a transport: keeps what reaches it."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.writes.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str) -> Any:
        return name


async def written(*steps: bytes | str) -> Written:
    end = Written()
    transport = OneWrite(end, asyncio.get_running_loop())  # type: ignore[arg-type]
    for step in steps:
        if step == "turn":
            await asyncio.sleep(0)
        elif step == "close":
            transport.close()
        else:
            assert isinstance(step, bytes)
            transport.write(step)
    assert transport.is_closing() == end.closed
    assert transport.get_extra_info("socket") == "socket"
    await asyncio.sleep(0)
    return end


def writes(*steps: bytes | str) -> list[bytes]:
    return asyncio.run(written(*steps)).writes


def test_a_head_waits_for_its_body() -> None:
    assert writes(HEAD, b"{}") == [HEAD + b"{}"]
    assert writes(HEAD, b"{}", HEAD, b"[]") == [HEAD + b"{}", HEAD + b"[]"]


def test_a_stream_begins_when_the_loop_turns() -> None:
    assert writes(HEAD, "turn", b"data: 1\n\n", b"data: 2\n\n") == [HEAD, b"data: 1\n\n", b"data: 2\n\n"]


def test_a_head_alone_is_written_too() -> None:
    assert writes(HEAD) == [HEAD]
    assert writes(HEAD, "close") == [HEAD]
    assert writes(HEAD, b"{}", "close") == [HEAD + b"{}"]
