"""A real loop in a folder, told by a test what is predicted and what happened, and when to take its turn."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tests.loop.parts import CALM, history, rows, trained

from nearline import GLMix
from nearline.features import RowEncoder
from nearline.gate import GuardSettings
from nearline.join import Policy
from nearline.loop import Loop, Pace, Recording
from nearline.serve import Limits
from nearline.store import Change, Registry, Version

PACE = Pace(tick=0.002, snapshot=600.0, follow=0.1)
POLICY = Policy(window=100.0, lateness=10.0, horizon=10_000.0)


class Clock:
    """Seconds since the epoch, as a test says."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def published(folder: Path, model: GLMix | None = None, version: str = "1.0.0", clock: Any = None) -> Change:
    """Register and publish a model as another process would."""
    registry = Registry(folder, clock=clock or Clock())
    try:
        staged = (model or trained()).save(registry.stage())
        registry.register(staged, Version.parse(version), who="ann", why="fit")
        return registry.publish(Version.parse(version), who="ann", why="because")
    finally:
        registry.close()


def opened(folder: Path, clock: Clock, **options: Any) -> Loop:
    """A loop that is not started: `turn` makes it work."""
    given: dict[str, Any] = {
        "pace": PACE, "recording": Recording(), "safety": CALM, "guard": GuardSettings(), "limits": Limits(),
        "policy": POLICY, "clock": clock, **options,
    }  # fmt: skip
    return Loop(folder, **given)


def turn(loop: Loop) -> None:
    """What the learner thread does every tick."""
    loop.turn()


def submitted(recorder: Any, n: int, columns: Mapping[str, Any]) -> int:
    """Hand rows over and wait until they are durable; the position of the first."""
    done, faults = threading.Event(), []

    def finished(error: BaseException | None) -> None:
        faults.append(error)
        done.set()

    first: int = recorder.submit(n, columns, finished)
    assert done.wait(30.0)
    if faults[0] is not None:
        raise faults[0]
    return first


def predict(loop: Loop, rows: Mapping[str, Sequence[Any]]) -> list[str]:
    """Ids of predictions of rows, scored by the served model and recorded."""
    scorer, now = loop.live.scorer, loop.now()
    n = len(next(iter(rows.values())))
    time = scorer.model.schema.time
    with scorer.lock:
        score = scorer.model.decision_function({**rows, **({} if time is None else {time: [now] * n})})
        version = scorer.version
    seen = {field.name: pa.array(rows[field.name], field.type) for field in RowEncoder(scorer.model.encoder).arrow}
    columns = {**seen, "time": [now] * n, "received": [now] * n, "score": score, "version": [version] * n}
    return loop.ids(submitted(loop.predictions, n, columns), n)


def happened(loop: Loop, ids: Sequence[str], labels: Any, kind: str = "outcome") -> None:
    """Acknowledge outcomes of predictions by id."""
    n, now = len(ids), loop.now()
    position, refused = loop.resolve(ids)
    assert not refused
    labels = [labels] * n if labels is None or isinstance(labels, float) else [float(label) for label in labels]
    submitted(loop.outcomes, n, {
        "prediction_id": list(ids), "prediction": position, "time": [now] * n, "received": [now] * n,
        "label": labels, "kind": [kind] * n,
    })  # fmt: skip


def candidates(folder: Path) -> None:
    """A state directory whose 1.0.0 has served 600 predictions; 2.0.0 learned flipped labels, 3.0.0 is 1.0.0 again."""
    clock, rng = Clock(), np.random.default_rng(1)
    published(folder, clock=clock)
    past = history(4_000)
    past["clicked"] = rng.random(4_000) > (1 + past["member"]) / 11
    flipped = GLMix(trained().schema, trained().fixed, trained().random)
    flipped.partial_fit(past)
    registry = Registry(folder, clock=clock)
    for number, model in ((2, flipped), (3, trained())):
        registry.register(model.save(registry.stage()), Version(number), who="ann", why="candidate")
    registry.close()
    loop = opened(folder, clock)
    for tick in range(30):
        members = rng.integers(0, 10, 20)
        happened(loop, predict(loop, rows(members.tolist(), seed=tick)), (rng.random(20) < (1 + members) / 11).tolist())
        turn(loop)
        clock.now += 1.0
    loop.close()
