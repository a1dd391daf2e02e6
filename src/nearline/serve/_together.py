"""Requests of one turn of the event loop, read, scored, recorded and answered as one.

A request of a hundred rows is some tens of microseconds of compiled work, and calling it costs as much again. A group
commit wakes many clients at once, whose next requests come together; at low load a request is a batch of its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from nearline._errors import DataError, Overloaded
from nearline.glmix import Scores
from nearline.serve._acknowledge import Acknowledger, Done
from nearline.serve._asgi import JSON, Answer
from nearline.serve._hand_over import hand_over
from nearline.serve._json_answer import tag_of
from nearline.serve._problems import Problem
from nearline.serve._service import Live, Service
from nearline.serve._typed_answer import typed_answers

_MOST_BYTES = 1 << 18
"""Bytes of bodies that are read in one turn: some milliseconds, in which the loop does nothing else."""
_ENOUGH = 16
"""Requests that are not held back for others that may come with them."""
_SENT = 3
"""Rounds of the loop until an answer that is there has left: who waits for it goes on, then the loop sends."""
_Asked: TypeAlias = "asyncio.Future[Answer | None]"


@dataclass(slots=True, eq=False)
class _Flight:
    """Who waits for rows on their way to the disk; answered once these are durable and the answers made."""

    asked: Sequence[_Asked]
    answers: Sequence[Answer] | None = None
    durable: bool = False
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class _Recorded:
    """Rows that have their positions, and where those of each body end (−1 for none)."""

    live: Live
    ends: list[int]
    scores: Scores
    first: int


class Together:
    """Answers requests of the usual form that ask for scores and for nothing beside them."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._waiting: deque[tuple[bytes, _Asked]] = deque()
        self._leaving = 0

    def ask(self, body: bytes, waiter: Acknowledger) -> _Asked:
        """The answer, once its predictions are durable; None where the body is to be judged alone, by who asks.

        Nothing of a body that is to be judged alone has been recorded.
        """
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._turn, loop, waiter, 0)
        asked: _Asked = loop.create_future()
        self._waiting.append((body, asked))
        return asked

    def _turn(self, loop: asyncio.AbstractEventLoop, waiter: Acknowledger, seen: int) -> None:
        came = len(self._waiting)
        # Some came since the last look, a few microseconds ago: others may be on their way.
        if self._answers_leave() or seen < came < _ENOUGH:
            loop.call_soon(self._turn, loop, waiter, came)
            return
        bodies, asked, size = list[bytes](), list[_Asked](), 0
        while self._waiting and (not bodies or size + len(self._waiting[0][0]) <= _MOST_BYTES):
            body, one = self._waiting.popleft()
            bodies.append(body)
            asked.append(one)
            size += len(body)
        if self._waiting:
            loop.call_soon(self._turn, loop, waiter, 0)
        self._take(bodies, asked, waiter)

    def _answers_leave(self) -> bool:
        """Whether answers are about to be sent: they go first, so that clients are busy while the next are made."""
        self._leaving -= self._leaving > 0
        return self._leaving > 0

    def _take(self, bodies: Sequence[bytes], asked: Sequence[_Asked], waiter: Acknowledger) -> None:
        flight = _Flight(asked)
        try:
            recorded = self._recorded(bodies, waiter.call(partial(self._landed, flight)))
        except Overloaded as error:
            if len(bodies) == 1:
                _settle(asked, error)
                return
            for body, one in zip(bodies, asked):  # some of them may be taken yet
                self._take([body], [one], waiter)
        except (Problem, DataError):  # of one of them: who asks finds out whose it is, and why
            _settle(asked, None)
        except Exception as error:
            _settle(asked, error)
        else:
            self._reply(flight, recorded)

    def _recorded(self, bodies: Sequence[bytes], done: Done) -> _Recorded | None:
        service = self._service
        live, now = service.live, service.now()
        read = live.rows.read(bodies, now, service.limits.rows)
        if read is None:
            return None
        most = service.predictions.max_rows
        if len(bodies) > 1 and read.design.rows > most:
            raise Overloaded(read.design.rows, most, 0.0)
        scores = live.scorer.score(read.design)
        return _Recorded(
            live, read.ends, scores, hand_over(service, live, now, read.design, read.block, scores, None, done)
        )

    def _reply(self, flight: _Flight, recorded: _Recorded | None) -> None:
        """Make the answers while the disk works; they leave when it is done."""
        if recorded is None:
            _settle(flight.asked, None)
            return
        _settle([one for one, end in zip(flight.asked, recorded.ends) if end < 0], None)
        flight.asked = [one for one, end in zip(flight.asked, recorded.ends) if end >= 0]
        try:
            flight.answers = self._answers(recorded, [end for end in recorded.ends if end >= 0])
        except Exception as error:  # the rows are recorded: they are not to be judged once more
            _settle(flight.asked, error)
        else:
            self._deliver(flight)

    def _landed(self, flight: _Flight, error: BaseException | None) -> None:
        flight.durable = True
        if error is not None:
            flight.error = error if isinstance(error, Exception) else RuntimeError(repr(error))
        self._deliver(flight)

    def _deliver(self, flight: _Flight) -> None:
        if not flight.durable or flight.answers is None:
            return
        if flight.error is not None:
            _settle(flight.asked, flight.error)
            return
        self._leaving = _SENT
        for one, answer in zip(flight.asked, flight.answers):
            if not one.done():
                one.set_result(answer)

    def _answers(self, recorded: _Recorded, ends: Sequence[int]) -> list[Answer]:
        live, first, scores = recorded.live, recorded.first, recorded.scores
        sizes = [end - begin for begin, end in zip([0, *ends], ends)]
        tag = tag_of(self._service.ids(first, 1)[0], first)
        if tag is not None:
            made = live.writer.write(tag, first, live.scorer.expected(scores.served), ends, scores.version)
        else:
            made = typed_answers(live, self._service.ids(first, ends[-1]), scores, ends)
        return [Answer(body, JSON, size) for body, size in zip(made, sizes)]


def _settle(asked: Sequence[_Asked], error: Exception | None) -> None:
    """Give requests back to who asks, or tell them what they are refused for."""
    for one in asked:
        if not one.done():
            one.set_result(None) if error is None else one.set_exception(error)
