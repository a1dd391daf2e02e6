"""Teach a model what a tick settled: learn new examples, correct or take back earlier ones, refuse what is unsafe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline.features import Design
from nearline.gate import HoldOut
from nearline.glmix import GLMix, LearnedEvents, Safety, Scorer, Verdicts, loosen, touched_by, union, weight_left
from nearline.glmix._layout import entity_codes, key_of
from nearline.glmix._links import by_name
from nearline.glmix._safety import Surprise, _suits
from nearline.join import Joined
from nearline.loop._events import events
from nearline.loop._examples import FAILED, HELD_OUT, QUARANTINED, SUPERSEDED, Rows
from nearline.loop._pending import Pending
from nearline.loop._settle import Settled
from nearline.loop._shadow import Shadow, shadow

Ints = NDArray[np.int64]

PATIENCE = 3
"""So many ticks in a row are rejected for their surprise; then all are learned, until one surprises no more."""
VOID = "the prediction was never written: its request failed"
GONE = "the prediction is no longer kept"
ODD = "the label does not suit the link"
UNFORESEEN = "the tick could not be learned: "
"""Begins the reason of rows that were never tried."""


@dataclass(frozen=True, slots=True)
class Taught:
    """What a tick taught.

    Attributes
    ----------
    rows
        The tick's examples, with what was refused and why.
    touched
        Entity codes by effect whose posteriors may have changed.
    codes
        Entity code of every new example, by random effect.
    learned, forgotten
        Joined rows after which the model holds their label, and predictions of which it holds nothing any more.
    judged
        Joined rows that were learned for the first time, with what the shadow models said of them.
    rejected
        Why the tick was rejected as a whole; empty where it was not.
    """

    rows: Rows
    touched: Mapping[str, Ints]
    codes: Mapping[str, NDArray[np.int32]]
    learned: Ints
    forgotten: Ints
    judged: Ints
    shadow: Shadow
    rejected: str


_Learned = tuple[Ints, Shadow, str, dict[str, Ints], dict[str, NDArray[np.int32]]]


def surprising(safety: Safety, found: Surprise) -> bool:
    """Whether a tick would have been rejected for its surprise."""
    evident = found.log_evidence > -math.log(safety.alpha)
    return evident and (found.excess > safety.excess or abs(found.shift) > safety.shift)


class Examples(Protocol):
    """What was taught before, by position; a `Log` is one."""

    def take(self, positions: Ints) -> Any:
        """Table of the rows at positions, in that order."""


class Teacher:
    """Teaches one model; `examples` and `recall` say what it was taught before.

    Parameters
    ----------
    stale
        The line's base, never touched: it is scored beside the learner.
    holdout
        Which predictions are never learned; None learns all.
    """

    def __init__(
        self, model: GLMix, stale: GLMix, safety: Safety, examples: Examples, holdout: HoldOut | None = None
    ) -> None:
        self.model, self.stale, self.safety, self.examples = model, stale, safety, examples
        self._holdout = holdout
        self._stale = Scorer(stale, "stale")
        self.link, self._scorer, self.rejected = by_name(model.link), Scorer(model, "learner"), 0
        self.pending, self.loosened = Pending(len(model.blocks)), (0, 0.0)

    def loosen(self, end: int, share: float) -> None:
        """The world has changed: every entity there is lets go of a share of its certainty when it is next touched.

        Parameters
        ----------
        end
            End of the examples log: what was learned before it is corrected with the weight that is left of it.
        """
        self.pending.mark(self.model.blocks)
        self.loosened = end, share

    def teach(self, joined: Joined, settled: Settled, taken: pa.Table, known: Ints, recalled: Ints) -> Taught:
        """Learn and undo what a tick settled, in that order.

        Parameters
        ----------
        taken, known
            Rows of the predictions log, and which joined rows they are (ascending).
        recalled
            Position of the example that the model holds of each joined row's prediction (n), −1 for none.
        """
        rows = Rows.of(joined)
        rows.mark(settled.superseded, SUPERSEDED, "another outcome of the same tick counts")
        learn, undo = self._sorted_out(settled, joined, taken, known, recalled, rows)
        at = np.full(len(joined), -1, np.int64)
        at[known] = np.arange(len(known))
        learn = self._without_held_out(rows, learn, taken.take(at[learn]))
        learned, seen, rejected, touched, codes = self._learn(rows, taken.take(at[learn]), learn)
        changed, gone, more = self._undo(rows, joined, taken.take(at[undo]), undo, recalled[undo])
        return Taught(
            rows, union(touched, more), codes, np.concatenate([learned, changed]), gone, learned, seen, rejected
        )  # fmt: skip

    def refuse(self, joined: Joined, settled: Settled, why: str) -> Taught:
        """Learn nothing of a tick: what it would have taught is quarantined with the reason."""
        rows, none = Rows.of(joined), np.zeros(0, np.int64)
        rows.mark(settled.superseded, SUPERSEDED, "another outcome of the same tick counts")
        rows.mark(np.concatenate([settled.learn, settled.undo]), QUARANTINED, UNFORESEEN + why)
        return Taught(rows, {}, {}, none, none, none, Shadow(np.zeros(0), np.zeros(0)), why)

    def _sorted_out(
        self, settled: Settled, joined: Joined, taken: pa.Table, known: Ints, recalled: Ints, rows: Rows
    ) -> tuple[Ints, Ints]:
        """Rows to learn and rows to undo: what the model holds of a prediction decides, whatever was meant to be.

        An earlier row of it may have been quarantined, or could not be taken back.
        """
        void, gone = np.zeros(len(joined), bool), np.ones(len(joined), bool)
        void[known] = pa.compute.is_null(taken.column("time"), nan_is_null=True).to_numpy()
        gone[known] = False
        wanted = np.sort(np.concatenate([settled.learn, settled.undo]))
        rows.mark(wanted[void[wanted]], "refused", VOID)
        rows.mark(wanted[gone[wanted]], "refused", GONE)
        wanted = wanted[~void[wanted] & ~gone[wanted]]
        held, label = recalled[wanted] >= 0, joined.label[wanted]
        labelled = ~np.isnan(label)
        odd = held & labelled & ~_suits(self.link, label)
        rows.mark(wanted[odd], FAILED, ODD)
        return wanted[~held & labelled], wanted[held & ~odd]

    def _without_held_out(self, rows: Rows, learn: Ints, taken: pa.Table) -> Ints:
        """Rows that may be learned; the others say so."""
        if self._holdout is None or not len(learn):
            return learn
        out = self._holdout.of(taken)
        rows.mark(learn[out], HELD_OUT, "held out for the gate")
        return learn[~out]

    def _learn(self, rows: Rows, taken: pa.Table, learn: Ints) -> _Learned:
        none = np.zeros(0)
        if not len(learn):
            return learn, Shadow(none, none), "", {}, {}
        table = pa.table(events(taken, self.model, rows.label[learn]))
        design, rejects = self.model.design(table, learn=True, divert=True)
        if len(rejects):
            for row, reason in zip(learn[rejects.rows].tolist(), rejects.reasons):
                rows.action[row], rows.reason[row] = QUARANTINED, reason
            good = np.setdiff1d(np.arange(len(learn)), rejects.rows)
            learn, table = learn[good], table.take(good)
        if not len(learn):
            return learn, Shadow(none, none), "", {}, {}
        seen = shadow(self._stale, self._scorer, table, design)
        touched = self._touch(design)
        attempt = self._attempt(design)
        found = attempt.events.columns()
        rows.margin[learn], rows.variance[learn] = found["margin"], found["variance"]
        rows.discount[learn] = found["discount"]
        kept = attempt.learned
        for place in np.flatnonzero(~kept).tolist():
            rows.action[learn[place]] = QUARANTINED
            rows.reason[learn[place]] = attempt.rejected or attempt.reason(place)
        codes = {
            block.name: entity_codes(block, design)[kept] for block in self.model.blocks if key_of(block) is not None
        }
        return learn[kept], Shadow(seen.stale[kept], seen.fixed[kept]), attempt.rejected, touched, codes

    def _touch(self, design: Design) -> dict[str, Ints]:
        """Entities of a design, loosened where they have still to be."""
        touched = dict(touched_by(design, self.model.blocks))
        for effect, block in enumerate(self.model.blocks):
            loosen(block, self.pending.take(effect, touched[block.name]), self.loosened[1])
        return touched

    def _attempt(self, design: Design) -> Verdicts:
        """Learn or reject; surprise that lasts is a changed world, and the guard's to judge."""
        patient = self.rejected < PATIENCE
        safety = self.safety if patient else replace(self.safety, excess=math.inf, shift=math.inf)
        attempt = self.model.try_learn(design, safety)
        if attempt.rejected:
            self.rejected += 1
        elif patient or not surprising(self.safety, attempt.surprise):
            self.rejected = 0
        return attempt

    def _undo(
        self, rows: Rows, joined: Joined, taken: pa.Table, undo: Ints, held: Ints
    ) -> tuple[Ints, Ints, dict[str, Ints]]:
        none = np.zeros(0, np.int64)
        if not len(undo):
            return none, none, {}
        past = self.examples.take(held)
        before = past.column("label").to_numpy()
        rows.previous[undo] = before
        table = pa.table(events(taken, self.model, before))
        design, _ = self.model.design(table, learn=True)
        touched = self._touch(design)
        columns = {name: past.column(name).to_numpy() for name in ("margin", "variance", "discount")}
        columns["discount"] = columns["discount"] * self._weight_left(design, columns["variance"], held)
        learned = LearnedEvents.of(design, columns)
        retracts = np.isnan(joined.label[undo])
        changed, gone = [none], [none]
        for which, applied in ((~retracts, changed), (retracts, gone)):
            places = np.flatnonzero(which)
            if len(places):
                part, events_then = design.select(places), learned.take(places)
                label = joined.label[undo[places]]
                done = (
                    self.model.correct(part, label, events_then)
                    if applied is changed
                    else self.model.retract(part, events_then)
                )
                self._note(rows, undo[places], done)
                applied.append(undo[places][done.status == 0])
        return np.concatenate(changed), np.concatenate(gone), touched

    def _weight_left(self, design: Design, variance: NDArray[np.float64], held: Ints) -> NDArray[np.float64]:
        """What is left of what examples (positions `held`) taught: all, unless the world has changed since."""
        end, share = self.loosened
        left = np.ones(len(held))
        before = np.flatnonzero(held < end)
        if len(before):
            part = design.select(before)
            left[before] = weight_left(self.model.blocks, self.model.encoder.n_slots, part, variance[before], share)
        return left

    @staticmethod
    def _note(rows: Rows, which: Ints, done: Any) -> None:
        found = done.events.columns()
        rows.margin[which], rows.variance[which] = found["margin"], found["variance"]
        rows.discount[which] = found["discount"]
        for place in np.flatnonzero(done.status != 0).tolist():
            rows.action[which[place]], rows.reason[which[place]] = FAILED, done.reason(place)
