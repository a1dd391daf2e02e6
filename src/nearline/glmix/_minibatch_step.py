"""Minibatch mode: Lambda Learner's per-entity problem for every block of a batch, one block after the other.

Each entity solves

    θ = argmin_β Σ_n w_n ℓ(y_n, x_nᵀβ + o_n) + ½ (β − m)ᵀ P (β − m)

with o_n everything else in the score, made of the other blocks' current means (Gauss-Seidel), and (m, P) its posterior
before the batch, relaxed to the time of its last row. Where a block forgets, a row that is older than that by s weighs
2^(−s/τ). With a `Past`, it is the update of every block from a slice: (m, P) weighs the past besides, and H is
evaluated once, where all blocks have come to rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearline.features import Design
from nearline.glmix import _fold, _layout, _links, _replay
from nearline.glmix._block import Grouping, group
from nearline.glmix._codes import NEVER, PER_UPDATE
from nearline.glmix._lowrank_block import solve_block
from nearline.glmix._past import Past
from nearline.glmix._replay import Progress
from nearline.glmix._state import Block
from nearline.glmix._terms import Terms

Floats = NDArray[np.float64]
MAX_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class _Before:
    """The touched rows of a block as they were, so that a batch can be taken back."""

    codes: NDArray[np.int64]
    mean: NDArray[Any]
    cov: NDArray[Any]
    last: NDArray[Any]
    counts: NDArray[Any]

    @classmethod
    def of(cls, block: Block, codes: NDArray[np.int64]) -> _Before:
        return cls(codes, block.mean[codes], block.cov[codes], block.last[codes], block.counts[codes])

    def restore(self, block: Block) -> None:
        block.mean[self.codes], block.cov[self.codes] = self.mean, self.cov
        block.last[self.codes], block.counts[self.codes] = self.last, self.counts


@dataclass(frozen=True, slots=True)
class Descent:
    """How many cycles a batch may take over the blocks, and what its past counts (None: in full, mini-batch mode)."""

    cycles: int = 1
    tolerance: float = 0.0
    past: Past | None = None


def learn(
    blocks: Sequence[Block], n_slots: int, design: Design, link: str, *, cycles: int = 1, threads: int = 1,
    locked: frozenset[str] = frozenset(),
) -> NDArray[np.int64]:  # fmt: skip
    """Learn a batch; returns the rows that were refused, which changed nothing in any block.

    A row is learned by all blocks or by none: when an entity's solve fails, the batch is taken back and learned without
    that entity's rows. Blocks named in `locked` count with their means and stay as they are.
    """
    return descend(blocks, n_slots, design, link, Descent(cycles), threads, locked).refused


@dataclass(frozen=True, slots=True)
class Descended:
    """What a descent came to.

    Attributes
    ----------
    refused
        Rows that were refused.
    moved
        How far each cycle moved the scores, root mean square (with a `Past`).
    log_evidence
        Laplace log p(rows | priors) of all blocks together, the loss counted once (with a `Past`).
    """

    refused: NDArray[np.int64]
    moved: tuple[float, ...] = ()
    log_evidence: float = float("nan")


def log_evidence(
    blocks: Sequence[Block], n_slots: int, design: Design, link: str, descent: Descent, threads: int,
    locked: frozenset[str],
) -> float:  # fmt: skip
    """Log evidence of a batch under the priors that a descent gives it; learns nothing. −∞ where a solve fails."""
    groups = [grouping_of(block, design) for block in blocks]
    before = [_Before.of(block, grouping.codes) for block, grouping in zip(blocks, groups)]
    found = _step(blocks, n_slots, design, groups, link, descent, threads, locked)
    for block, old in zip(blocks, before):
        old.restore(block)
    return -np.inf if len(found.refused) else found.log_evidence


def descend(
    blocks: Sequence[Block], n_slots: int, design: Design, link: str, descent: Descent, threads: int,
    locked: frozenset[str],
) -> Descended:  # fmt: skip
    """`learn`, by a descent."""
    refused = np.zeros(0, np.int64)
    if design.rows == 0:
        return Descended(refused)
    for _ in range(MAX_ATTEMPTS):
        kept = _without(design, refused)
        groups = [grouping_of(block, kept) for block in blocks]
        before = [_Before.of(block, grouping.codes) for block, grouping in zip(blocks, groups)]
        found = _step(blocks, n_slots, kept, groups, link, descent, threads, locked)
        for block, old in zip(blocks, before):
            if len(found.refused) or block.name in locked:
                old.restore(block)
        if not len(found.refused):
            return replace(found, refused=refused)
        refused = np.union1d(refused, found.refused)
    return Descended(np.flatnonzero(design.weight > 0))


def replay(
    blocks: Sequence[Block], n_slots: int, design: Design, link: str, ends: NDArray[np.int64], variances: bool = False,
    *, threads: int = 1, locked: frozenset[str] = frozenset(),
) -> Progress:  # fmt: skip
    """Predict the rows up to each of `ends` and then learn them as one batch."""
    refused, parts = np.zeros(design.rows, dtype=np.bool_), []
    for start, stop in zip([0, *ends[:-1].tolist()], ends.tolist()):
        part = design.take(start, stop)
        parts.append(_replay.score(blocks, n_slots, part, variances, threads))
        refused[start + learn(blocks, n_slots, part, link, threads=threads, locked=locked)] = True
    z, s = (np.concatenate(columns) for columns in zip(*parts)) if parts else (np.zeros(0), np.zeros(0))
    return Progress(z, s, refused)


def _without(design: Design, rows: NDArray[np.int64]) -> Design:
    weight = design.weight.copy()
    weight[rows] = 0.0
    return replace(design, weight=weight)


def grouping_of(block: Block, design: Design) -> Grouping:
    """Rows of positive weight by entity: a row of weight 0 is no row, not even for forgetting."""
    codes = _layout.entity_codes(block, design)
    return group(np.where(design.weight > 0, codes, -1).astype(np.int32), len(block.mean))


def _step(
    blocks: Sequence[Block], n_slots: int, design: Design, groups: Sequence[Grouping], link: str, descent: Descent,
    threads: int, locked: frozenset[str],
) -> Descended:  # fmt: skip
    """Relax all blocks first, so that every offset is made of scores as of now, then solve one after the other."""
    free = [r for r, block in enumerate(blocks) if block.d and len(groups[r].codes) and block.name not in locked]
    for r, (block, grouping) in enumerate(zip(blocks, groups)):
        _relax(block, grouping, design, updating=block.name not in locked)
        if descent.past is not None and r in free:
            descent.past.weigh(block, grouping.codes)
    # The priors of all cycles are those of before the batch.
    priors = [(block.mean[grouping.codes], block.cov[grouping.codes]) for block, grouping in zip(blocks, groups)]
    terms = Terms(blocks, n_slots, design)
    weights = {r: design.weight * late_discount(blocks[r], terms.codes[r], groups[r], design) for r in free}
    found = _cycles(terms, groups, priors, weights, link, descent, threads)
    if descent.past is not None and not len(found.refused):
        _evaluate(terms, groups, priors, weights, link, threads)
    for block, grouping in zip(blocks, groups):
        block.counts[grouping.codes] += np.diff(grouping.ptr).astype(np.int32)
        block.last[grouping.codes] = newest(block, grouping, design)
    return found


_Priors = Sequence[tuple[NDArray[Any], NDArray[Any]]]


def _cycles(
    terms: Terms, groups: Sequence[Grouping], priors: _Priors, weights: Mapping[int, Floats], link: str,
    descent: Descent, threads: int,
) -> Descended:  # fmt: skip
    """Solve the blocks that have weights in turn, until a cycle moves the scores by less than the tolerance."""
    failed, moved, evidence = [np.zeros(0, np.int64)], [], float("nan")
    for _ in range(descent.cycles):
        before, beside = terms.margin, 0.0
        for r, weight in weights.items():
            block, grouping = terms.blocks[r], groups[r]
            block.mean[grouping.codes], block.cov[grouping.codes] = priors[r]
            result = solve_block(
                block, grouping, terms.local_design(r), terms.design.label, weight, terms.offset(r),
                link=_links.by_name(link), threads=threads,
            )  # fmt: skip
            failed.append(result.failed_rows)
            terms.refresh(r)
            if descent.past is not None:
                beside += result.log_evidence + _loss(terms, link, weight)
        if descent.past is not None:
            evidence = beside - _loss(terms, link, terms.design.weight)
            moved.append(float(np.sqrt(np.square(terms.margin - before).mean())))
            if moved[-1] <= descent.tolerance:
                break
    return Descended(np.unique(np.concatenate(failed)), tuple(moved), evidence)


def _loss(terms: Terms, link: str, weight: Floats) -> float:
    """Σ_n w_n ℓ(y_n, η_n) over the rows that count."""
    counted = weight > 0.0
    return float(_links.by_name(link).loss(terms.design.label, terms.margin)[counted] @ weight[counted])


def _evaluate(
    terms: Terms, groups: Sequence[Grouping], priors: _Priors, weights: Mapping[int, Floats], link: str, threads: int
) -> None:
    """H = P + Xᵀ W X of every block at the margins where the descent ended, as that of a linear problem solved by θ.

    A least-squares problem in the prior N(θ, P⁻¹), with the weights w D(η) and labels that θ already meets, has the
    mode θ and the precision H, whatever kind of posterior the block keeps.
    """
    curvature = _links.by_name(link).curvature(terms.design.label, terms.margin)
    for r, weight in weights.items():
        block, grouping = terms.blocks[r], groups[r]
        theta = block.mean[grouping.codes]
        block.cov[grouping.codes] = priors[r][1]
        # The curvature of a refused row, which weighs nothing, may be infinite.
        information = np.multiply(weight, curvature, out=np.zeros_like(weight), where=weight > 0.0)
        solve_block(
            block, grouping, terms.local_design(r), terms.margin - terms.offset(r), information,
            np.zeros(terms.design.rows), link=_links.IDENTITY, threads=threads,
        )  # fmt: skip
        block.mean[grouping.codes] = theta


def newest(block: Block, grouping: Grouping, design: Design) -> Floats:
    """Time of each entity's newest row, in the batch or before."""
    return np.asarray(np.fmax(block.last[grouping.codes], grouping.last(design.time)))


def _relax(block: Block, grouping: Grouping, design: Design, *, updating: bool) -> None:
    event, second = block.belief.walks(block.columns)
    if not len(grouping.codes) or (block.belief.form == NEVER and not (event.any() or second.any())):
        return
    rows = np.diff(grouping.ptr)
    relaxed = block.relaxed(grouping.codes, newest(block, grouping, design), rows, updating=updating)
    block.mean[grouping.codes], block.cov[grouping.codes] = relaxed


def late_discount(block: Block, codes: NDArray[np.int32], grouping: Grouping, design: Design) -> Floats:
    """Discount of rows older than their entity's newest row: they enter with 2^(−s/τ), as if they had come in time."""
    if block.belief.form in (NEVER, PER_UPDATE):
        return np.ones(design.rows)
    latest = np.zeros(len(block.mean))
    latest[grouping.codes] = newest(block, grouping, design)
    return _fold.late_factor(np.maximum(latest[codes] - design.time, 0.0), block.belief.rate)
