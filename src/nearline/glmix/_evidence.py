"""Priors by marginal likelihood: fit history, re-estimate each random effect's prior from its posteriors, repeat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nearline.features import Design
from nearline.glmix import _batch, _priors
from nearline.glmix._codes import FULL
from nearline.glmix._effects import Fixed, Prior
from nearline.glmix._search import progress_bar
from nearline.glmix._state import Belief, Block

# Cycles over the blocks between two re-estimates: the priors move more than the fit does.
CYCLES = 3
TOLERANCE = 1e-6


def maximise(
    blocks: Sequence[Block], n_slots: int, design: Design, link: str, iterations: int, structure: str, progress: bool,
    threads: int,
) -> tuple[float, float, int]:  # fmt: skip
    """Expectation maximisation; returns (log evidence per row before, after, fits)."""
    found: list[float] = []
    with progress_bar(progress, iterations) as tick:
        for iteration in range(iterations):
            fitted = _batch.fit(blocks, n_slots, design, link, CYCLES, 0.0, frozenset(), threads)
            found.append(sum(fitted.log_evidence.values()) / max(1, design.rows))
            tick(found[-1])
            still = len(found) > 1 and abs(found[-1] - found[-2]) <= TOLERANCE * abs(found[-1])
            if still or iteration == iterations - 1:
                break  # what was found last is the evidence of the priors that the blocks have now
            for block in blocks:
                touched = np.flatnonzero(block.counts[: block.entities] > 0)
                if not isinstance(block.effect, Fixed) and len(touched):
                    block.belief = _step(block, touched, structure)
    return found[0], found[-1], len(found)


def _step(block: Block, touched: NDArray[np.int64], structure: str) -> Belief:
    if structure != "scalar":
        return _priors.em_belief(block, touched, structure, mean=structure == "full")
    # λ ← Σ_e (d − λ tr V_e) / Σ_e ‖θ_e − μ0‖² converges faster than the plain second moment.
    theta, V = _priors.posteriors(block, touched)
    variance = float(block.belief.variance0(block.columns).mean())
    traces = np.trace(V, axis1=1, axis2=2) if block.kind == FULL else V.sum(axis=1)
    mu0 = block.belief.mu0(block.columns)
    used = float((block.d - traces / variance).sum())
    new = max(float(((theta - mu0) ** 2).sum()) / max(used, 1e-9), 1e-9)
    # One number for all dimensions, those that are yet to come included.
    return replace(block.belief, prior=Prior(new, block.belief.prior.mean), covariance=None)
