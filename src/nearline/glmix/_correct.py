"""Undo what an event taught, or teach it with another label, in every block at once.

The update of an event moved block b by a S_b x_b and added the precision ω_b = c / (1 − c s_b) along x_b. Both follow
from `LearnedEvents` and the block's posterior, so that retraction right after the event is the exact inverse of the
update in every block. Later, block b's posterior has moved on: with m_b its part of the score then and now,

    pull_b = a − ω_b (m_b,now − m_b,then),    H_b ← H_b − ω_b x_b x_bᵀ,    μ_b ← μ_b − pull_b H_b⁻¹ x_b

which is exact for the identity link and one block, however much was learned in between: θ' = θ + w g H'⁻¹ z. A new
label replaces (a, ω) by what it would have taught; for the identity link that is θ' = θ + w Δy V z, V unchanged.

What was forgotten since is not taken back (`_undo.weights`). Random-walk variance gained since stays, the variance
never exceeding the prior's. In a model of several blocks the covariance between blocks was dropped when the event was
learned, so a late correction is approximate there (`LearnedEvents.shares` brings it closer). Loadings: the design of
then is found from the means of now by fixed-point iteration, exact right after the event. A low-rank posterior loses
what compression has not moved to its diagonal. *Derived; checked against refits.*
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nearline._errors import DataError
from nearline.features import Design
from nearline.glmix import _layout, _links, _undo
from nearline.glmix import _lowrank as lowrank
from nearline.glmix._codes import DIAGONAL, LOWRANK, NEVER, PER_UPDATE, REVERTING
from nearline.glmix._fold import time_factor
from nearline.glmix._learned import LearnedEvents, Lessons, lessons
from nearline.glmix._state import Block

if TYPE_CHECKING:
    from nearline.glmix._model import GLMix

Floats = NDArray[np.float64]

REASONS = ("", "no weight", "not finite", "would not stay positive definite", "forgets per update: age unknown")
APPLIED, WEIGHTLESS, NOT_FINITE, NOT_POSITIVE, AGELESS = range(len(REASONS))
MAX_ROUNDS = 60


@dataclass(frozen=True, slots=True)
class Corrections:
    """What became of n corrections.

    Attributes
    ----------
    status
        Index into `REASONS` per event (n): 0 applied; any other changed nothing.
    events
        The events as the model now holds them: store them in place of the old ones, for the next correction.
    """

    status: NDArray[np.int8]
    events: LearnedEvents

    @property
    def applied(self) -> int:
        """Corrections that were applied."""
        return int(np.count_nonzero(self.status == APPLIED))

    def reason(self, row: int) -> str:
        """Why an event was not corrected; empty where it was."""
        return REASONS[int(self.status[row])]


def replace_events(
    blocks: Sequence[Block], n_slots: int, design: Design, link: str, events: LearnedEvents, label: Floats | None
) -> Corrections:
    """Replace events that were learned by the same with another label (n), or by nothing, one after the other.

    Raises
    ------
    DataError
        When the events are not as many as the design has rows, or a new label does not suit the link.
    """
    _check(design, link, events, label)
    loss = _links.by_name(link)
    old = lessons(loss, events)
    new = _nothing(old) if label is None else lessons(loss, events, label)
    undo = _Undo(blocks, n_slots, design, events, old, new, retracts=label is None)
    status = np.array([undo.row(i) for i in range(design.rows)], dtype=np.int8)
    after = events if label is None else events.relabelled(label, status == APPLIED)
    return Corrections(status, after if undo.shares is None else replace(after, shares=undo.shares))


def verb(model: GLMix, table: Any, events: LearnedEvents, label: Any = None) -> Corrections:
    """`GLMix.correct`, and `GLMix.retract` where there is no label."""
    design, _ = model.design(table, learn=False)
    given = None if label is None else np.asarray(label, dtype=np.float64)
    return replace_events(model.blocks, model.encoder.n_slots, design, model.link, events, given)


def _check(design: Design, link: str, events: LearnedEvents, label: Floats | None) -> None:
    if len(events) != design.rows:
        raise DataError(
            f"{len(events)} learned events for {design.rows} rows", fix="give one per row, in the same order"
        )
    if label is not None:
        if label.shape != (design.rows,):
            raise DataError(f"{label.size} labels for {design.rows} rows", fix="give one per row, in the same order")
        _links.by_name(link).labels(label)


def _nothing(old: Lessons) -> Lessons:
    zero = np.zeros_like(old.a)
    return Lessons(old.eta, zero, zero, zero, old.s)


@dataclass(slots=True)
class _View:
    """One block as one row meets it: its entity's posterior, and what the event was and is to it."""

    r: int
    entity: int
    mean: Floats
    cov: Any  # packed, variances, or a LowRank
    x: Floats
    discount: float
    s: float = 0.0
    drift: float = 0.0


class _Undo:
    """The corrections of one design, row by row: each sees the posteriors that the one before it left."""

    def __init__(
        self, blocks: Sequence[Block], n_slots: int, design: Design, events: LearnedEvents, old: Lessons, new: Lessons,
        *, retracts: bool,
    ) -> None:  # fmt: skip
        self.blocks, self.design, self.events, self.old, self.new = blocks, design, events, old, new
        self.retracts, self.of = retracts, _layout.targets(blocks)
        self.local = [_layout.local_dimensions(block, n_slots) for block in blocks]
        self.codes = [_layout.entity_codes(block, design) for block in blocks]
        self.priors = [block.prior_arrays() for block in blocks]
        self.variances = [block.belief.variance0(block.columns) for block in blocks]
        self.walks = [any(walk.any() for walk in block.belief.walks(block.columns)) for block in blocks]
        self.shares = None if events.shares is None else events.shares.copy()
        given = (events.label, events.weight, events.time, events.discount, events.margin, design.offset)
        taught = (old.a, old.h, new.a, new.h)
        self.finite = np.logical_and.reduce([np.isfinite(column) for column in (*given, *taught)])

    def row(self, i: int) -> int:
        """Correct row i; its status."""
        if not (self.finite[i] and np.isfinite(self._entries(i)[1]).all()):
            return NOT_FINITE
        if not self.events.weight[i] * self.events.discount[i] > 0.0:
            return WEIGHTLESS
        views = [self._view(r, i) for r in range(len(self.blocks))]
        if any(np.isnan(view.discount) for view in views):
            return AGELESS
        try:
            self._designs_of_then(views, i)
            self._describe(views, i)
            after = [self._changed(view, i, self._change(view, i)) for view in views]
        except _undo.ImpossibleError:
            return NOT_POSITIVE
        if not all(np.isfinite(mean).all() and np.isfinite(cov).all() for mean, cov in after):
            return NOT_FINITE
        for view, (mean, cov) in zip(views, after):
            self._store(view, mean, cov)
            if self.shares is not None:
                self.shares[i, view.r] += (self.new.a[i] - self.old.a[i]) * view.s
        return APPLIED

    def _entries(self, i: int) -> tuple[NDArray[np.int32], Floats]:
        start, stop = self.design.indptr[i], self.design.indptr[i + 1]
        return self.design.indices[start:stop], self.design.values[start:stop]

    def _view(self, r: int, i: int) -> _View:
        block, entity = self.blocks[r], int(self.codes[r][i])
        slots, values = self._entries(i)
        x, local = np.zeros(block.d), self.local[r][slots]
        x[local[local >= 0]] = values[local >= 0]
        if entity < 0:
            mean, cov = self.priors[r]
        else:
            mean, cov = block.mean[entity].astype(np.float64), block.cov[entity].astype(np.float64)
        return _View(r, entity, mean, self._unpacked(block, cov), x, self._discount(block, entity, i))

    @staticmethod
    def _unpacked(block: Block, cov: Floats) -> Any:
        return lowrank.unpack(cov, block.d, block.kmax) if block.kind == LOWRANK else cov

    def _discount(self, block: Block, entity: int, i: int) -> float:
        """What is left, by the time of the entity's newest event, of what this event taught; NaN when nobody knows."""
        form, since = block.belief.form, block.last[entity] - self.events.time[i] if entity >= 0 else 0.0
        if form == PER_UPDATE:
            return float("nan")
        if form == NEVER or not since > 0.0:
            return 1.0
        # A late event entered discounted already.
        return min(1.0, float(time_factor(since, block.belief.rate)) / float(self.events.discount[i]))

    def _designs_of_then(self, views: list[_View], i: int) -> None:
        """Loadings: the designs were made of the means before the event; find those by undoing it, over and over."""
        pairs = [(views[r], views[of]) for r, of in enumerate(self.of) if of >= 0]
        if not pairs:
            return
        features = {of.r: of.x for _, of in pairs}
        means = {view.r: view.mean for view in views}
        gone = replace(self.new, a=0 * self.old.a, h=0 * self.old.a, c=0 * self.old.a)
        for _ in range(MAX_ROUNDS):
            for r, x in features.items():
                views[r].x = x + sum(means[load.r] for load, of in pairs if of.r == r)
            for load, of in pairs:
                load.x = means[of.r].copy()
            self._describe(views, i)
            before = {v.r: self._changed(v, i, self._change(v, i, gone))[0] for pair in pairs for v in pair}
            moved = max(float(np.abs(before[r] - means[r]).max(initial=0.0)) for r in before)
            means |= before
            if moved <= 1e-15:
                return

    def _describe(self, views: list[_View], i: int) -> None:
        """How much of the event's variance was each block's, and how far each block's part of the score has moved."""
        c, h = float(self.old.c[i]), float(self.old.h[i])
        q, known = np.zeros(len(views)), np.full(len(views), np.nan)
        for view in views:
            kind = self.blocks[view.r].kind
            if kind == DIAGONAL and view.entity >= 0:
                known[view.r] = float(
                    view.x @ (view.cov / np.maximum(1.0 - h * view.x**2 * view.cov, _undo.LEAST) * view.x)
                )
            elif view.entity < 0:
                known[view.r] = self._variance(view)
            else:
                q[view.r] = self._variance(view)
        parts = _undo.variance_shares(c, float(self.old.s[i]), q, known)
        moved = [view for view in views if view.entity >= 0 and view.x.any()]
        for view, s in zip(views, parts):
            view.s = float(s)
            view.drift = self._drift(views, view, i, alone=len(moved) == 1)

    def _variance(self, view: _View) -> float:
        block, x = self.blocks[view.r], view.x
        if block.kind == LOWRANK:
            return float(x @ view.cov.solve(x))
        if block.kind == DIAGONAL:
            return float(x @ (view.cov * x))
        return float(x @ (view.cov[_undo.places(block.d)[2]] @ x))

    def _prior_variance(self, view: _View) -> float:
        if self.blocks[view.r].kind != LOWRANK:
            return self._variance(replace(view, cov=self.priors[view.r][1]))
        return float(view.x @ (self.variances[view.r] * view.x))

    def _most_variance(self, view: _View) -> float:
        """Bound on the variance along x: the prior's; random walks keep only the diagonal below it."""
        if self.walks[view.r]:
            return float((np.abs(view.x) @ np.sqrt(self.variances[view.r])) ** 2)
        return self._prior_variance(view)

    def _drift(self, views: list[_View], view: _View, i: int, *, alone: bool) -> float:
        if self.shares is not None:
            return self._part(view) - float(self.shares[i, view.r])
        if alone and all(of < 0 for of in self.of):
            return float(self.design.offset[i]) + sum(self._part(v) for v in views) - float(self.old.eta[i])
        return 0.0

    def _part(self, view: _View) -> float:
        """The block's part of the score at the means of then, as far as the means of now tell."""
        if self.blocks[view.r].belief.form == REVERTING and view.discount < 1.0:
            mu0 = self.priors[view.r][0]
            return float(view.x @ (mu0 + view.discount * (view.mean - mu0)))
        return float(view.x @ view.mean)

    def _change(self, view: _View, i: int, new: Lessons | None = None) -> _undo.Change:
        old, new = self.old, new or self.new
        block, drift, spread = self.blocks[view.r], view.drift, 0.0
        reverting = block.belief.form == REVERTING and view.discount < 1.0
        if reverting:
            spread = self._prior_variance(view)
        if block.kind == DIAGONAL:
            omega1, omega2, gained = float(old.h[i]), float(new.h[i]), 0.0
        else:
            omega1, omega2 = (float(v.c[i]) / (1.0 - float(v.c[i]) * view.s) for v in (old, new))
            gained = float(new.a[i] - old.a[i]) * view.s
        now1, share1 = _undo.weights(view.discount, omega1, spread, reverting)
        now2, share2 = _undo.weights(view.discount, omega2, spread, reverting)
        pull1 = share1 * (float(old.a[i]) - omega1 * drift)
        pull2 = share2 * (float(new.a[i]) + omega2 * (gained - drift))
        return _undo.Change(now1, now2, pull1, pull2)

    def _changed(self, view: _View, i: int, change: _undo.Change) -> tuple[Floats, Any]:
        block, x = self.blocks[view.r], view.x
        if block.belief.form == REVERTING:
            x = view.discount * x
        if not x.any():
            return view.mean, self._packed(block, view.cov)
        if block.kind == DIAGONAL:
            return _undo.diagonal(view.mean, view.cov, x, self.priors[view.r][1], change)
        q0 = self._most_variance(replace(view, x=x))
        if block.kind == LOWRANK:
            prior = 1.0 / self.variances[view.r]
            mean, H = _undo.lowrank(view.mean, view.cov, x, q0, prior, block.effect.rank, change)
            return mean, self._packed(block, H)
        return _undo.full(view.mean, view.cov, x, q0, self.variances[view.r], change)

    @staticmethod
    def _packed(block: Block, cov: Any) -> Floats:
        return np.asarray(lowrank.pack(cov, block.kmax) if block.kind == LOWRANK else cov, dtype=np.float64)

    def _store(self, view: _View, mean: Floats, cov: Floats) -> None:
        if view.entity < 0:
            return
        block = self.blocks[view.r]
        block.mean[view.entity], block.cov[view.entity] = mean, cov
        if self.retracts:
            block.counts[view.entity] = max(int(block.counts[view.entity]) - 1, 0)
