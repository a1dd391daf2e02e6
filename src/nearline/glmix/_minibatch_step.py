"""Minibatch mode: Lambda Learner's per-entity problem for every block of a batch, one block after the other.

Each entity solves

    θ = argmin_β Σ_n w_n ℓ(y_n, x_nᵀβ + o_n) + ½ (β − m)ᵀ P (β − m)

with o_n everything else in the score, made of the other blocks' current means (Gauss-Seidel), and (m, P) its posterior
before the batch, relaxed to the time of its last row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearline.features import Design
from nearline.glmix import _fold, _links
from nearline.glmix._block import Grouping, group, relaxation_of, update_block
from nearline.glmix._codes import DIAGONAL, NEVER, PER_UPDATE
from nearline.glmix._packed import diagonal_indices
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


def learn(
    blocks: Sequence[Block], n_slots: int, design: Design, link: str, *, cycles: int = 1, threads: int = 1
) -> NDArray[np.int64]:
    """Learn a batch; returns the rows that were refused, which changed nothing in any block.

    A row is learned by all blocks or by none: when an entity's solve fails, the batch is taken back and learned without
    that entity's rows.
    """
    refused = np.zeros(0, np.int64)
    if design.rows == 0:
        return refused
    for _ in range(MAX_ATTEMPTS):
        kept = _without(design, refused)
        terms = Terms(blocks, n_slots, kept)
        groups = [_grouping(block, terms.codes[r], kept) for r, block in enumerate(blocks)]
        before = [_Before.of(block, groups[r].codes) for r, block in enumerate(blocks)]
        failed = _step(blocks, terms, groups, link, cycles, threads)
        if not len(failed):
            return refused
        for block, old in zip(blocks, before):
            old.restore(block)
        refused = np.union1d(refused, failed)
    return np.arange(design.rows)


def _without(design: Design, rows: NDArray[np.int64]) -> Design:
    weight = design.weight.copy()
    weight[rows] = 0.0
    return replace(design, weight=weight)


def _grouping(block: Block, codes: NDArray[np.int32], design: Design) -> Grouping:
    """Rows of positive weight by entity: a row of weight 0 is no row, not even for forgetting."""
    return group(np.where(design.weight > 0, codes, -1).astype(np.int32), len(block.mean))


def _step(
    blocks: Sequence[Block], terms: Terms, groups: Sequence[Grouping], link: str, cycles: int, threads: int
) -> NDArray[np.int64]:
    design = terms.design
    failed: list[NDArray[np.int64]] = []
    priors: list[tuple[NDArray[Any], NDArray[Any]]] = []
    for r, block in enumerate(blocks):
        if block.d:
            _add_event_noise(block, groups[r])
        priors.append((block.mean[groups[r].codes], block.cov[groups[r].codes]))
    for cycle in range(cycles):
        for r, block in enumerate(blocks):
            grouping = groups[r]
            if not block.d or not len(grouping.codes):
                continue
            # The priors of all cycles are those of before the batch.
            block.mean[grouping.codes], block.cov[grouping.codes] = priors[r]
            since = grouping.last(design.time) - block.last[grouping.codes] if cycle == 0 else _never(grouping)
            result = update_block(
                grouping, terms.local_design(r), design.label, design.weight * _late(block, terms.codes[r], design),
                terms.offset(r), block.mean, block.cov, link=_links.by_name(link), threads=threads,
                relaxation=_relaxation(block, since),
            )  # fmt: skip
            failed.append(result.failed_rows)
            terms.refresh(r)
    for block, grouping in zip(blocks, groups):
        block.counts[grouping.codes] += np.diff(grouping.ptr).astype(np.int32)
        if len(grouping.codes):
            block.last[grouping.codes] = np.fmax(block.last[grouping.codes], grouping.last(design.time))
    return np.unique(np.concatenate(failed)) if failed else np.zeros(0, np.int64)


def _never(grouping: Grouping) -> Floats:
    return np.full(len(grouping.codes), np.nan)


def _relaxation(block: Block, since: Floats) -> Any:
    mu0, cov0 = block.prior_arrays()
    _, second = block.belief.walks(block.columns)
    return relaxation_of(block.belief.form, block.belief.rate, mu0, cov0, np.zeros(block.d), second, since)


def _add_event_noise(block: Block, grouping: Grouping) -> None:
    """Random-walk variance per event, for as many events as each entity has in the batch, up to the prior's."""
    event, _ = block.belief.walks(block.columns)
    if not event.any():
        return
    _, cov0 = block.prior_arrays()
    places = np.arange(block.d) if block.kind == DIAGONAL else diagonal_indices(block.d)
    cells = np.ix_(grouping.codes, places)
    noise = np.outer(np.diff(grouping.ptr), event)
    headroom = np.maximum(cov0[places] - block.cov[cells], 0.0)
    block.cov[cells] += np.minimum(noise, headroom)


def _late(block: Block, codes: NDArray[np.int32], design: Design) -> Floats:
    """Discount of rows older than their entity's last update: they enter with 2^(−s/τ) and no further decay."""
    if block.belief.form in (NEVER, PER_UPDATE):
        return np.ones(design.rows)
    late = np.where(codes >= 0, block.last[codes] - design.time, 0.0)
    return _fold.late_factor(np.maximum(np.nan_to_num(late), 0.0), block.belief.rate)
