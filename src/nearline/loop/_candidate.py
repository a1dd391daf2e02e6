"""Would this version have done better than what was served? It is played against the ledger, and judged.

Everything that live has learned after the candidate's cut-off is predicted by the candidate, then learned by it, in the
ledger's own batches: progressive validation. Live's side of the comparison is what the ledger recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nearline.gate import Verdict
from nearline.glmix import GLMix, Safety
from nearline.loop._events import events
from nearline.loop._examples import HELD_OUT, loosening
from nearline.loop._held import Span
from nearline.loop._recall import NEVER
from nearline.loop._relearn import as_settled
from nearline.loop._settle import Settled
from nearline.loop._teach import Teacher
from nearline.loop._trial import Cost, Gating, Trial
from nearline.schema import key_columns
from nearline.store import Log, Record, first_at

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Cutoff:
    """What a version has not seen: examples from a position on, of predictions from a position on."""

    examples: int
    predictions: int

    @classmethod
    def of(cls, record: Record, examples: Log, predictions: Log) -> Cutoff:
        """The cut-off of a registered version; without positions, what was predicted after it was made."""
        if "examples" in record.positions:
            return cls(max(record.positions["examples"], examples.first), predictions.first)
        return cls(examples.first, first_at(predictions, record.created))


def judge(
    candidate: GLMix, cutoff: Cutoff, predictions: Log, examples: Log, gating: Gating, *,
    safety: Safety | None = None, live: Cost = Cost(), cost: Cost = Cost(),  # noqa: B008 - frozen
    copies: Sequence[Span] = (),
    progress: Callable[[float], None] | None = None,
) -> Verdict:  # fmt: skip
    """Play a candidate against the ledger after its cut-off, and say whether it may be published.

    Parameters
    ----------
    candidate
        Its model, which is not changed.
    predictions, examples
        The ledger; open for reading is enough.
    safety
        What is quarantined instead of learned, as when it will be served.
    live, cost
        What the live model and the candidate cost.
    copies
        Spans of the examples that say again what an earlier stretch of them said (`Committed`): they are passed over.
    progress
        Called with the share of the ledger that was played.

    Raises
    ------
    ConfigError
        A slice or entity that the ledger does not record.
    """
    trial = Trial(candidate.link, predictions, gating, key_columns(candidate.encoder.keys))
    player = _Player(candidate, predictions, examples, safety or Safety())
    for at, batch in examples.batches(cutoff.examples):
        if any(start <= at < end for start, end in copies):
            continue
        unseen = batch.filter(_unseen(batch, max(cutoff.predictions, predictions.first)))
        trial.add(unseen, player.play(unseen, at))
        if progress is not None:
            progress((at + batch.num_rows - cutoff.examples) / (examples.end - cutoff.examples))
    return trial.verdict(live, cost)


def judge_held_out(
    candidate: GLMix, served: GLMix, predictions: Log, examples: Log, gating: Gating, *,
    live: Cost = Cost(), cost: Cost = Cost(),  # noqa: B008 - frozen
) -> Verdict:  # fmt: skip
    """Score what was held out by both models as they are, and say whether the candidate may be published.

    Nothing has ever learned these examples, whatever is older than which: the whole ledger is evidence. `served` is the
    live model, the other parameters are as for `judge`.
    """
    trial = Trial(candidate.link, predictions, gating, key_columns(candidate.encoder.keys))
    held: set[int] = set()
    for at in range(examples.first, examples.end, _CHUNK):
        found = examples.read(at, _CHUNK).select(["prediction", "action", "label", "weight"])
        rows = _held_out(found.filter(pc.greater_equal(found.column("prediction"), predictions.first)), held)
        if rows.num_rows:
            taken = predictions.take(rows.column("prediction").to_numpy())
            margins = [model.decision_function(pa.table(events(taken, model))) for model in (served, candidate)]
            trial.add_held_out(rows, *margins)
    return trial.verdict(live, cost)


def _held_out(rows: pa.Table, held: set[int]) -> pa.Table:
    """Rows of held-out predictions: as they were held out, and as they were taken back; `held` remembers them."""
    action, prediction = rows.column("action"), rows.column("prediction").to_pylist()
    out = np.asarray(pc.equal(action, HELD_OUT))
    held.update(name for name, here in zip(prediction, out.tolist()) if here)
    back = np.asarray(pc.equal(action, "retract"))
    gone = np.array([name in held for name in prediction], bool) & back
    return rows.filter(pa.array(out | gone))


_CHUNK = 1 << 16


def _unseen(batch: Any, first: int) -> Any:
    """Rows of predictions that the version has not seen, and those that say that the world has changed."""
    return pc.or_(pc.greater_equal(batch.column("prediction"), first), pc.equal(batch.column("action"), "loosened"))


class _Player:
    """Predicts, then learns: batch by batch as the ledger has them, each example once with its first label."""

    def __init__(self, candidate: GLMix, predictions: Log, examples: Log, safety: Safety) -> None:
        self._model, self._log = candidate.replica(), predictions
        self._teacher = Teacher(self._model, candidate, safety, examples)
        self._by_event = candidate.mode == "event"

    def play(self, batch: Any, at: int) -> Floats:
        """Margins (n) of the rows before they are learned, NaN where none was learned of them; then learn."""
        share = loosening(batch)
        rows = batch if share is None else batch.slice(0, batch.num_rows - 1)
        joined, settled = as_settled(rows)
        taken = self._log.take(joined.prediction)
        scored = None if self._by_event else self._model.decision_function(pa.table(events(taken, self._model)))
        n, none = len(joined), np.zeros(0, np.int64)
        first = Settled(settled.learn, none, np.zeros(0), none)
        margin = self._teacher.teach(joined, first, taken, np.arange(n), np.full(n, NEVER)).rows.margin
        if share is not None:
            self._teacher.loosen(at + batch.num_rows, share)
        found = margin if scored is None else scored
        return found if share is None else np.append(found, np.nan)
