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
from nearline.serve._acknowledge import Acknowledger
from nearline.serve._asgi import JSON, Answer
from nearline.serve._hand_over import hand_over
from nearline.serve._json_answer import tag_of
from nearline.serve._problems import Problem
from nearline.serve._service import Live, Service
from nearline.serve._typed_answer import typed_answers

_MOST_BYTES = 1 << 18
"""Bytes of bodies that are read in one turn: some milliseconds, in which the loop does nothing else."""
_Asked: TypeAlias = "asyncio.Future[Answer | None]"


@dataclass(frozen=True, slots=True)
class _Recorded:
    """Rows that have their positions: where those of each body end (−1 for none), and what is done once all are
    durable.
    """

    live: Live
    ends: list[int]
    scores: Scores
    first: int
    durable: asyncio.Future[None]


class Together:
    """Answers requests of the usual form that ask for scores and for nothing beside them."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._waiting: deque[tuple[bytes, _Asked]] = deque()

    def ask(self, body: bytes, waiter: Acknowledger) -> _Asked:
        """The answer, once its predictions are durable; None where the body is to be judged alone, by who asks.

        Nothing of a body that is to be judged alone has been recorded.
        """
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._turn, loop, waiter)
        asked: _Asked = loop.create_future()
        self._waiting.append((body, asked))
        return asked

    def _turn(self, loop: asyncio.AbstractEventLoop, waiter: Acknowledger) -> None:
        bodies, asked, size = list[bytes](), list[_Asked](), 0
        while self._waiting and (not bodies or size + len(self._waiting[0][0]) <= _MOST_BYTES):
            body, one = self._waiting.popleft()
            bodies.append(body)
            asked.append(one)
            size += len(body)
        if self._waiting:
            loop.call_soon(self._turn, loop, waiter)
        self._take(bodies, asked, waiter)

    def _take(self, bodies: Sequence[bytes], asked: Sequence[_Asked], waiter: Acknowledger) -> None:
        try:
            recorded = self._recorded(bodies, waiter)
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
            self._reply(asked, recorded)

    def _recorded(self, bodies: Sequence[bytes], waiter: Acknowledger) -> _Recorded | None:
        service = self._service
        live, now = service.live, service.now()
        read = live.rows.read(bodies, now, service.limits.rows)
        if read is None:
            return None
        most = service.predictions.max_rows
        if len(bodies) > 1 and read.design.rows > most:
            raise Overloaded(read.design.rows, most, 0.0)
        scores = live.scorer.score(read.design)
        first, durable = hand_over(service, live, now, read.design, read.block, scores, None, waiter)
        return _Recorded(live, read.ends, scores, first, durable)

    def _reply(self, asked: Sequence[_Asked], recorded: _Recorded | None) -> None:
        """Make the answers while the disk works; they leave when it is done."""
        if recorded is None:
            _settle(asked, None)
            return
        _settle([one for one, end in zip(asked, recorded.ends) if end < 0], None)
        rest = [one for one, end in zip(asked, recorded.ends) if end >= 0]
        try:
            answers = self._answers(recorded, [end for end in recorded.ends if end >= 0])
        except Exception as error:  # the rows are recorded: they are not to be judged once more
            _settle(rest, error)
        else:
            recorded.durable.add_done_callback(partial(_deliver, rest, answers))

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


def _deliver(asked: Sequence[_Asked], answers: Sequence[Answer], durable: asyncio.Future[None]) -> None:
    if (error := durable.exception()) is not None:
        _settle(asked, error if isinstance(error, Exception) else RuntimeError(repr(error)))
        return
    for one, answer in zip(asked, answers):
        if not one.done():
            one.set_result(answer)
