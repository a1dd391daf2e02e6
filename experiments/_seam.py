"""Services over one simulated stream that differ only in when, and how, a new fit is published."""

from __future__ import annotations

import heapq
import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline import Fixed, GLMix, Random, Schema
from nearline.features import RowEncoder
from nearline.glmix import Safety
from nearline.glmix._links import by_name
from nearline.join import Policy
from nearline.loop import Loop, Pace, Recording
from nearline.serve import Limits
from nearline.simulate import Request
from nearline.store import Registry, Version

Floats = NDArray[np.float64]

START = 1_800_000_000.0
"""Seconds since the epoch when the traffic starts."""
POLICY = Policy(window=30.0, lateness=2.0, horizon=3_600.0)
FEATURES = ("country", "device", "category", "price")


def untrained() -> GLMix:
    """The model of the marketplace, at its priors."""
    members, ads = Random("member_id", on=["category"]), Random("ad_id", parent="campaign_id")
    return GLMix(Schema(label="clicked", time="timestamp"), Fixed(*FEATURES), [members, ads])


class Clock:
    """Simulated seconds since the epoch."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Service:
    """A live loop on a folder, fed by the clock of the traffic; closed when it is forked or done.

    Parameters
    ----------
    folder
        A state directory with a published version.
    waiting
        (time, prediction id, label) of outcomes that are not known yet, as a heap.
    """

    def __init__(self, folder: Path, now: float, waiting: Sequence[tuple[float, str, float]] = ()) -> None:
        self.folder, self.clock, self.waiting = folder, Clock(now), list(waiting)
        self.loop = Loop(
            folder, POLICY, pace=Pace(snapshot=1e9), recording=Recording(), safety=Safety(excess=1e9),
            guard=None, limits=Limits(), clock=self.clock,
        )  # fmt: skip

    def play(self, requests: Sequence[Request]) -> Floats:
        """Loss of every row as it was served; outcomes are told as they become known, and learned at once."""
        return np.concatenate([np.zeros(0), *(self._request(request) for request in requests)])

    def _request(self, request: Request) -> Floats:
        self.clock.now = START + request.at
        self._tell()
        scorer, n = self.loop.live.scorer, request.rows.num_rows
        encoder = scorer.model.encoder
        seen = {f.name: request.rows.column(f.name).cast(f.type).combine_chunks() for f in RowEncoder(encoder).arrow}
        with scorer.lock:
            score = scorer.model.decision_function({**seen, "timestamp": [self.clock.now] * n})
            version = scorer.version
        times = {"time": [self.clock.now] * n, "received": [self.clock.now] * n}
        first = _written(self.loop.predictions, n, {**seen, **times, "score": score, "version": [version] * n})
        for name, at, label in zip(self.loop.ids(first, n), request.outcome_at.tolist(), request.label.tolist()):
            if at == at:
                heapq.heappush(self.waiting, (START + at, name, label))
        return by_name("logit").loss(request.label, score)

    def _tell(self) -> None:
        known: list[tuple[float, str, float]] = []
        while self.waiting and self.waiting[0][0] <= self.clock.now:
            known.append(heapq.heappop(self.waiting))
        if known:
            times, names, labels = (list(part) for part in zip(*known))
            position, _ = self.loop.resolve(names)
            columns = {
                "prediction_id": names,
                "prediction": position,
                "label": labels,
                "kind": ["outcome"] * len(names),
            }
            _written(self.loop.outcomes, len(names), {**columns, "time": times, "received": times})
        self.loop.turn()

    def fork(self, *folders: Path) -> list[Service]:
        """Services that go on from here, the first in this one's folder and the others in copies of it."""
        self.loop.close()
        for folder in folders:
            shutil.copytree(self.folder, folder)
        return [Service(folder, self.clock.now, self.waiting) for folder in (self.folder, *folders)]

    def publish(self, model: GLMix, version: Version, cutoff: int | None) -> None:
        """Register a fit and publish it; without a cut-off nothing is replayed on it."""
        publish(self.folder, self.clock, model, version, {} if cutoff is None else {"start": 0, "examples": cutoff})


def publish(folder: Path, clock: Clock, model: GLMix, version: Version, positions: Mapping[str, int]) -> None:
    """Register a model as a version and make it live."""
    registry = Registry(folder, clock=clock)
    try:
        staged = model.save(registry.stage())
        registry.register(staged, version, who="experiment", why="a fit", positions=positions)
        registry.publish(version, who="experiment", why="a fit")
    finally:
        registry.close()


def distance(one: GLMix, other: GLMix) -> float:
    """Largest difference of any posterior mean or covariance; infinite where shapes differ."""
    found = 0.0
    for a, b in zip(one.blocks, other.blocks):
        n = a.entities
        if (a.d, a.kind, n) != (b.d, b.kind, b.entities):
            return float("inf")
        for x, y in ((a.mean, b.mean), (a.cov, b.cov)):
            found = max(found, float(np.abs(x[:n].astype(np.float64) - y[:n]).max(initial=0.0)))
    return found


def _written(recorder: Any, n: int, columns: Mapping[str, Any]) -> int:
    """Hand rows over and wait until they can be read; the position of the first."""
    done = threading.Event()
    first: int = recorder.submit(n, columns, lambda error: done.set())
    done.wait()
    return first


def table(events: pa.Table) -> pa.Table:
    """The columns of a history that the model learns from."""
    return events.select(["member_id", "ad_id", "campaign_id", *FEATURES, "timestamp", "clicked"])
