"""The learner: reads outcomes, joins them, teaches the model, and commits what it learned with how far it read.

One tick is one mini-batch and one commit. Its examples are made durable first, then one transaction of the state store
holds the changed posteriors, the join and the positions up to which the logs were read. After a crash everything behind
the last commit is dropped and done again, so an outcome counts exactly once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline._errors import StateError
from nearline.gate import Guard, GuardSettings
from nearline.glmix import Delta, GLMix, Mark, Safety, dump_delta, parse_delta
from nearline.join import Joined, Outcomes, Policy, State, step
from nearline.loop import _examples
from nearline.loop._lines import Line
from nearline.loop._recall import NEVER, Recall
from nearline.loop._settle import settle
from nearline.loop._storage import Storage
from nearline.loop._teach import Taught, Teacher
from nearline.store import Changes, Version

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

JOIN, RECALL = "join", "recall"
MODEL_TABLES = ("rows", "vocabulary", "model")
GUARD_SECONDS = 1.0
"""The guard's evidence is written this often: what it saw since is small beside what it needs."""
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
    """

    version: Version
    delta: Delta | None
    joined: Joined
    taught: Taught
    received: Floats
    score: Floats
    label: Floats
    weight: Floats


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
    """

    def __init__(
        self, storage: Storage, policy: Policy, safety: Safety, load: Callable[[Version], GLMix],
        guard: GuardSettings, *, batch: int = 5_000,
    ) -> None:  # fmt: skip
        self.storage, self.policy, self.safety, self.batch = storage, policy, safety, batch
        self._load, self._guard_settings = load, guard
        self.counts: dict[str, int] = {}
        self._quiet_since = self._guarded = -np.inf
        self._newest, self._heard = -np.inf, -np.inf

    # -- where it stands ----------------------------------------------------------------------------------------------

    def restore(self) -> bool:
        """Go back to the last commit, dropping examples behind it; False when nothing was ever committed."""
        with self.storage.state.snapshot() as saved:
            if "line" not in saved.meta:
                return False
            positions, meta = dict(saved.positions), dict(saved.meta)
            self.line = Line.from_dict(meta["line"])
            self.stale = self._load(self.line.base)
            self.model = self.stale.replica()
            stored = {name: saved.table(name) for name in MODEL_TABLES}
            if any(stored.values()):
                parse_delta(stored, self.model).apply(self.model)
            self.join = State.load(self.policy, meta["join_head"], _pages(saved.table(JOIN)))
            self.recall = Recall.load(_pages(saved.table(RECALL)))
        self.entry, self.kept, self.used = meta["entry"], meta["kept"], {tuple(pair) for pair in meta["used"]}
        self.counts = dict(meta["counts"])
        self.guard = _guard_from(self._guard_settings, meta["guard"])
        self.storage.examples.truncate(min(positions["examples"], self.storage.examples.end))
        self._newest, self._heard, self._committed = meta["newest"], meta["heard"], self.join.end
        self._begin()
        self._teacher.rejected = meta["rejected"]
        return True

    def begin(self, base: Version, entry: int, now: float, kept: int = 0) -> None:
        """Serve and learn on from a published version, as a new line; one transaction.

        Parameters
        ----------
        entry
            Number of the entry in the registry's history that published it.
        kept
            End of the examples that the base holds one by one, so that corrections can undo them.
        """
        examples = self.storage.examples.end
        self.used = getattr(self, "used", set())
        self.line, self.entry, self.kept = Line.after(base, self.used, examples), entry, kept
        self.used = self.used | {(self.line.whole, self.line.batch)}
        self.stale = self._load(base)
        self.model = self.stale.replica()
        if not hasattr(self, "join"):
            self.join = State(self.policy, self.storage.predictions.first)
            self.join.outcome_end = self.storage.outcomes.first
            self.recall = Recall()
        self.recall.forget_from(kept)
        self.guard = Guard(self._guard_settings)
        self._guarded = -np.inf
        self._begin()
        self._commit(Changes(clear=MODEL_TABLES), examples, now)

    def follow(self, entry: int, now: float) -> None:
        """The registry's newest entry only names what is live already."""
        self.entry = entry
        self._commit(Changes(), self.storage.examples.end, now)

    def _begin(self) -> None:
        self._mark = Mark.of(self.model)
        self._teacher = Teacher(self.model, self.stale, self.safety, self.storage.examples)

    @property
    def version(self) -> Version:
        """The version that the model is now."""
        return self.line.version(self.storage.examples.end)

    @property
    def waiting(self) -> int:
        """Durable outcomes that were not read yet."""
        return self.storage.outcomes.end - self.join.outcome_end

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
        first, times = self._new_predictions()
        joined = step(
            self.join,
            first,
            times,
            Outcomes.of_table(self.join.outcome_end, outcomes),
            self._watermark(outcomes, times, now),
        )
        if not len(joined):
            self._commit_quietly(len(times), now)
            return None
        return self._learn(joined, outcomes.column("received").to_numpy(), now, quarantine)

    def _new_predictions(self) -> tuple[int, Floats]:
        first = self.join.end
        column = self.storage.predictions.read(first).column("time")
        times = column.to_numpy()
        if column.null_count:
            # Rows that were never written have no time; they lie beside the others and are refused when they come up.
            whole = times[~np.isnan(times)]
            times = np.where(np.isnan(times), whole.min(initial=self._newest) if len(whole) else 0.0, times)
        return first, times

    def _watermark(self, outcomes: pa.Table, times: Floats, now: float) -> float:
        """The newest event seen, moved on by the clock while nothing comes, less the allowed lateness."""
        heard = outcomes.column("time").drop_null().to_numpy()
        newest = max(times.max(initial=-np.inf), heard[np.isfinite(heard)].max(initial=-np.inf))
        if newest > self._newest:
            self._newest, self._heard = float(newest), now
        idle = max(0.0, now - self._heard) if np.isfinite(self._heard) else 0.0
        return self.policy.watermark(self._newest + idle)

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
        judged = _judged(batch, taught.judged)
        self.guard.observe(
            judged["label"], judged["score"], taught.shadow.stale, taught.shadow.fixed, judged["weight"], now
        )
        self._remember(joined, taught, start)
        examples.append(batch)
        end = examples.commit()
        delta = Delta.of(self.model, taught.touched, self._mark) if taught.touched else None
        if delta is not None:
            self._mark = Mark.of(self.model)
        self._commit(Changes({} if delta is None else dump_delta(delta)), end, now)
        return Tick(version, delta, joined, taught, received, judged["score"], judged["label"], judged["weight"])

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
            "line": self.line.to_dict(), "entry": self.entry, "kept": self.kept, "used": sorted(self.used),
            "rejected": self._teacher.rejected, "join_head": join.head, "counts": self.counts,
            "newest": self._newest, "heard": self._heard,
        }  # fmt: skip
        if now - self._guarded >= GUARD_SECONDS:
            meta["guard"], self._guarded = self.guard.state(), now
        tables = {JOIN: _keyed(join.pages, join.dropped), RECALL: _keyed(pages, dropped)}
        positions = {"examples": examples, "predictions": self.join.end, "outcomes": self.join.outcome_end}
        self.storage.state.commit(changes | Changes(tables, meta=meta), positions)
        self.join.committed()
        self.recall.committed()
        self._quiet_since, self._committed = now, self.join.end


def _guard_from(settings: GuardSettings, state: Mapping[str, Any]) -> Guard:
    """The guard as it was; an empty one when its settings were changed, as evidence does not carry over."""
    try:
        return Guard.load(settings, state)
    except StateError:
        return Guard(settings)


def _keyed(pages: Mapping[int, bytes], dropped: list[int]) -> dict[bytes, bytes | None]:
    found: dict[bytes, bytes | None] = {page.to_bytes(8): data for page, data in pages.items()}
    return found | {page.to_bytes(8): None for page in dropped}


def _pages(table: Mapping[bytes, bytes]) -> list[tuple[int, bytes]]:
    return [(int.from_bytes(key), data) for key, data in table.items()]


def _judged(batch: Any, rows: Ints) -> dict[str, Floats]:
    return {name: batch.column(name).to_numpy(False)[rows] for name in ("label", "score", "weight")}
