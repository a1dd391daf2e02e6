"""Learn a tick of events, or leave every posterior as it was, to the bit.

A tick is learned at once; only where a limit of `Safety` was passed are the touched posteriors put back, and the tick
is learned again without the rows at fault. A row that is refused is learned by no block.

What a rejected tick does leave behind is vocabulary: entities and levels that it was the first to name stay known, at
their priors, and change no score but that their names are no longer new. Priors due for a refresh are re-estimated
after a tick, never within one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from nearline.features import Design
from nearline.glmix import _layout, _minibatch_step, _packed, _replay, _safety, _stream
from nearline.glmix import _lowrank as lowrank
from nearline.glmix._codes import DIAGONAL, LOWRANK
from nearline.glmix._learned import LearnedEvents, discounts, recorded
from nearline.glmix._safety import LEARNED, MARGIN, NOT_FINITE, REJECTED, STEP, Safety, Status, Surprise
from nearline.glmix._state import Block
from nearline.glmix._terms import Terms

if TYPE_CHECKING:
    from nearline.glmix._model import GLMix

Floats = NDArray[np.float64]
MAX_ATTEMPTS = 6


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What became of a tick of n rows.

    Attributes
    ----------
    rejected
        Why the tick was rejected as a whole, nothing being learned; empty where it was learned.
    status
        Index into `REASONS` per row (n); 0 is learned.
    events
        What each row taught (n), to be stored with it: `GLMix.correct` and `GLMix.retract` ask for it.
    margin, variance
        The score each row had just before it was learned, and its variance (n).
    surprise
        How far the tick is from what the model predicted.
    """

    rejected: str
    status: Status
    events: LearnedEvents
    margin: Floats
    variance: Floats
    surprise: Surprise

    @property
    def accepted(self) -> bool:
        """Whether the tick was learned (but for refused rows)."""
        return not self.rejected

    @property
    def learned(self) -> NDArray[np.bool_]:
        """Rows (n) that the model has learned."""
        return np.asarray(self.status == LEARNED)

    def reason(self, row: int) -> str:
        """Why a row was not learned; empty where it was."""
        return _safety.REASONS[int(self.status[row])]


@dataclass(frozen=True, slots=True)
class _Touched:
    """The rows of a block that a tick may change, as they were."""

    codes: NDArray[np.int64]
    arrays: tuple[NDArray[Any], ...]

    @classmethod
    def of(cls, block: Block, design: Design) -> _Touched:
        codes = np.unique(_layout.entity_codes(block, design)[design.weight > 0.0]).astype(np.int64)
        codes = codes[codes >= 0]
        return cls(codes, tuple(array[codes] for array in _arrays(block)))

    def restore(self, block: Block) -> None:
        for array, old in zip(_arrays(block), self.arrays):
            array[self.codes] = old


def _arrays(block: Block) -> tuple[NDArray[Any], ...]:
    return block.mean, block.cov, block.last, block.counts


def learn(model: GLMix, table: Any, safety: Safety, shares: bool) -> Verdicts:
    """`GLMix.try_learn`."""
    if isinstance(table, Design):
        # A row without a label is refused by name, not by an error.
        model.design(replace(table, label=np.nan_to_num(table.label)), learn=True)
        design = table
    else:
        design, _ = model.design(table, learn=True)
    verdicts = try_learn(
        model.blocks, model.encoder.n_slots, design, model.link, model.mode, safety, threads=model.threads,
        shares=shares,
    )  # fmt: skip
    if verdicts.accepted:
        _stream.count(model, int(np.count_nonzero(verdicts.learned)))
    return verdicts


def try_learn(
    blocks: Sequence[Block], n_slots: int, design: Design, link: str, mode: Literal["event", "minibatch"],
    safety: Safety, *, threads: int = 1, shares: bool = False,
) -> Verdicts:  # fmt: skip
    """Learn a design's rows in order, or nothing; see `Verdicts`."""
    status = _safety.inspect_rows(design, link)
    clean = _without(design, status != LEARNED)
    before = [_Touched.of(block, clean) for block in blocks]
    tick = _Tick(blocks, n_slots, link, mode, safety, threads)
    rejected = "its steps keep passing the limit"
    for _ in range(MAX_ATTEMPTS):
        events, margin, variance, found = tick.learn(clean, before)
        guilty = np.isin(found, (MARGIN, STEP)) & (status == LEARNED)
        if not guilty.any():
            status = np.where((status == LEARNED) & (found != LEARNED), found, status)
            judged = replace(events, margin=margin, variance=variance)
            together = mode == "minibatch"
            rejected, surprise = _safety.inspect_tick(safety, link, judged, status, together=together)
            break
        for block, old in zip(blocks, before):
            old.restore(block)
        status = np.where(tick.first_at_fault(clean, guilty), found, status)
        clean = _without(design, status != LEARNED)
    else:
        surprise = Surprise(0.0, 0.0, 0.0)
    if rejected:
        for block, old in zip(blocks, before):
            old.restore(block)
        status = np.where(status == LEARNED, np.int8(REJECTED), status)
    elif shares and not any(of >= 0 for of in _layout.targets(blocks)):
        events = replace(events, shares=np.stack(Terms(blocks, n_slots, clean).terms, axis=1))
    return Verdicts(rejected, status.astype(np.int8), events, margin, variance, surprise)


def _without(design: Design, rows: NDArray[np.bool_]) -> Design:
    """The design with some rows taken for no rows: weight 0, and nothing in them that is not finite."""
    if not rows.any():
        return design
    finite = np.isfinite(design.values)
    return replace(
        design,
        values=np.where(finite, design.values, 0.0),
        weight=np.where(rows, 0.0, design.weight),
        label=np.where(rows, 0.0, design.label),
        offset=np.where(rows, 0.0, design.offset),
        time=np.where(np.isfinite(design.time), design.time, 0.0),
    )


@dataclass(frozen=True, slots=True)
class _Tick:
    """How a tick is learned once."""

    blocks: Sequence[Block]
    n_slots: int
    link: str
    mode: Literal["event", "minibatch"]
    safety: Safety
    threads: int

    def learn(self, design: Design, before: Sequence[_Touched]) -> tuple[LearnedEvents, Floats, Floats, Status]:
        """(events, margins, variances, status) of rows learned; nothing is put back."""
        one = self._events if self.mode == "event" else self._minibatch
        return one(design, before)

    def _events(self, design: Design, _: Sequence[_Touched]) -> tuple[LearnedEvents, Floats, Floats, Status]:
        late = discounts(self.blocks, design)
        ends = _replay.stops(design.time, 1)
        progress = _replay.replay(self.blocks, self.n_slots, design, self.link, ends, True)
        events = recorded(design, late, progress.margin, progress.variance)
        status = np.zeros(design.rows, np.int8)
        with np.errstate(invalid="ignore", over="ignore"):
            status[_safety.inspect_steps(self.safety, self.link, events)] = STEP
        return (
            events,
            progress.margin,
            progress.variance,
            self._named(status, design, progress.margin, progress.refused),
        )

    def _minibatch(self, design: Design, before: Sequence[_Touched]) -> tuple[LearnedEvents, Floats, Floats, Status]:
        z, s = _replay.score(self.blocks, self.n_slots, design, True, self.threads)
        refused = np.zeros(design.rows, np.bool_)
        relaxed = [_relaxed(block, old, design) for block, old in zip(self.blocks, before)]
        refused[_minibatch_step.learn(self.blocks, self.n_slots, design, self.link, threads=self.threads)] = True
        after = Terms(self.blocks, self.n_slots, design).margin
        events = recorded(design, np.ones(design.rows), after, np.full(design.rows, np.nan))
        status = np.zeros(design.rows, np.int8)
        for block, old, (mean, cov) in zip(self.blocks, before, relaxed):
            # A sound minibatch moves by up to √d deviations, for E Δθᵀ V⁻¹ Δθ = tr(I − V_new V⁻¹) ≤ d.
            limit = self.safety.step + np.sqrt(block.d)
            far = steps(block, block.mean[old.codes].astype(np.float64) - mean, cov) > limit
            status[np.isin(_layout.entity_codes(block, design), old.codes[far])] = STEP
        return events, z, s, self._named(status, design, z, refused)

    def _named(self, status: Status, design: Design, margin: Floats, refused: NDArray[np.bool_]) -> Status:
        status[_safety.inspect_margins(self.safety, self.link, margin)] = MARGIN
        status[refused] = NOT_FINITE
        status[design.weight == 0.0] = LEARNED
        return status

    def first_at_fault(self, design: Design, guilty: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Rows to leave out: those that pass a limit even as the model stood before the tick, else one row.

        A row may pass a limit only because another of the tick has led the model astray: then it is the earliest.
        """
        z, s = _replay.score(self.blocks, self.n_slots, design, True, self.threads)
        alone = _safety.inspect_margins(self.safety, self.link, z)
        events = recorded(design, np.ones(design.rows), z, s)
        alone = (alone | _safety.inspect_steps(self.safety, self.link, events)) & guilty
        if not alone.any():
            # A minibatch has no order: there it is the row that pulls most.
            pull = guilty if self.mode == "event" else np.where(guilty, _safety.step_of(self.link, events), -1.0)
            alone[int(np.argmax(pull))] = True
        return np.asarray(alone)


def _relaxed(block: Block, old: _Touched, design: Design) -> tuple[Floats, Floats]:
    """Posteriors (mean, covariance) of the touched entities as they have relaxed by the tick's newest row."""
    if not len(old.codes):
        return np.zeros((0, block.d)), np.zeros((0, block.cov_size))
    newest = np.fmax(block.last[old.codes], float(design.time.max()))
    mean, cov = block.relaxed(old.codes, newest)
    return mean, cov


def steps(block: Block, move: Floats, cov: Floats) -> Floats:
    """√(Δθᵀ V⁻¹ Δθ) (E) of moves (E, d) from posteriors stored as cov (E, cov_size)."""
    if not move.size:
        return np.zeros(len(move))
    if block.kind == DIAGONAL:
        return np.asarray(np.sqrt(np.square(move / np.sqrt(cov)).sum(axis=1)))
    if block.kind == LOWRANK:
        posteriors = [lowrank.unpack(row, block.d, block.kmax) for row in cov]
        return np.sqrt([float(H.h @ m**2 + np.square(H.Q.T @ m).sum()) for H, m in zip(posteriors, move)])
    solved = np.linalg.solve(_packed.unpack(cov), move[..., None])[..., 0]
    return np.asarray(np.sqrt(np.maximum((move * solved).sum(axis=1), 0.0)))
