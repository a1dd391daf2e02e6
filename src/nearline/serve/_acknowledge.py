"""Waiting for rows to be durable: callbacks in a recorder's thread become calls, or futures, of the event loop.

A group commit finishes many requests at once. They are handed over in one wake-up of the loop, not in one each.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from threading import get_ident
from typing import TypeAlias

Done: TypeAlias = Callable[[BaseException | None], None]


class Acknowledger:
    """What one event loop does when other threads are done; it is made in the loop's own."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._finished: deque[tuple[Done, BaseException | None]] = deque()
        self._woken, self._thread = False, get_ident()

    def future(self) -> tuple[asyncio.Future[None], Done]:
        """A future, and the callback that completes it from any thread."""
        future: asyncio.Future[None] = self._loop.create_future()
        return future, self.call(partial(_complete, future))

    def call(self, then: Done) -> Done:
        """The callback, for any thread, after which the loop calls `then`; in the loop's own thread that is at once."""
        return partial(self._finish, then)

    def _finish(self, then: Done, error: BaseException | None) -> None:
        self._finished.append((then, error))
        if get_ident() == self._thread:
            self._wake()
        elif not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._woken = False  # before looking: who comes later wakes the loop again
        while self._finished:
            then, error = self._finished.popleft()
            then(error)


def _complete(future: asyncio.Future[None], error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
