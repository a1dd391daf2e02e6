"""Priors by marginal likelihood: fit history, re-estimate each random effect's prior from its posteriors, repeat.

Expectation maximisation crawls where data say little of a variance: its error shrinks by the share of information that
is missing. So every two steps x0 → x1 → x2 are extrapolated (SQUAREM, Varadhan and Roland 2008, their step S3),

    r = x1 − x0,    v = (x2 − x1) − r,    a = −max(1, ‖r‖ / ‖v‖),    x' = x0 − 2 a r + a² v

with x the prior's mean and log-Cholesky factor, and x' is kept only where its evidence is not below that of x1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from nearline.features import Design
from nearline.glmix import _batch, _priors
from nearline.glmix._codes import FULL
from nearline.glmix._effects import Fixed, Prior
from nearline.glmix._search import progress_bar
from nearline.glmix._state import Belief, Block

Floats = NDArray[np.float64]

# Cycles over the blocks between two re-estimates: the priors move more than the fit does.
CYCLES = 3
TOLERANCE = 1e-6
# The longest extrapolation, and the farthest that a number of x may go in one.
LONGEST, FARTHEST = 32.0, 2.0


@dataclass
class _Climb:
    """Fits of one history, and what they found."""

    blocks: Sequence[Block]
    learned: list[Block]
    fit: Callable[[bool], float]
    structure: str
    budget: int
    tick: Callable[[float], None]
    found: list[float] = field(default_factory=list)

    def evidence(self) -> float:
        """Log evidence per row of the priors that the blocks have now."""
        value = self.fit(bool(self.found))
        self.found.append(value)
        self.tick(value)
        return value

    def spent(self) -> bool:
        return len(self.found) >= self.budget

    def step(self) -> None:
        """One step of expectation maximisation from the posteriors of the last fit."""
        for block in self.learned:
            touched = np.flatnonzero(block.counts[: block.entities] > 0)
            if len(touched):
                block.belief = _step(block, touched, self.structure)

    def place(self) -> Floats:
        return np.concatenate([_vector(block, self.structure) for block in self.learned])

    def beliefs(self) -> list[Belief]:
        return [block.belief for block in self.learned]

    def restore(self, beliefs: Sequence[Belief]) -> None:
        for block, belief in zip(self.learned, beliefs):
            block.belief = belief

    def move(self, x: Floats) -> None:
        for block in self.learned:
            size = len(_vector(block, self.structure))
            block.belief, x = _belief(block, x[:size], self.structure), x[size:]


def maximise(
    blocks: Sequence[Block], n_slots: int, design: Design, link: str, iterations: int, structure: str, progress: bool,
    threads: int,
) -> tuple[float, float, int]:  # fmt: skip
    """Accelerated expectation maximisation; returns (log evidence per row before, after, fits)."""

    def fit(warm: bool) -> float:
        plan = _batch.Plan(CYCLES, 0.0, threads=threads, warm=warm)
        fitted = _batch.fit(blocks, n_slots, design, link, plan)
        return fitted.joint_log_evidence / max(1, design.rows)

    learned = [block for block in blocks if not isinstance(block.effect, Fixed) and block.d]
    with progress_bar(progress, iterations) as tick:
        climb = _Climb(blocks, learned, fit, structure, iterations, tick)
        last = _climb(climb)
    return climb.found[0], last, len(climb.found)


def _climb(climb: _Climb) -> float:
    """Climb until the evidence stands still or the fits are spent; returns the evidence of the priors left behind."""
    start = climb.evidence()
    while climb.learned and not climb.spent():
        x0 = climb.place()
        climb.step()
        x1, first = climb.place(), climb.evidence()
        if climb.spent() or abs(first - start) <= TOLERANCE * abs(first):
            return first
        once = climb.beliefs()
        climb.step()
        x2, twice = climb.place(), climb.beliefs()
        climb.move(_extrapolated(x0, x1, x2))
        start = climb.evidence()
        if start >= first:
            continue
        if climb.spent():
            climb.restore(once)
            return first
        climb.restore(twice)
        start = climb.evidence()
    return start


def _extrapolated(x0: Floats, x1: Floats, x2: Floats) -> Floats:
    r = x1 - x0
    v = (x2 - x1) - r
    length = float(np.linalg.norm(r)) / max(float(np.linalg.norm(v)), 1e-300)
    a = -min(max(1.0, length), LONGEST)
    return np.asarray(x2 + np.clip(x0 - 2 * a * r + a * a * v - x2, -FARTHEST, FARTHEST))


def _vector(block: Block, structure: str) -> Floats:
    """What is learned of a block's prior as numbers without bounds."""
    variance = block.belief.variance0(block.columns)
    if structure == "scalar":
        return np.log([float(variance.mean())])
    if structure == "full" and block.kind == FULL:
        L = np.linalg.cholesky(block.belief.V0(block.columns))
        L[np.diag_indices(block.d)] = np.log(np.diagonal(L))
        return np.concatenate([block.belief.mu0(block.columns), L[np.tril_indices(block.d)]])
    return np.concatenate([block.belief.mu0(block.columns), 0.5 * np.log(variance)])


def _belief(block: Block, x: Floats, structure: str) -> Belief:
    """The inverse of `_vector`."""
    if structure == "scalar":
        return _scalar(block, float(np.exp(x[0])))
    d, mean = block.d, x[: block.d]
    if not (structure == "full" and block.kind == FULL):
        return replace(block.belief, mean=mean, covariance=np.diag(np.exp(2 * x[d:])))
    L = np.zeros((d, d))
    L[np.tril_indices(d)] = x[d:]
    L[np.diag_indices(d)] = np.exp(np.diagonal(L))
    return replace(block.belief, mean=mean, covariance=L @ L.T)


def _step(block: Block, touched: NDArray[np.int64], structure: str) -> Belief:
    if structure != "scalar":
        return _priors.em_belief(block, touched, structure, mean=structure == "full")
    # λ ← Σ_e (d − λ tr V_e) / Σ_e ‖θ_e − μ0‖² converges faster than the plain second moment.
    theta, V = _priors.posteriors(block, touched)
    variance = float(block.belief.variance0(block.columns).mean())
    traces = np.trace(V, axis1=1, axis2=2) if block.kind == FULL else V.sum(axis=1)
    mu0 = block.belief.mu0(block.columns)
    used = float((block.d - traces / variance).sum())
    return _scalar(block, max(float(((theta - mu0) ** 2).sum()) / max(used, 1e-9), 1e-9))


def _scalar(block: Block, variance: float) -> Belief:
    """One number for all dimensions, those that are yet to come included."""
    return replace(block.belief, prior=Prior(variance, block.belief.prior.mean), covariance=None)
