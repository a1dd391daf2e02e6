"""The learner: reads outcomes, joins them, teaches the model, and commits what it learned with how far it read.

One tick is one mini-batch and one commit. Its examples are made durable first, then one transaction of the state store
holds the changed posteriors, the join and the positions up to which the logs were read. After a crash everything behind
the last commit is dropped and done again, so an outcome counts exactly once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline._errors import StateError
from nearline.gate import ChangeDetector, ChangeSettings, Guard, GuardSettings, HoldOut
from nearline.glmix import Delta, GLMix, Mark, Safety, dump_delta, parse_delta
from nearline.glmix._persist import TABLES as MODEL_TABLES
from nearline.join import Joined, Outcomes, Policy, State, step
from nearline.loop import _examples
from nearline.loop._arrivals import Arrivals
from nearline.loop._calibration import Calibration
from nearline.loop._catch_up import CatchUp
from nearline.loop._held import Span, lived_through, recalled
from nearline.loop._lines import Line
from nearline.loop._pending import Pending
from nearline.loop._recall import NEVER, Recall
from nearline.loop._settle import settle
from nearline.loop._storage import Storage
from nearline.loop._teach import Taught, Teacher
from nearline.recalibrate import RecalibrationSettings
from nearline.store import Changes, Version

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

JOIN, RECALL, LOOSE = "join", "recall", "loose"
GUARD_SECONDS = 1.0
"""The guard's evidence is written this often: what it saw since is small beside what it needs."""
ALARMS = 100
"""So many changes of the world are remembered by their position, for versions that lived through some of them only."""
QUIET_SECONDS, QUIET_ROWS = 2.0, 100_000
"""New predictions alone are committed this often, or when so many have come: they can be read again."""


@dataclass(frozen=True, slots=True)
class Tick:
    """What one tick did.

    Attributes
    ----------
    version
        The version that has learned it.
    delta
        What changed in the model; None when nothing was learned.
    joined, taught
        What the join decided and what the model took of it.
    received
        Arrival times of the outcomes that were read.
    score, label
        Recorded score and label of the examples that were learned for the first time, by row of `taught.judged`.
    changed
        Why the world counts as changed after this tick; empty where it does not.
    """

    version: Version
    delta: Delta | None
    joined: Joined
    taught: Taught
    received: Floats
    score: Floats
    label: Floats
    weight: Floats
    changed: str = ""


class Learner:
    """Learns one line of versions from the ledger; used by one thread.

    Parameters
    ----------
    storage
        Logs and state store.
    load
        Gives the model of a version.
    guard
        Settings of the guard; one begins with every line.
    change
        When the world counts as changed; None never asks.
    recalibrate, holdout
        How a map of the served scores is learned, and what is never learned; None for neither.
    """

    def __init__(
        self, storage: Storage, policy: Policy, safety: Safety, load: Callable[[Version], GLMix],
        guard: GuardSettings, *, change: ChangeSettings | None = None, batch: int = 5_000,
        recalibrate: RecalibrationSettings | None = None, holdout: HoldOut | None = None,
    ) -> None:  # fmt: skip
        self.storage, self.policy, self.safety, self.batch = storage, policy, safety, batch
        self._load, self._guard_settings, self._change_settings = load, guard, change
        self._recalibrate, self._holdout = recalibrate, holdout
        self.counts: dict[str, int] = {}
        self.used: set[tuple[int, int]] = set()
        self.alarms: list[tuple[int, float]] = []
        self.copies: list[Span] = []
        self._quiet_since = self._guarded = -np.inf
        self.arrivals = Arrivals()
        self._on: dict[str, Any] | None = None

    # -- where it stands ----------------------------------------------------------------------------------------------

    def restore(self) -> bool:
        """Go back to the last commit, dropping examples behind it; False when nothing was ever committed.

        Raises
        ------
        StateError
            The ledger and the commit are not of one another: one of them was lost, or replaced by an older copy.
        """
        with self.storage.state.snapshot() as saved:
            if "line" not in saved.meta:
                self._check_unused()
                return False
            positions, meta = dict(saved.positions), dict(saved.meta)
            self._check_lengths(positions)
            self.line = Line.from_dict(meta["line"])
            self.stale = self._load(self.line.base)
            self.model = self.stale.replica()
            stored = {name: saved.table(name) for name in MODEL_TABLES}
            if any(stored.values()):
                parse_delta(stored, self.model).apply(self.model)
            self.join = State.load(self.policy, meta["join_head"], _pages(saved.table(JOIN)))
            self.recall = Recall.load(_pages(saved.table(RECALL)))
            pending = Pending.load(len(self.model.blocks), saved.table(LOOSE))
        self.entry, self.used = meta["entry"], {tuple(pair) for pair in meta["used"]}
        self.held = tuple((start, end) for start, end in meta["held"])
        self.counts = dict(meta["counts"])
        self.guard = _guard_from(self._guard_settings, meta["guard"])
        self.changed = meta.get("changed", "")
        self.alarms = [(end, share) for end, share in meta.get("alarms", ())]
        self.copies = [(start, end) for start, end in meta.get("copies", ())]
        self._on = meta["line"]
        self.storage.examples.truncate(positions["examples"])
        self.arrivals, self._committed = Arrivals(meta["newest"], meta["heard"], meta.get("beside", 0.0)), self.join.end
        self._begin(meta.get("change"), meta.get("recalibration"))
        self._teacher.rejected, self._teacher.pending = meta["rejected"], pending
        return True

    def _check_unused(self) -> None:
        if self.storage.examples.end:
            raise StateError(
                f"{_place(self.storage.state)} holds nothing, but the ledger says that {self.storage.examples.end:,} "
                "examples were learned; restore it from a copy, or move the folder ledger away to go on from the live "
                "version without them"
            )

    def _check_lengths(self, positions: Mapping[str, int]) -> None:
        for name, end in positions.items():
            log = getattr(self.storage, name)
            if log.end < end:
                raise StateError(
                    f"{_place(log)} ends at {log.end}, but {_place(self.storage.state)} was learned from its rows up "
                    f"to {end}; restore both from one copy"
                )

    def begin(self, base: Version, entry: int, now: float, held: Iterable[Span] = ()) -> None:
        """Serve and learn on from a published version, as a new line; one transaction.

        Parameters
        ----------
        entry
            Number of the entry in the registry's history that published it.
        held
            Examples [start, end) that the base holds one by one, so that corrections can undo them.
        """
        examples, stale = self.storage.examples.end, self._load(base)
        if not hasattr(self, "join"):
            self.join = State(self.policy, self.storage.predictions.first)
            self.join.outcome_end = self.storage.outcomes.first
        self._stand(Line.after(base, self.used, examples), entry, held, stale, stale.replica())
        self.recall = recalled(self.storage.examples, self.held, self.join.first)
        self._begin(None)
        self._commit(Changes(clear=(*MODEL_TABLES, RECALL, LOOSE)), examples, now)

    def catch_up(self, base: Version, cutoff: int, held: Iterable[Span]) -> CatchUp:
        """A published fit, to learn on it what came after its cut-off; see `CatchUp`."""
        spans = tuple(held)
        return CatchUp(
            base, self._load(base), cutoff, spans, self.storage, self.safety, copies=self.copies,
            first=self.join.first, loosened=lived_through(self.alarms, spans), recalibrate=self._recalibrate,
        )  # fmt: skip

    def succeed(self, caught: CatchUp, entry: int, now: float) -> None:
        """Serve and learn on from a published fit that has caught up, as a new line; one transaction.

        Its examples are appended first. After a crash before the commit they are dropped, and the old line goes on.

        Raises
        ------
        Conflict
            The state is of another line than the one that was caught up with.
        """
        start = self.storage.examples.end
        line = Line.after(caught.base, self.used, start)
        end = caught.write(line)
        self._stand(line, entry, caught.held, caught.stale, caught.model)
        self.recall, alarms = caught.moved(start, self.join.first)
        self.alarms = [*self.alarms, *alarms][-ALARMS:]
        self.copies = [*self.copies, (start, end)] if end > start else self.copies
        delta = dump_delta(caught.delta())
        self._begin(None, caught.calibration.state())
        self._teacher.pending, self._teacher.rejected = caught.teacher.pending, caught.teacher.rejected
        self._commit(Changes(clear=(*MODEL_TABLES, RECALL, LOOSE)) | Changes(delta), end, now)

    def _stand(self, line: Line, entry: int, held: Iterable[Span], stale: GLMix, model: GLMix) -> None:
        self.line, self.entry, self.held, self.stale, self.model = line, entry, tuple(held), stale, model
        self.used = self.used | {(line.whole, line.batch)}
        self.guard, self._guarded, self.changed = Guard(self._guard_settings), -np.inf, ""

    def follow(self, entry: int, now: float) -> None:
        """The registry's newest entry only names what is live already."""
        self.entry = entry
        self._commit(Changes(), self.storage.examples.end, now)

    def _begin(self, change: Mapping[str, Any] | None, calibration: Mapping[str, Any] | None = None) -> None:
        self._mark = Mark.of(self.model)
        self._teacher = Teacher(self.model, self.stale, self.safety, self.storage.examples, self._holdout)
        inside = [alarm for alarm in self.alarms if alarm[0] > self.line.start]
        self._teacher.loosened = inside[-1] if inside else self.loosened_before
        self.change = ChangeDetector.load(self._change_settings or ChangeSettings(link=self.model.link), change)
        self.calibration = Calibration.of(self._recalibrate, calibration)

    @property
    def loosened_before(self) -> tuple[int, float]:
        """The last change of the world that the line's base has lived through."""
        return lived_through(self.alarms, self.held)

    @property
    def version(self) -> Version:
        """The version that the model is now."""
        return self.line.version(self.storage.examples.end)

    @property
    def waiting(self) -> int:
        """Durable outcomes that were not read yet."""
        return self.storage.outcomes.end - self.join.outcome_end

    def needed(self) -> tuple[int, int, int]:
        """Positions from which on predictions, outcomes and examples are still to be read."""
        return self.join.first, self.join.outcome_end, min(self.recall.first, self.storage.examples.end)

    # -- one tick -----------------------------------------------------------------------------------------------------

    def tick(self, now: float, *, limit: int | None = None, quarantine: str = "") -> Tick | None:
        """Learn the next outcomes and the windows that have closed; None when there was nothing.

        Parameters
        ----------
        limit
            Outcomes to take at most; `batch` by default.
        quarantine
            A reason to learn nothing of them, and to say so in the ledger.

        Raises
        ------
        StateError
            The ledger or the state cannot be written. `restore` then goes back to the last commit.
        """
        outcomes = self.storage.outcomes.read(self.join.outcome_end, limit or self.batch)
        first = self.join.end
        predictions = self.storage.predictions.read(first).select(["time", "received"])
        watermark = self.arrivals.watermark(
            self.policy, predictions, outcomes, now, self.waiting > len(outcomes)
        )  # fmt: skip
        rows = Outcomes.of_table(self.join.outcome_end, outcomes)
        times = self.arrivals.times(predictions)
        joined = step(self.join, first, times, rows, watermark)
        if not len(joined):
            self._commit_quietly(len(times), now)
            return None
        return self._learn(joined, outcomes.column("received").to_numpy(), now, quarantine)

    def _learn(self, joined: Joined, received: Floats, now: float, quarantine: str) -> Tick:
        log = self.storage.predictions
        inside = (joined.prediction >= log.first) & (joined.prediction < log.end)
        known = np.flatnonzero(inside)
        taken = log.take(joined.prediction[known])
        settled = settle(joined)
        if quarantine:
            taught = self._teacher.refuse(joined, settled, quarantine)
        else:
            taught = self._teacher.teach(joined, settled, taken, known, self.recall.get(joined.prediction))
        examples, start = self.storage.examples, self.storage.examples.end
        version = self.line.version(start + len(joined))
        link = self._teacher.link
        batch = _examples.batch(taught.rows, joined, taken, known, link, str(version))
        judged = _examples.judged(batch, taught.judged)
        reason = self._changed(judged)
        if reason:
            version = self.line.version(start + len(joined) + 1)
            batch = _examples.batch(taught.rows, joined, taken, known, link, str(version))
            batch = _examples.loosened(batch, reason, self.change.settings.share)
        self._observe(judged, taught, taken, known, now)
        self._remember(joined, taught, start)
        examples.append(batch)
        end = examples.commit()
        if reason:
            self._loosen(end, reason)
        delta = Delta.of(self.model, taught.touched, self._mark) if taught.touched else None
        if delta is not None:
            self._mark = Mark.of(self.model)
        self._commit(Changes({} if delta is None else dump_delta(delta)), end, now)
        score, label, weight = (judged[name] for name in ("score", "label", "weight"))
        return Tick(version, delta, joined, taught, received, score, label, weight, reason)

    def _changed(self, judged: dict[str, Floats]) -> str:
        """Why the world counts as changed by what was learned in this tick; empty where it does not."""
        if self._change_settings is None:
            return ""
        # By minibatch the variance is not known, and the margin is that of after: the score as served stands for it.
        served = np.isnan(judged["variance"])
        margin = np.where(served, judged["score"], judged["margin"])
        return self.change.observe(judged["label"], margin, judged["variance"], judged["weight"])

    def _loosen(self, end: int, reason: str) -> None:
        share = self.change.settings.share
        self._teacher.loosen(end, share)
        self.alarms, self.changed = [*self.alarms[-ALARMS:], (end, share)], reason
        self.counts[_examples.LOOSENED] = self.counts.get(_examples.LOOSENED, 0) + 1

    def _observe(self, judged: Mapping[str, Floats], taught: Taught, taken: pa.Table, known: Ints, now: float) -> None:
        """Show the guard what this line predicted; what another line did must not be held against it."""
        served = taken.column("version").take(np.searchsorted(known, taught.judged))
        own = np.array([self.line.served(name) for name in served.to_pylist()], bool)
        label, score, weight = (judged[name][own] for name in ("label", "score", "weight"))
        self.calibration.observe(label, score, weight, judged["time"][own])
        self.guard.observe(label, score, taught.shadow.stale[own], taught.shadow.fixed[own], weight, now)

    def _remember(self, joined: Joined, taught: Taught, start: int) -> None:
        self.recall.set(joined.prediction[taught.learned], start + taught.learned)
        self.recall.set(joined.prediction[taught.forgotten], np.full(len(taught.forgotten), NEVER))
        for action in taught.rows.action:
            self.counts[action] = self.counts.get(action, 0) + 1

    # -- commits ------------------------------------------------------------------------------------------------------

    def _commit_quietly(self, predictions: int, now: float) -> None:
        pending = self.join.end - self._committed
        if pending >= QUIET_ROWS or (pending and now - self._quiet_since > QUIET_SECONDS):
            self._commit(Changes(), self.storage.examples.end, now)

    def _commit(self, changes: Changes, examples: int, now: float) -> None:
        join = self.join.changes()
        self.recall.drop(join.dropped)
        pages, dropped = self.recall.changes()
        meta: dict[str, Any] = {
            "line": self.line.to_dict(), "entry": self.entry, "held": self.held, "used": sorted(self.used),
            "rejected": self._teacher.rejected, "join_head": join.head, "counts": self.counts,
            "newest": self.arrivals.newest, "heard": self.arrivals.heard, "change": self.change.state(),
            "beside": self.arrivals.beside, "changed": self.changed, "alarms": self.alarms, "copies": self.copies,
            "recalibration": self.calibration.state(),
        }  # fmt: skip
        if now - self._guarded >= GUARD_SECONDS:
            meta["guard"], self._guarded = self.guard.state(), now
        tables = {
            JOIN: _keyed(join.pages, join.dropped), RECALL: _keyed(pages, dropped),
            LOOSE: self._teacher.pending.changes(),
        }  # fmt: skip
        positions = {"examples": examples, "predictions": self.join.end, "outcomes": self.join.outcome_end}
        self.storage.state.commit(changes | Changes(tables, meta=meta, expected={"line": self._on}), positions)
        self._on = meta["line"]
        self.join.committed()
        self.recall.committed()
        self._teacher.pending.committed()
        self._quiet_since, self._committed = now, self.join.end


def _guard_from(settings: GuardSettings, state: Mapping[str, Any]) -> Guard:
    """The guard as it was; an empty one when its settings were changed, as evidence does not carry over."""
    try:
        return Guard.load(settings, state)
    except StateError:
        return Guard(settings)


def _place(part: Any) -> str:
    return str(getattr(part, "folder", type(part).__name__))


def _keyed(pages: Mapping[int, bytes], dropped: list[int]) -> dict[bytes, bytes | None]:
    found: dict[bytes, bytes | None] = {page.to_bytes(8): data for page, data in pages.items()}
    return found | {page.to_bytes(8): None for page in dropped}


def _pages(table: Mapping[bytes, bytes]) -> list[tuple[int, bytes]]:
    return [(int.from_bytes(key), data) for key, data in table.items()]
