"""Learn anew what the examples log says was learned: batch by batch, as it was settled, on another posterior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nearline.join import Action, Joined
from nearline.loop._examples import LEARNS, NAMES, QUARANTINED, Rows
from nearline.loop._recall import NEVER, Recall
from nearline.loop._settle import Settled
from nearline.loop._teach import UNFORESEEN, Taught, Teacher
from nearline.store import Log

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Relearned:
    """A batch of the examples log that was learned anew; `taken` and `known` as for `Teacher.teach`."""

    joined: Joined
    taught: Taught
    taken: pa.Table
    known: Ints


def relearn(teacher: Teacher, recall: Recall, predictions: Log, batch: Any, at: int) -> Relearned:
    """Teach a batch, and remember its examples from position `at` on.

    The rows to learn and to undo are those of the batch; what the model takes of them is the teacher's to say.
    """
    joined, settled = as_settled(batch)
    known = np.flatnonzero((joined.prediction >= predictions.first) & (joined.prediction < predictions.end))
    taken = predictions.take(joined.prediction[known])
    taught = teacher.teach(joined, settled, taken, known, recall.get(joined.prediction))
    recall.set(joined.prediction[taught.learned], at + taught.learned)
    recall.set(joined.prediction[taught.forgotten], np.full(len(taught.forgotten), NEVER))
    _reword(taught.rows, batch, np.concatenate([settled.learn, settled.undo]))
    return Relearned(joined, taught, taken, known)


def as_settled(batch: Any) -> tuple[Joined, Settled]:
    """A tick as it was settled, from its examples."""
    names = batch.column("action").to_pylist()
    action = np.array(names)
    label = batch.column("label").to_numpy(False)
    previous = batch.column("previous").to_numpy(False)
    outcome = pc.fill_null(batch.column("outcome"), -1).to_numpy()
    undo = np.flatnonzero(~np.isnan(previous))
    tried = ~np.asarray(pc.fill_null(pc.starts_with(batch.column("reason"), UNFORESEEN), False))
    learns = tried & np.isin(action, (*LEARNS, QUARANTINED)) & np.isnan(previous) & ~np.isnan(label)
    codes = {name: code for code, name in enumerate(NAMES)}
    # What was quarantined had another action before: a window that closed has no outcome.
    lost = np.where(outcome < 0, Action.NEGATIVE, Action.LEARN)
    joined = Joined(
        batch.column("prediction").to_numpy(), outcome,
        np.array([codes.get(name, code) for name, code in zip(names, lost.tolist())], np.uint8),
        label.copy(), previous.copy(), np.zeros(len(action), np.uint8),
    )  # fmt: skip
    return joined, Settled(np.flatnonzero(learns), undo, previous[undo], np.zeros(0, np.int64))


def _reword(rows: Rows, batch: Any, tried: Ints) -> None:
    """Actions and reasons as the ledger has them, where learning anew says nothing else of a row."""
    again = np.zeros(len(rows.action), bool)
    again[tried] = True
    before = zip(batch.column("action").to_pylist(), batch.column("reason").to_pylist())
    for row, (action, reason) in enumerate(before):
        if not again[row]:
            rows.action[row], rows.reason[row] = action, reason
        elif rows.reason[row] is None and rows.action[row] == action:
            rows.reason[row] = reason
