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

from nearline.gate import Verdict
from nearline.glmix import GLMix, Safety
from nearline.loop._events import events
from nearline.loop._examples import HELD_OUT
from nearline.loop._held import Span
from nearline.loop._player import Player
from nearline.loop._trial import Cost, Gating, Trial
from nearline.schema import key_columns
from nearline.store import Log, Record, first_at


@dataclass(frozen=True, slots=True)
class Cutoff:
    """What a version has not seen: examples from a position on, of predictions from a position on.

    `held` are the examples [start, end) that it has seen and holds one by one, so that corrections can undo them.
    """

    examples: int
    predictions: int
    held: tuple[Span, ...] = ()

    @classmethod
    def of(cls, record: Record, examples: Log, predictions: Log) -> Cutoff:
        """The cut-off of a registered version; without positions, what was predicted after it was made."""
        seen = record.positions
        if "examples" in seen:
            held = ((seen["start"], seen["examples"]),) if "start" in seen else ()
            return cls(max(seen["examples"], examples.first), predictions.first, held)
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
    player = Player(candidate, predictions, examples, safety or Safety(), cutoff.held)
    for at, batch in examples.batches(cutoff.examples):
        if any(start <= at < end for start, end in copies):
            continue
        unseen = batch.filter(_unseen(batch, max(cutoff.predictions, predictions.first)))
        trial.add(unseen, player.play(unseen))
        if progress is not None:
            progress((at + batch.num_rows - cutoff.examples) / (examples.end - cutoff.examples))
    return trial.verdict(live, cost)


def judge_held_out(
    candidate: GLMix, served: GLMix, predictions: Log, examples: Log, gating: Gating, *,
    live: Cost = Cost(), cost: Cost = Cost(),  # noqa: B008 - frozen
    progress: Callable[[float], None] | None = None,
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
        if progress is not None:
            progress((min(at + _CHUNK, examples.end) - examples.first) / (examples.end - examples.first))
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
