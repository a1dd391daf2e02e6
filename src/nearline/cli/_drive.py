"""Sends simulated traffic to a running service, in time, and measures what its clients would see."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from nearline._errors import ConfigError
from nearline.cli._http import Answer, Http
from nearline.simulate import Request

Floats = NDArray[np.float64]
Due = tuple[float, int, dict[str, Any]]
_FLUSH = 0.02
_MOST = 1000


@dataclass(frozen=True)
class Served:
    """One answered request: when it was sent (seconds since the start), and what was predicted, true, and the case.

    `position` is how many examples the version that answered had learned since its base. `rows` is None unless
    `drive(keep_rows=True)`.
    """

    at: float
    probability: Floats
    truth: Floats
    label: Floats
    position: int
    rows: Any = None


@dataclass
class Seen:
    """What the clients of a service saw.

    Attributes
    ----------
    predict_ms, outcome_ms
        Milliseconds from when a request was due to its answer, time in a queue included: a service that stalls cannot
        hide it by holding up its clients.
    fresh_ms
        Milliseconds from the acknowledgement of outcomes to the first answer whose version has learned them: too many
        by the time between two answers at most, never too few.
    unseen_ms
        The same for outcomes that no answer had learned yet, until the last answer: each would have been longer.
    rows, outcomes
        Predictions answered and outcomes accepted.
    refused
        Outcomes the service refused for good, each as it said why.
    overloaded
        Requests that were answered with 429; outcomes among them are sent again, predictions are not.
    failed
        What went wrong otherwise, by its words.
    """

    served: deque[Served] = field(default_factory=deque)
    predict_ms: list[float] = field(default_factory=list)
    outcome_ms: list[float] = field(default_factory=list)
    fresh_ms: list[float] = field(default_factory=list)
    unseen_ms: list[float] = field(default_factory=list)
    rows: int = 0
    outcomes: int = 0
    overloaded: int = 0
    refused: list[str] = field(default_factory=list)
    failed: dict[str, int] = field(default_factory=dict)

    def log_loss(self, begin: float = 0.0, end: float = float("inf")) -> dict[str, float]:
        """Mean log loss of what was served from `begin` to `end` (seconds since the start), and the best possible."""
        held = [one for one in list(self.served) if begin <= one.at < end]
        if not held:
            return {"served": float("nan"), "best": float("nan")}
        y = np.concatenate([one.label for one in held])
        parts = {"served": [one.probability for one in held], "best": [one.truth for one in held]}
        return {name: float(np.mean(_loss(y, np.concatenate(p)))) for name, p in parts.items()}


async def drive(
    requests: Iterable[Request],
    url: str,
    *,
    tokens: Mapping[str, str] = MappingProxyType({}),
    connections: int = 16,
    time_column: str | None = None,
    drain: float = 5.0,
    stopped: Callable[[], bool] = lambda: False,
    seen: Seen | None = None,
    keep_rows: bool = False,
    keep_seconds: float = float("inf"),
    columns: Sequence[str] | None = None,
) -> Seen:
    """Send every request when it is due and its outcomes when they are known; what was seen.

    Parameters
    ----------
    requests
        In order of `at`, for example a `Traffic`. More than the service can take pile up, as they would in the world.
    tokens
        Tokens of the roles "predict" and "outcome", where the service asks for them.
    time_column
        Name of the column that says when a row happened (seconds since the epoch), None to leave that to the service.
    drain
        Seconds that are waited at the end for outcomes still to come; later ones are not sent.
    keep_rows
        Keep the rows of every answered request in `Seen.served`.
    keep_seconds
        Drop requests from `Seen.served` that are older than this.
    columns
        The columns that are sent; all by default.
    stopped
        Asked before each request; true ends the traffic.
    seen
        Filled while the traffic runs, for whoever wants to look meanwhile.

    Raises `ConfigError` where no service answers at `url`.

    Notes
    -----
    Freshness is read from versions `global.batch.position`: an outcome is visible once `position` has grown by all
    outcomes that were sent until it was acknowledged. That is exact while these are the only examples: one driver, and
    an attribution window longer than the run. It ends with the first outcomes whose answer is lost, because they may or
    may not have been learned.
    """
    async with Http(url, connections=connections) as http:
        driver = _Driver(http, tokens, time_column, seen if seen is not None else Seen(), keep_rows, columns)
        driver.keep_seconds = keep_seconds
        await driver.begin(url)
        await driver.run(requests, drain, stopped)
        return driver.seen


class _Driver:
    def __init__(
        self, http: Http, tokens: Mapping[str, str], time_column: str | None, seen: Seen, keep_rows: bool,
        columns: Sequence[str] | None,
    ) -> None:  # fmt: skip
        self.http, self.tokens, self.time_column, self.seen = http, tokens, time_column, seen
        self.keep_rows, self.columns = keep_rows, columns
        self.keep_seconds = float("inf")
        self.due: list[Due] = []  # outcomes, a heap by time
        self.count = 0  # of outcomes ever due: breaks ties
        self.sent = 0  # outcomes sent and not refused
        self.unseen: deque[tuple[int, float]] = deque()  # (position, acknowledged) of outcomes not yet in a version
        self.looked = 0.0  # when an answer last showed a version
        self.sure = True  # all outcomes sent were answered
        self.tasks: set[asyncio.Task[None]] = set()
        self.open = True

    async def begin(self, url: str) -> None:
        try:
            status = (await self.http.get("/api/status")).json()
        except OSError as error:
            raise ConfigError(f"no service answers at {url}: {error}; start it with nearline run") from error
        self.first = _position(status["model"]["version"])
        self.start, self.epoch = time.perf_counter(), time.time()

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.start

    async def run(self, requests: Iterable[Request], drain: float, stopped: Callable[[], bool]) -> None:
        flushing = asyncio.create_task(self.flush())
        for request in requests:
            await asyncio.sleep(max(0.0, request.at - self.now))
            if stopped():
                break
            self.spawn(self.predict(request))
        await self.wait(drain)
        self.open = False
        await flushing
        if self.tasks:
            await asyncio.wait(self.tasks)
        self.seen.unseen_ms = [1e3 * (self.looked - acked) for _, acked in self.unseen if acked < self.looked]

    async def wait(self, drain: float) -> None:
        """Until all is answered and sent, or `drain` seconds have gone."""
        end = self.now + drain
        while (self.tasks or (self.due and self.due[0][0] < end)) and self.now < end:
            await asyncio.sleep(_FLUSH)

    def spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def predict(self, request: Request) -> None:
        table = request.rows if self.columns is None else request.rows.select(self.columns)
        rows = table.to_pylist()
        if self.time_column is not None:
            rows = [{**row, self.time_column: self.epoch + request.at} for row in rows]
        answer = await self.ask("predict", {"rows": rows})
        if answer is None:
            return
        self.seen.predict_ms.append(1e3 * (self.now - request.at))
        given = answer.json()["predictions"]
        learned = max(_position(one["version"]) for one in given)
        self.visible(learned)
        p = np.array([one["probability"] for one in given])
        self.seen.rows += len(given)
        kept = request.rows if self.keep_rows else None
        self.seen.served.append(Served(request.at, p, request.probability, request.label, learned, kept))
        while self.seen.served[0].at < request.at - self.keep_seconds:
            self.seen.served.popleft()
        for one, label, at in zip(given, request.label.tolist(), request.outcome_at.tolist()):
            if at == at:  # NaN never comes
                self.put(at, {"prediction_id": one["prediction_id"], "label": label})

    def put(self, at: float, outcome: dict[str, Any]) -> None:
        self.count += 1
        heapq.heappush(self.due, (at, self.count, outcome))

    async def flush(self) -> None:
        """Post the outcomes that are due, in groups, until the driver closes."""
        while self.open:
            while self.due and self.due[0][0] <= self.now:
                group: list[Due] = []
                while self.due and self.due[0][0] <= self.now and len(group) < _MOST:
                    group.append(heapq.heappop(self.due))
                self.spawn(self.tell(group))
            await asyncio.sleep(_FLUSH)

    async def tell(self, group: list[Due]) -> None:
        self.sent += len(group)
        began = self.now
        answer = await self.ask("outcome", {"outcomes": [outcome for _, _, outcome in group]})
        if answer is None:
            self.sent -= len(group)
            for _, _, outcome in group:
                self.put(self.now + 0.5, outcome)
            return
        acknowledged, said = self.now, answer.json()
        self.seen.outcome_ms.append(1e3 * (acknowledged - began))
        self.sent -= len(said["rejected"])
        self.seen.outcomes += said["accepted"]
        self.seen.refused += [one["reason"] for one in said["rejected"]]
        if said["accepted"] and self.sure:
            self.unseen.append((self.first + self.sent, acknowledged))

    async def ask(self, role: str, body: Any) -> Answer | None:
        """The answer; None, and written down, where there is none or it is no success."""
        try:
            answer = await self.http.post(f"/{role}", body, self.tokens.get(role))
        except OSError as error:
            if role == "outcome":
                self.sure = False
                self.unseen.clear()
            self.fail(str(error) or type(error).__name__)
            return None
        if answer.status == 429:
            self.seen.overloaded += 1
            return None
        if answer.status != 200:
            self.fail(_words(answer))
            return None
        return answer

    def fail(self, why: str) -> None:
        self.seen.failed[why] = self.seen.failed.get(why, 0) + 1

    def visible(self, position: int) -> None:
        """An answer came from a version that has learned up to a position."""
        self.looked = self.now
        while self.unseen and self.unseen[0][0] <= position:
            self.seen.fresh_ms.append(1e3 * (self.looked - self.unseen.popleft()[1]))


def _position(version: str) -> int:
    return int(version.rsplit(".", 1)[1])


def _words(answer: Answer) -> str:
    try:
        return f"{answer.status}: {answer.json()['error']['message']}"
    except (msgspec.DecodeError, KeyError, TypeError):
        return f"{answer.status}"


def _loss(y: Floats, p: Floats) -> Floats:
    clipped = np.clip(np.where(y > 0, p, 1 - p), 1e-12, 1.0)
    loss: Floats = -np.log(clipped)
    return loss
