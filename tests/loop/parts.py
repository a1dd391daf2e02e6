"""A learner over a ledger in memory, told by a test what was predicted and what happened, and when."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from nearline import Fixed, GLMix, Numeric, Random, Schema, StateError
from nearline.features import RowEncoder
from nearline.gate import GuardSettings
from nearline.glmix import Safety
from nearline.join import Policy
from nearline.loop._audit import differing
from nearline.loop._events import predictions_of
from nearline.loop._examples import SCHEMA as EXAMPLES
from nearline.loop._learner import Learner, Tick
from nearline.loop._storage import Storage
from nearline.store import OUTCOMES, Changes, MemoryLog, MemoryStateStore, Version

CALM = Safety(step=1e9, margin=1e9, excess=math.inf, shift=math.inf)
"""Refuses nothing that can be computed."""
BASE = Version(1)
SCHEMA = Schema(label="clicked", time="when", columns={"price": Numeric(10.0, 5.0)})


def history(n: int = 200, seed: int = 0) -> dict[str, Any]:
    """Events of ten members and six ads."""
    rng = np.random.default_rng(seed)
    return {
        "member": rng.integers(0, 10, n), "ad": [f"ad{i}" for i in rng.integers(0, 6, n)],
        "price": rng.normal(10, 5, n), "clicked": rng.integers(0, 2, n), "when": np.arange(n) - float(n),
    }  # fmt: skip


def trained(**options: Any) -> GLMix:
    """A model that has learned the history."""
    model = GLMix(SCHEMA, Fixed("price"), [Random("member", on=["price"]), Random("ad")], **options)
    model.partial_fit(history())
    return model


def events(given: dict[str, Any], labels: Any, times: Any) -> dict[str, Any]:
    """Rows with what happened to them, as the model's own verbs take them."""
    return {**given, "clicked": labels, "when": np.broadcast_to(times, len(labels)).astype(float)}


class FailingStore(MemoryStateStore):
    """A state store whose disk is full while `full`."""

    full = False

    def commit(self, changes: Changes, positions: Mapping[str, int]) -> None:
        if self.full:
            raise StateError("the state cannot be written: the disk is full")
        super().commit(changes, positions)


class Bench:
    """A learner, its ledger, and a clock that stands still until it is moved."""

    def __init__(
        self, model: GLMix | None = None, policy: Policy | None = None, *, safety: Safety = CALM, batch: int = 5_000,
        guard: GuardSettings | None = None,
    ) -> None:  # fmt: skip
        self.base = model or trained()
        self.policy = policy or Policy(window=100.0, lateness=10.0, horizon=1_000.0)
        self.safety, self.batch, self.guard = safety, batch, guard or GuardSettings(link=self.base.link)
        self.now = 1_000.0
        self.state = FailingStore()
        logs: list[Any] = [MemoryLog(schema) for schema in (predictions_of(self.base), OUTCOMES, EXAMPLES)]
        self.storage = Storage(*logs, self.state, None)  # type: ignore[arg-type]
        self.models = {BASE: self.base}
        self.learner = self._learner()
        assert not self.learner.restore()
        self.learner.begin(BASE, 1, self.now)

    def _learner(self) -> Learner:
        return Learner(
            self.storage, self.policy, self.safety, lambda version: self.models[version], self.guard, batch=self.batch
        )  # fmt: skip

    def predict(self, rows: Mapping[str, Sequence[Any]], *, time: Any = None, received: Any = None) -> list[int]:
        """Record predictions of rows by the learner's model as it is now; their positions."""
        model, log = self.learner.model, self.storage.predictions
        n = len(next(iter(rows.values())))
        first = log.next
        times = np.broadcast_to(self.now if time is None else time, n).astype(float)
        known = {field.name: _recorded(rows[field.name], field.type) for field in RowEncoder(model.encoder).arrow}
        roles = {"offset": model.schema.offset, "weight": model.schema.weight}
        known |= {name: pa.array(rows[column], pa.float64()) for name, column in roles.items() if column is not None}
        extra = {column: rows[column] for column in roles.values() if column is not None}
        extra |= {} if model.schema.time is None else {model.schema.time: times}
        extra |= {} if model.schema.id is None else {model.schema.id: [f"p-{first + i}" for i in range(n)]}
        score = model.decision_function({**{name: known[name] for name in rows if name in known}, **extra})
        known |= {
            "prediction_id": [f"p-{first + i}" for i in range(n)], "time": times,
            "received": np.broadcast_to(self.now if received is None else received, n).astype(float),
            "score": score, "version": [str(self.learner.version)] * n,
        }  # fmt: skip
        self._append(log, n, known)
        return list(range(first, first + n))

    def void(self, n: int) -> list[int]:
        """Positions of predictions that could not be written."""
        first = self.storage.predictions.next
        self._append(self.storage.predictions, n, {"prediction_id": [f"p-{first + i}" for i in range(n)]})
        return list(range(first, first + n))

    def happened(self, predictions: Sequence[int], labels: Any, *, kind: str = "outcome", time: Any = None) -> None:
        """Record outcomes of predictions; a label may be None."""
        n = len(predictions)
        labels = [labels] * n if labels is None or np.isscalar(labels) else list(labels)
        self._append(self.storage.outcomes, n, {
            "prediction_id": [f"p-{position}" for position in predictions], "prediction": list(predictions),
            "time": np.broadcast_to(self.now if time is None else time, n).astype(float),
            "received": np.full(n, self.now), "label": labels, "kind": [kind] * n,
        })  # fmt: skip

    @staticmethod
    def _append(log: Any, n: int, columns: Mapping[str, Any]) -> None:
        arrays = [
            columns[field.name].cast(field.type) if isinstance(columns.get(field.name), pa.Array)
            else pa.array(columns.get(field.name, [None] * n), field.type)
            for field in log.schema
        ]  # fmt: skip
        log.append(pa.RecordBatch.from_arrays(arrays, schema=log.schema))
        log.commit()

    def tick(self, seconds: float = 1.0, **options: Any) -> Tick | None:
        """Learn what waits, some seconds later."""
        self.now += seconds
        return self.learner.tick(self.now, **options)

    def crash(self) -> None:
        """Lose everything but what is on disk, and start again."""
        self.learner = self._learner()
        assert self.learner.restore()

    @property
    def model(self) -> GLMix:
        return self.learner.model

    def examples(self, *columns: str) -> list[Any]:
        """Rows of the examples so far: tuples of columns, or the values of one."""
        table = self.storage.examples.read(0)
        found = [table.column(name).to_pylist() for name in columns]
        return found[0] if len(found) == 1 else list(zip(*found))

    def held(self) -> dict[int, float]:
        """Label that the model holds of each prediction, by position."""
        positions = np.arange(self.storage.predictions.end)
        at = self.learner.recall.get(positions)
        labels = self.examples("label")
        return {int(p): labels[e] for p, e in zip(positions, at) if e >= 0}


def _recorded(values: Sequence[Any], dtype: Any) -> Any:
    """As rows of JSON are recorded: one value where there may be several is a list of one."""
    alone = pa.types.is_list(dtype) and isinstance(values[0], str)
    return pa.array([[value] for value in values] if alone else values, dtype)


def rows(members: Sequence[int], seed: int = 0) -> dict[str, Any]:
    """Rows to predict, one per member."""
    rng = np.random.default_rng(seed)
    n = len(members)
    return {"member": list(members), "ad": [f"ad{i}" for i in rng.integers(0, 8, n)], "price": rng.normal(10, 5, n)}


def same_model(one: GLMix, other: GLMix) -> bool:
    """Whether two models are the same to the bit: posteriors, beliefs and vocabulary."""
    return (
        differing(one, other) == 0
        and one.events_learned == other.events_learned
        and one.encoder.slot_names == other.encoder.slot_names
        and all(one.encoder.entity_codes(key) == other.encoder.entity_codes(key) for key in one.encoder.keys)
    )


def standing(learner: Learner) -> dict[str, Any]:
    """All that a learner remembers but its model, in plain values that compare equal or not."""
    join = learner.join
    numbers = join.pages._numbers.tolist()
    table = learner.storage.examples.read(0)
    return {
        "version": str(learner.version), "line": learner.line.to_dict(), "entry": learner.entry,
        "join": (join.changes().head, join.pages.to_bytes(numbers), join.pending),
        "recall": {page: held.tobytes() for page, held in learner.recall._pages.items()},
        "counts": learner.counts, "rejected": learner._teacher.rejected, "guard": learner.guard.state(),
        "used": learner.used, "held": learner.held,
        "examples": [batch.to_pydict().__repr__() for _, batch in learner.storage.examples.batches(0)],
        "rows": table.num_rows,
    }  # fmt: skip
