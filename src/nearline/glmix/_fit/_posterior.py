"""The posterior of the fixed effect at its mode: what of H = Λ0 + Xᵀ W X a block's kind of posterior keeps.

L1 and bounds move the mode and count for nothing in H.

=========  ==================================================  ====================================
posterior  up to 2,000 coefficients (`variances="exact"`:      beyond
           up to 5,000)
=========  ==================================================  ====================================
full       H⁻¹                                                 H⁻¹
lowrank    `rank` directions, diag(H⁻¹) right                  `rank` directions, diag(H) right
diagonal   1/H_jj, a lower bound, or diag(H⁻¹) if "exact"      1/H_jj
=========  ==================================================  ====================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearline._errors import ConfigError
from nearline.glmix import _lowrank, _lowrank_rows
from nearline.glmix._codes import DIAGONAL, FULL, LOWRANK
from nearline.glmix._fit._newton import Problem
from nearline.glmix._fit._settings import FixedFit
from nearline.glmix._lowrank import LowRank
from nearline.glmix._packed import diagonal_indices, pack
from nearline.glmix._state import Block

Floats = NDArray[np.float64]

SMALL, EXACT = 2_000, 5_000
EXACTLY, LOW_RANK, MATCHED = "exact", "low rank, diag(H) exact", "low rank, marginals exact"
LOWER_BOUND, NONE = "diagonal (a lower bound)", "none (the prior's)"
MATCHING = 200
SPARE, POWERS = 8, 3


@dataclass(frozen=True, slots=True)
class Posterior:
    """A row of the block's `cov`, and log|H| as far as that is known."""

    row: NDArray[Any]
    log_determinant: float


def label(block: Block, settings: FixedFit) -> str:
    """What the variances of a block's posterior are.

    Raises
    ------
    ConfigError
        When exact variances are asked for of more than 5,000 coefficients.
    """
    wanted, d = settings.variances, block.d
    if wanted == "exact" and d > EXACT and block.kind != FULL:
        raise ConfigError(
            f"FixedFit(variances='exact') inverts a matrix of {d:,} coefficients, at most {EXACT:,}; use 'diagonal'"
        )
    if wanted == "none":
        return NONE
    if wanted == "diagonal" or (block.kind == DIAGONAL and wanted == "auto"):
        return LOWER_BOUND
    if block.kind != LOWRANK:
        return EXACTLY
    return MATCHED if d <= (EXACT if wanted == "exact" else SMALL) else LOW_RANK


def of(block: Block, problem: Problem, curvature: Floats, settings: FixedFit) -> Posterior:
    """The posterior of a block from w∘D (n) at its mode.

    Raises
    ------
    numpy.linalg.LinAlgError
        When H is not positive definite.
    """
    kind = label(block, settings)
    if kind == NONE:
        return Posterior(block.cov[0].copy(), float(np.log(_diagonal(problem, curvature)).sum()))
    if kind == LOWER_BOUND:
        h = _diagonal(problem, curvature)
        return Posterior(_variance_row(block, 1.0 / h), float(np.log(h).sum()))
    if kind != LOW_RANK:
        return _dense(block, problem.hessian(curvature))
    found = _directions(problem, curvature, block.effect.rank)
    return Posterior(_lowrank.pack(found, block.kmax), found.log_determinant())


def _diagonal(problem: Problem, curvature: Floats) -> Floats:
    """diag(H) (d)."""
    from nearline.glmix._kernels._csr import squares

    P = problem.precision
    h = (P if P.ndim == 1 else np.diagonal(P)).astype(np.float64)
    design = problem.design
    squares(design.indptr, design.indices, design.values, curvature, np.zeros(problem.d), h)
    return h


def _variance_row(block: Block, v: Floats) -> NDArray[Any]:
    """Variances v (d) as the block's kind stores independent ones."""
    if block.kind == DIAGONAL:
        return v
    if block.kind == FULL:
        row = np.zeros(block.cov_size)
        row[diagonal_indices(block.d)] = v
        return row
    return _lowrank.pack(LowRank.prior(1.0 / v), block.kmax)


def _dense(block: Block, H: Floats) -> Posterior:
    """From the whole of H, inverted with its diagonal scaled to 1, which is what limits its accuracy."""
    root = np.sqrt(np.diagonal(H))
    L = np.linalg.cholesky(H / np.outer(root, root))
    V = np.linalg.inv(L)
    V = (V.T @ V) / np.outer(root, root)
    log_determinant = 2.0 * float(np.log(np.diagonal(L)).sum() + np.log(root).sum())
    if block.kind == FULL:
        return Posterior(pack(V), log_determinant)
    if block.kind == DIAGONAL:
        return Posterior(np.diagonal(V).copy(), log_determinant)
    prior = 1.0 / block.belief.variance0(block.columns)
    found = matched(_lowrank_rows.from_precision(H, prior, block.effect.rank), np.diagonal(V), prior)
    return Posterior(_lowrank.pack(found, block.kmax), log_determinant)


def matched(H: LowRank, v: Floats, prior: Floats) -> LowRank:
    """H with its diagonal part changed until the marginal variances are v (d); it stays above the prior's precision.

        h_j ← max(h_j (H⁻¹)_jj / v_j, Λ0_jj)

    Examples
    --------
    >>> H = LowRank(np.array([2.0, 2.0]), np.ones((2, 1)))
    >>> matched(H, np.array([0.25, 0.25]), np.ones(2)).variances().round(9).tolist()
    [0.25, 0.25]
    """
    for _ in range(MATCHING):
        ratio = H.variances() / v
        if np.abs(ratio - 1.0).max(initial=0.0) < 1e-10:
            break
        H = LowRank(np.maximum(H.h * ratio, prior), H.Q)
    return H


def _directions(problem: Problem, curvature: Floats, rank: int) -> LowRank:
    """The directions in which data moved H most, by power iterations on a block of vectors (Halko et al. 2011).

    As `from_precision`, without ever forming H.
    """
    root, product = np.sqrt(problem.precision), problem.product(curvature)

    def moved(B: Floats) -> Floats:
        return np.column_stack([product(b / root) / root - b for b in B.T])

    B = np.random.default_rng(0).standard_normal((problem.d, rank + SPARE))
    for _ in range(POWERS):
        B = np.linalg.qr(moved(B))[0]
    s, U = np.linalg.eigh(B.T @ moved(B))
    top = np.argsort(-s)[:rank]
    top = top[s[top] > 1e-12 * max(float(s.max(initial=0.0)), 1.0)]
    Q = root[:, None] * (B @ U[:, top]) * np.sqrt(s[top])
    h = _diagonal(problem, curvature) - np.square(Q).sum(axis=1)
    return LowRank(np.maximum(h, problem.precision), Q)
