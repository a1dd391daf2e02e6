"""A candidate played against the ledger: it predicts a batch, then learns it as it was settled, corrections and all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline.glmix import GLMix, Safety
from nearline.loop import _examples
from nearline.loop._catch_up import Unwritten
from nearline.loop._events import events
from nearline.loop._held import Span, recalled
from nearline.loop._relearn import relearn
from nearline.loop._teach import Teacher
from nearline.store import Log

Floats = NDArray[np.float64]


class Player:
    """Plays one candidate, which is not changed.

    Parameters
    ----------
    held
        Examples [start, end) that it holds one by one, so that corrections can undo them.
    """

    def __init__(
        self, candidate: GLMix, predictions: Log, examples: Log, safety: Safety, held: Iterable[Span] = ()
    ) -> None:
        self._model, self._log, self._written = candidate.replica(), predictions, Unwritten(examples)
        self._teacher = Teacher(self._model, candidate, safety, self._written)
        self._recall = recalled(examples, held, predictions.first)
        self._by_event = candidate.mode == "event"

    def play(self, batch: Any) -> Floats:
        """Margins (n) of the rows before they are learned, NaN where none was learned of them; then learn.

        In minibatch mode these are the scores at the start of the batch.
        """
        share = _examples.loosening(batch)
        rows = batch if share is None else batch.slice(0, batch.num_rows - 1)
        before = None if self._by_event else self._scores(rows)
        margin = self._learn(rows)
        if share is not None:
            self._teacher.loosen(self._written.end, share)
        found = margin if before is None else before
        return found if share is None else np.append(found, np.nan)

    def _learn(self, rows: Any) -> Floats:
        again = relearn(self._teacher, self._recall, self._log, rows, self._written.end)
        taught = again.taught.rows
        self._written.append(
            _examples.batch(taught, again.joined, again.taken, again.known, self._teacher.link, "")
        )  # fmt: skip
        return taught.margin

    def _scores(self, rows: Any) -> Floats:
        taken = self._log.take(rows.column("prediction").to_numpy())
        return self._model.decision_function(pa.table(events(taken, self._model)))
