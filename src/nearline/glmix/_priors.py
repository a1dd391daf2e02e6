"""Empirical Bayes: priors, random-walk noise and half-lives learned from history, and refreshed from live posteriors.

Two criteria. ``one_step`` replays history and minimises the progressive loss, mean_n ℓ(y_n, z_n) with z_n predicted
before row n is learned: what a served model is judged by. ``evidence`` maximises Σ_e log p(B_e) by expectation
maximisation,

    scalar   λ ← Σ_e (d − λ tr V_e) / Σ_e ‖θ_e − μ0‖²
    general  μ0 ← mean_e θ_e,   Λ0⁻¹ ← mean_e [V_e + (θ_e − μ0)(θ_e − μ0)ᵀ]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nearline._errors import ConfigError
from nearline.features import Design
from nearline.glmix import _evidence, _lowrank_rows, _search
from nearline.glmix._codes import DIAGONAL, FULL, LOWRANK
from nearline.glmix._effects import Fixed, Loadings
from nearline.glmix._lowrank import LowRank, pack
from nearline.glmix._packed import unpack
from nearline.glmix._state import Belief, Block

Floats = NDArray[np.float64]

CHUNK = 4096
# Beyond so many coefficients a low-rank block's prior covariance, which is kept as a matrix, is not learned.
WIDEST = 4096


@dataclass(frozen=True, slots=True)
class LearnedPriors:
    """What `GLMix.learn_priors` found.

    Attributes
    ----------
    before, after
        The criterion with the declared and with the learned priors: mean progressive loss (lower is better), or log
        evidence per row (higher is better).
    evaluations
        How often history was replayed or fitted.
    beliefs
        The learned prior and forgetting of every effect.
    """

    before: float
    after: float
    evaluations: int
    beliefs: dict[str, Belief]


def learn(
    blocks: Sequence[Block], n_slots: int, design: Design, link: str, method: str, rounds: int, structure: str,
    walks: bool, half_lives: bool, progress: bool, threads: int, mode: str, every: int | str | None,
) -> LearnedPriors:  # fmt: skip
    """Learn the beliefs of all blocks from history and leave the blocks at their new priors."""
    if structure not in ("scalar", "diagonal", "full"):
        raise ConfigError(f"learn_priors(structure=...) is 'scalar', 'diagonal' or 'full', got {structure!r}")
    if design.rows == 0:
        raise ConfigError("learn_priors needs history; the table is empty")
    if method == "one_step":
        served = _search.Served(mode, every, threads)
        found = _search.one_step(blocks, n_slots, design, link, rounds, structure, walks, half_lives, progress, served)
    elif method == "evidence":
        found = _evidence.maximise(blocks, n_slots, design, link, 10 * rounds, structure, progress, threads)
    else:
        raise ConfigError(f"learn_priors(method=...) is 'one_step' or 'evidence', got {method!r}")
    for block in blocks:
        block.reset()
    return LearnedPriors(*found, beliefs={block.name: block.belief for block in blocks})


def refresh(blocks: Sequence[Block], least: int, locked: frozenset[str] = frozenset()) -> dict[str, Belief]:
    """Re-estimate priors from the current posteriors and re-base every posterior; see `GLMix.refresh_priors`.

    Diagonal and low-rank blocks, whose priors are variances, take the diagonal of the joint estimate. A low-rank block
    of more than 4,096 coefficients and one named in `locked` keep theirs and are missing from what is returned.
    """
    changed = {}
    fixed = {column for block in blocks if isinstance(block.effect, Fixed) for column in block.columns}
    for block in blocks:
        touched = np.flatnonzero(block.counts[: block.entities] > 0)
        if block.name in locked or isinstance(block.effect, Fixed) or len(touched) < least or _too_wide(block):
            continue
        # On a column of the fixed effect the mean over entities is its to carry: moving it here would count it twice.
        free = np.array([column not in fixed for column in block.columns], dtype=np.bool_)
        moves = free & (not isinstance(block.effect, Loadings))
        belief = em_belief(block, touched, "full" if block.kind == FULL else "diagonal", mean=moves)
        rebase(block, belief)
        changed[block.name] = belief
    return changed


def _too_wide(block: Block) -> bool:
    return block.kind == LOWRANK and block.d > WIDEST


def posteriors(block: Block, entities: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """(θ_e, V_e) of some entities in float64: (E, d) and (E, d, d), or (E, d) variances unless the block is full."""
    theta = block.mean[entities].astype(np.float64)
    cov = block.cov[entities].astype(np.float64)
    if block.kind == LOWRANK:
        return theta, _lowrank_rows.variances(cov, block.d, block.kmax)
    if block.kind == DIAGONAL:
        return theta, cov
    j, k = np.indices((block.d, block.d))
    place = np.maximum(j, k) * (np.maximum(j, k) + 1) // 2 + np.minimum(j, k)
    return theta, cov[:, place]


def _in_chunks(entities: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Parts small enough that their unpacked covariances stay in cache and out of the way."""
    return [entities[start : start + CHUNK] for start in range(0, len(entities), CHUNK)]


def em_belief(block: Block, entities: NDArray[np.int64], structure: str, *, mean: bool | NDArray[np.bool_]) -> Belief:
    """One expectation-maximisation step over the prior of a block; a low-rank one has no joint prior to learn.

    `mean` says whether, or for which dimensions, the prior mean moves too.
    """
    if _too_wide(block):
        raise ConfigError(
            f"effect {block.name!r}: a prior for {block.d:,} coefficients takes too much memory; use structure='scalar'"
        )
    structure = "diagonal" if block.kind == LOWRANK and structure == "full" else structure
    total_mean, total_V, total_square = np.zeros(block.d), np.zeros((block.d, block.d)), np.zeros((block.d, block.d))
    for part in _in_chunks(entities):
        theta, V = posteriors(block, part)
        total_mean += theta.sum(axis=0)
        total_square += theta.T @ theta
        total_V += V.sum(axis=0) if block.kind == FULL else np.diag(V.sum(axis=0))
    n, average = len(entities), total_mean / len(entities)
    mu0 = np.where(mean, average, block.belief.mu0(block.columns))
    spread = total_square / n - np.outer(average, mu0) - np.outer(mu0, average) + np.outer(mu0, mu0)
    return replace(block.belief, mean=mu0, covariance=shape(total_V / n + spread, structure, n))


def shape(second: Floats, structure: str, entities: int) -> Floats:
    """A prior covariance of the wanted structure; the full one leans on its diagonal where entities are few."""
    diagonal = np.diag(np.diagonal(second))
    if structure == "scalar":
        return np.eye(len(second)) * float(np.diagonal(second).mean())
    if structure == "diagonal":
        return diagonal
    d = len(second)
    lean = d / (d + entities)
    return (1 - lean) * second + lean * diagonal


def rebase(block: Block, belief: Belief) -> None:
    """Move every posterior of a block to a new prior, keeping what its data said: J = H − Λ0, j = Hθ − Λ0 μ0."""
    n = block.entities
    old_mu0, old0 = block.prior_arrays()
    old_precision = 1.0 / block.belief.variance0(block.columns)
    block.belief = belief
    mu0, cov0 = block.prior_arrays()
    touched = np.flatnonzero(block.counts[:n] > 0)
    untouched = np.flatnonzero(block.counts[:n] <= 0)
    block.mean[untouched], block.cov[untouched] = mu0, cov0
    for part in _in_chunks(touched):
        if block.kind == LOWRANK:
            _rebase_rows(block, part, (old_mu0, old_precision))
            continue
        block.mean[part], block.cov[part] = _rebased(block, part, (old_mu0, old0), (mu0, cov0))


def _rebased(
    block: Block, part: NDArray[np.int64], old: tuple[Floats, Floats], new: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    theta, V = posteriors(block, part)
    if block.kind == DIAGONAL:
        H = 1 / V - 1 / old[1] + 1 / new[1]
        return (theta / V - old[0] / old[1] + new[0] / new[1]) / H, 1 / H
    Lambda_old, Lambda_new = np.linalg.inv(unpack(old[1])), np.linalg.inv(unpack(new[1]))
    P = np.linalg.inv(V)
    H = P - Lambda_old + Lambda_new
    # Random-walk noise can leave a posterior less sure than its old prior in some direction: it keeps what it has.
    sound = _definite(H - 0.5 * Lambda_new)
    H[~sound] = P[~sound]
    H_inverse = np.linalg.inv(H)
    j = np.einsum("eij,ej->ei", P, theta) - Lambda_old @ old[0] + Lambda_new @ new[0]
    rows, cols = np.tril_indices(block.d)
    mean = np.where(sound[:, None], np.einsum("eij,ej->ei", H_inverse, j), theta)
    return mean, np.where(sound[:, None], H_inverse[:, rows, cols], V[:, rows, cols])


def _definite(matrices: Floats) -> NDArray[np.bool_]:
    """Which of many symmetric matrices (E, d, d) are positive definite (E)."""
    try:
        np.linalg.cholesky(matrices)
        return np.ones(len(matrices), dtype=np.bool_)
    except np.linalg.LinAlgError:
        if len(matrices) == 1:
            return np.zeros(1, dtype=np.bool_)
        half = len(matrices) // 2
        return np.concatenate([_definite(matrices[:half]), _definite(matrices[half:])])


def _rebase_rows(block: Block, part: NDArray[np.int64], old: tuple[Floats, Floats]) -> None:
    """Re-base low-rank posteriors in place: only h and the mean change, h ← h − Λ0_old + Λ0_new."""
    mu0, precision = block.belief.mu0(block.columns), 1.0 / block.belief.variance0(block.columns)
    rows = block.cov[part].astype(np.float64)
    for e, H in zip(part, _lowrank_rows.unpacked(rows, block.d, block.kmax)):
        theta = block.mean[e].astype(np.float64)
        # A random walk may have taken h below the prior's precision.
        new = LowRank(np.maximum(H.h - old[1], 0.0) + precision, H.Q)
        j = H.h * theta + H.Q @ (H.Q.T @ theta) - old[1] * old[0] + precision * mu0
        block.mean[e], block.cov[e] = new.solve(j), pack(new, block.kmax)
