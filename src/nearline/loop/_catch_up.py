"""A published fit on its way to being served: what came after its cut-off is learned on it, batch by batch.

    state ← posterior of g.b.0;    for every batch of the ledger after the cut-off:  state ← learn(state, batch)

with the boundaries of the ledger's batches, offsets by the new fixed effect, and every example once. All of it is in
memory: a crash before the swap leaves the old pair as it was, and the next start begins again (specs: Lambda Learner,
arXiv 2010.05154; what happens to events between cut-off and push is not published, so none may be lost here).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline._errors import StateError
from nearline.glmix import Delta, GLMix, Mark, Safety, union
from nearline.loop import _examples
from nearline.loop._calibration import Calibration
from nearline.loop._events import require_recorded
from nearline.loop._examples import LEARNS
from nearline.loop._held import Span, recalled
from nearline.loop._lines import Line
from nearline.loop._recall import Recall
from nearline.loop._relearn import relearn
from nearline.loop._storage import Storage
from nearline.loop._teach import GONE, Teacher
from nearline.recalibrate import RecalibrationSettings
from nearline.store import Version

Ints = NDArray[np.int64]

AHEAD = 1 << 48
"""Positions from here on are those of examples that are not in the ledger yet."""
_MANY = 64


class CatchUp:
    """Learns the examples after a fit's cut-off on the fit's posterior, until none is left.

    Parameters
    ----------
    base, fit
        The version and its model, which is not changed.
    cutoff
        Position of the first example that the fit has not consumed.
    held
        Examples [start, end) that the fit holds one by one, so that corrections can undo them.
    copies
        Spans of the ledger that say again what an earlier stretch of it said: they are passed over.
    first
        The oldest prediction that can still be corrected.
    recalibrate
        Settings of the map from scores to probabilities; None for none.
    loosened
        End of the examples at the last change of the world that the fit has lived through, and its share.

    Raises
    ------
    StateError
        Examples after the cut-off are no longer kept, or the fit reads columns that the ledger does not record.
    """

    def __init__(
        self, base: Version, fit: GLMix, cutoff: int, held: Sequence[Span], storage: Storage, safety: Safety, *,
        copies: Iterable[Span] = (), first: int = 0, loosened: tuple[int, float] = (0, 0.0),
        recalibrate: RecalibrationSettings | None = None,
    ) -> None:  # fmt: skip
        _require(base, fit, cutoff, storage)
        self.base, self.stale, self.model, self.held, self.at = base, fit, fit.replica(), tuple(held), cutoff
        self._storage, self._copies, self._since = storage, tuple(copies), Mark.of(fit)
        self._written = Unwritten(storage.examples)
        self.teacher = Teacher(self.model, fit, safety, self._written)
        self.teacher.loosened = loosened
        self.alarms: list[tuple[int, float]] = []
        self._recall = recalled(storage.examples, self.held, first)
        self.calibration = Calibration.of(recalibrate, None)
        self._touched: list[Mapping[str, Ints]] = []
        self._waiting: Iterator[tuple[int, Any]] = iter(())

    @property
    def behind(self) -> int:
        """Examples in the ledger that were not looked at yet."""
        return self._storage.examples.end - self.at

    @property
    def learned(self) -> int:
        """Examples that were learned anew."""
        return self._written.end - AHEAD

    def step(self) -> int:
        """Learn the next batch; how many rows of the ledger that were, 0 when nothing is left."""
        found = next(self._waiting, None)
        if found is None and self.behind:
            self._waiting = self._storage.examples.batches(self.at)
            found = next(self._waiting, None)
        if found is None:
            return 0
        start, batch = found
        self.at = start + batch.num_rows
        if not any(begin <= start < end for begin, end in self._copies):
            self._learn(batch)
        return int(batch.num_rows)

    def _learn(self, batch: Any) -> None:
        share = _examples.loosening(batch)
        rows = batch if share is None else batch.slice(0, batch.num_rows - 1)
        again = relearn(self.teacher, self._recall, self._storage.predictions, rows, self._written.end)
        new = _examples.batch(again.taught.rows, again.joined, again.taken, again.known, self.teacher.link, "")
        if share is not None:
            new = _examples.loosened(new, batch.column("reason")[batch.num_rows - 1].as_py(), share)
        self._written.append(new)
        self._require_all(rows, again.taught.rows.reason)
        self._calibrate(new, again.taught.judged)
        self._touched.append(again.taught.touched)
        if len(self._touched) >= _MANY:
            self._touched = [union(*self._touched)]
        if share is not None:
            self.teacher.loosen(self._written.end, share)
            self.alarms.append((self._written.end, share))

    def _require_all(self, before: Any, reasons: list[str | None]) -> None:
        """Refuse to go on where a prediction that was learned is no longer kept."""
        was = before.column("action").to_pylist()
        lost = sum(reason == GONE and action in LEARNS for action, reason in zip(was, reasons))
        if lost:
            raise StateError(
                f"{lost} predictions before example {self.at} were learned and are no longer kept, so that version "
                f"{self.base} cannot learn them; fit again, or keep them longer ([ledger] retention)"
            )

    def _calibrate(self, new: Any, judged: Ints) -> None:
        """The map of the new line learns of what the new model would have served; by minibatch that is not known."""
        margin, label, weight, time = (
            new.column(name).to_numpy(False)[judged] for name in ("margin", "label", "weight", "time")
        )
        if self.model.mode == "event":
            self.calibration.observe(label, margin, weight, time)

    # -- the swap -----------------------------------------------------------------------------------------------------

    def write(self, line: Line) -> int:
        """Append what was learned to the ledger, as examples of a line that begins there, durably; its new end."""
        log = self._storage.examples
        for batch in self._written.batches:
            version = str(line.version(log.next + batch.num_rows))
            place = batch.schema.get_field_index("version")
            named = pa.array([version] * batch.num_rows, batch.schema.field(place).type)
            log.append(batch.set_column(place, batch.schema.field(place), named))
        return log.commit()

    def moved(self, start: int, first: int) -> tuple[Recall, list[tuple[int, float]]]:
        """Where predictions from `first` on were learned, and the changes of the world, with the ledger's positions.

        Parameters
        ----------
        start
            Position that the first example of `write` got.
        """
        self._recall.move(AHEAD, start, first)
        return self._recall, [(end - AHEAD + start, share) for end, share in self.alarms]

    def delta(self) -> Delta:
        """What the model has learned on top of the fit."""
        return Delta.of(self.model, union(*self._touched), self._since)


class Unwritten:
    """The examples log, and behind it (from position `AHEAD` on) those that are not in it yet."""

    def __init__(self, log: Any) -> None:
        self._log, self.batches, self.end = log, list[Any](), AHEAD

    def append(self, batch: Any) -> None:
        """Put a batch at `end`."""
        self.batches.append(batch)
        self.end += batch.num_rows

    def take(self, positions: Ints) -> Any:
        """Table of the rows at positions, in that order."""
        ahead = positions >= AHEAD
        new = pa.Table.from_batches(self.batches, _examples.SCHEMA).take(pa.array(positions[ahead] - AHEAD))
        both = pa.concat_tables([self._log.take(positions[~ahead]), new])
        order = np.concatenate([np.flatnonzero(~ahead), np.flatnonzero(ahead)])
        return both.take(pa.array(np.argsort(order)))


def _require(base: Version, fit: GLMix, cutoff: int, storage: Storage) -> None:
    log = storage.examples
    if cutoff < log.first:
        raise StateError(
            f"version {base} has learned the examples before {cutoff}, and those before {log.first} are no longer "
            "kept; fit again, or keep them longer ([ledger] retention)"
        )
    if cutoff > log.end:
        raise StateError(
            f"version {base} has learned examples up to {cutoff}, and the ledger ends at {log.end}: it was made from "
            "another ledger"
        )
    require_recorded(base, fit, storage.predictions.schema)
