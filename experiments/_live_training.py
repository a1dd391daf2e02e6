"""A live service whose network is trained beside it, by the clock of a stream: served, labelled, trained, swapped."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from time import process_time
from types import TracebackType
from typing import Any

import msgspec
import pyarrow as pa

from experiments._seam import Clock
from nearline import config
from nearline.loop import Loop
from nearline.serve import App

RECORDED = ("score", "served", "network_logit", "version")
_JSON = ((b"content-type", b"application/json"),)


@dataclass(frozen=True)
class Round:
    """One `nearline train`: what it says, and the processor's seconds that it took."""

    version: str
    published: bool
    refused: tuple[str, ...]
    seen: int
    chosen: int
    seconds: float


class Trainer:
    """`nearline train` in a process of its own that stays, so that its imports are not paid for every time."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown()

    def train(self, file: Path) -> Round:
        """Train once, judge, and publish if the gate lets it."""
        return self._pool.submit(_train, file).result()


def _train(file: Path) -> Round:
    """The command as it is, its JSON caught; it exits with status 1 where the gate refuses."""
    import torch

    from nearline.cli import _train as command

    torch.set_num_threads(1)
    said, began = StringIO(), process_time()
    with redirect_stdout(said), suppress(SystemExit):
        command.run(file, why="every so many events", publish=True, as_object=True)
    seconds, found = process_time() - began, json.loads(said.getvalue())
    return Round(
        found["version"], found["published"], tuple(found.get("refused", ())), int(found["seen"]),
        int(found["chosen"]), seconds,
    )  # fmt: skip


class Service:
    """The loop of a configuration behind its HTTP app, not started: every request is followed by one `turn`.

    Parameters
    ----------
    now
        When it starts, in the stream's seconds.
    """

    def __init__(self, file: Path, now: float) -> None:
        settings = config.load(file).running()
        self._clock = Clock(now)
        self.loop = Loop(
            settings.folder, settings.policy, pace=settings.pace, recording=settings.recording, safety=settings.safety,
            guard=settings.guard, limits=settings.limits, clock=self._clock, change=settings.change,
            recalibrate=settings.recalibrate, holdout=settings.gating.holdout, gating=settings.gating,
        )  # fmt: skip
        self.loop.error = None
        self._app, self._runner = App(self.loop), asyncio.Runner()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.close()
        self.loop.close()

    def request(self, rows: Sequence[dict[str, Any]], label: Sequence[float], now: float) -> None:
        """Predict rows, tell what happened, and learn it."""
        self._clock.now = max(now, self._clock.now)
        told = self._post("/predict", {"rows": list(rows)})["predictions"]
        outcomes = [{"prediction_id": one["prediction_id"], "label": y} for one, y in zip(told, label)]
        taken = self._post("/outcome", {"outcomes": outcomes})
        if taken["accepted"] != len(outcomes):
            raise RuntimeError(f"{len(outcomes)} outcomes were told and {taken['accepted']} accepted: {taken}")
        self.loop.turn()

    def recorded(self) -> pa.Table:
        """What the ledger says of every prediction that was served, in order."""
        return self.loop.storage.predictions.read(0).select(RECORDED)

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return msgspec.json.decode(self._runner.run(_answer(self._app, path, msgspec.json.encode(body))))


async def _answer(app: App, path: str, body: bytes) -> bytes:
    """The body of the app's answer to a POST; an error where its status is not 200."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": path, "query_string": b"", "headers": _JSON, "client": ("", 0),
    }  # fmt: skip
    await app(scope, receive, send)
    answer = b"".join(message.get("body", b"") for message in sent)
    if sent[0]["status"] != 200:
        raise RuntimeError(f"{path} answered {sent[0]['status']}: {answer.decode()}")
    return answer
