"""Products βᵀγ in a batch fit: each side is solved with what is not known of the other (variational Bayes).

Under independent q(β) = N(μ, V) and q(γ) = N(ν, C), and to second order, a row with η = βᵀ(z + γ) costs what it costs
at the means and

    ½ w D(η) [(z + γ)ᵀ V (z + γ) + μᵀ C μ + tr(V C)]

so that the other side's covariance enters a solve's precision, E[β βᵀ] = μ μᵀ + V. With point estimates on both sides
each would explain the other's noise. An entity e is solved under the prior

    P_e = Λ0 + Σ_{n of e} w_n D(η_n) V_{other(n)},    m_e = P_e⁻¹ (Λ0 μ0 − Σ_{n of e} w_n D(η_n) V_{other(n)} z_n)

with z_n what the other side acts on beside e (for β nothing).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearline.glmix import _lowrank_rows
from nearline.glmix._block import Grouping
from nearline.glmix._codes import DIAGONAL, FULL, LOWRANK
from nearline.glmix._lowrank import LowRank, pack
from nearline.glmix._packed import diagonal_indices, unpack
from nearline.glmix._packed import pack as packed
from nearline.glmix._state import Block

Floats = NDArray[np.float64]
Codes = NDArray[np.int32]

# Numbers held at a time: covariances of many rows are summed in pieces.
PIECE = 1 << 21


@dataclass(frozen=True, slots=True)
class Partner:
    """The other side of a product: its block, its entity of each row (n), and what else it acts on (n, d), or None."""

    block: Block
    codes: Codes
    beside: Floats | None


def set_priors(block: Block, grouping: Grouping, partners: Sequence[Partner], curvature: Floats) -> None:
    """Leave every entity that has rows at its prior (m_e, P_e⁻¹); `curvature` is w D(η) (n)."""
    full, mu0 = block.kind == FULL, block.belief.mu0(block.columns)
    base = np.linalg.inv(block.belief.V0(block.columns)) if full else 1.0 / block.belief.variance0(block.columns)
    for part, rows, starts in _pieces(grouping, block.d, full):
        P = np.tile(base, (part.stop - part.start,) + (1,) * base.ndim)
        j = np.tile(base @ mu0 if full else base * mu0, (part.stop - part.start, 1))
        for partner in partners:
            V = curvature[rows, None] * _covariances(partner.block, partner.codes[rows], full)
            R = np.add.reduceat(V, starts)
            P += unpack(R) if full else R
            if partner.beside is not None:
                z = partner.beside[rows]
                j -= np.add.reduceat(np.einsum("nij,nj->ni", unpack(V), z) if full else V * z, starts)
        prior = np.asarray(np.linalg.inv(P) if full else 1.0 / P, np.float64)
        entities = grouping.codes[part]
        block.mean[entities] = np.einsum("eij,ej->ei", prior, j) if full else prior * j
        block.cov[entities] = _stored(block, prior, P)


def evidence_short_of(block: Block, grouping: Grouping, mean: NDArray[Any], cov: NDArray[Any]) -> float:
    """What the log evidence of solves under (mean, cov), as `set_priors` left them, is short of.

    At the optimum of a product the expected loss adds up so that Σ_e log N(θ_e; μ0, Λ0⁻¹) − ½ log|H_e| remains.
    """
    mu0, full, total = block.belief.mu0(block.columns), block.kind == FULL, 0.0
    if block.kind == LOWRANK:
        cov = _lowrank_rows.variances(cov, block.d, block.kmax)
    V0 = block.belief.V0(block.columns) if full else block.belief.variance0(block.columns)
    for part, _, _ in _pieces(grouping, block.d, full):
        theta = block.mean[grouping.codes[part]].astype(np.float64)
        stored = cov[part].astype(np.float64)
        V = np.asarray(unpack(stored) if full else stored, np.float64)
        total += _quadratic(V, theta - mean[part], full) - _quadratic(np.broadcast_to(V0, V.shape), theta - mu0, full)
    return 0.5 * total


def _quadratic(V: Floats, x: Floats, full: bool) -> float:
    """Σ_e x_eᵀ V_e⁻¹ x_e + log|V_e|."""
    if not full:
        return float((x * x / V + np.log(V)).sum())
    return float((x * np.linalg.solve(V, x[..., None])[..., 0]).sum() + np.linalg.slogdet(V)[1].sum())


def shared(block: Block, codes: Codes, other: Block, others: Codes, curvature: Floats) -> float:
    """½ Σ_n w_n D(η_n) tr(V_n C_n), which the log evidence of a product gains."""
    step, total, diagonal = max(1, PIECE // (block.d * block.d + 1)), 0.0, diagonal_indices(block.d)
    for start in range(0, len(codes), step):
        part = slice(start, start + step)
        both = _covariances(block, codes[part], True) * _covariances(other, others[part], True)
        total += float(curvature[part] @ (both.sum(axis=1) - 0.5 * both[:, diagonal].sum(axis=1)))
    return total


def _pieces(grouping: Grouping, d: int, full: bool) -> Iterator[tuple[slice, NDArray[np.int64], NDArray[np.int64]]]:
    """Consecutive entities whose rows' covariances fit in memory, their rows, and where each one's begin."""
    most, start, E, ptr = max(1, PIECE // (d * d if full else d)), 0, len(grouping.codes), grouping.ptr
    while start < E:
        stop = min(max(start + 1, int(np.searchsorted(ptr, ptr[start] + most, side="right")) - 1), E)
        yield slice(start, stop), grouping.order[ptr[start] : ptr[stop]], ptr[start:stop] - ptr[start]
        start = stop


def _covariances(block: Block, codes: Codes, full: bool) -> Floats:
    """Covariances of entities, packed, or their diagonals."""
    if block.kind == FULL:
        cov = block.cov[codes].astype(np.float64)
        return cov if full else cov[:, diagonal_indices(block.d)]
    own, which = np.unique(codes, return_inverse=True)
    cov = block.cov[own].astype(np.float64)
    variances = cov if block.kind == DIAGONAL else _lowrank_rows.variances(cov, block.d, block.kmax)
    if not full:
        return np.asarray(variances[which])
    out = np.zeros((len(codes), block.d * (block.d + 1) // 2))
    out[:, diagonal_indices(block.d)] = variances[which]
    return out


def _stored(block: Block, V: NDArray[Any], P: NDArray[Any]) -> Floats:
    """Covariances as a block stores them."""
    if block.kind == LOWRANK:
        return np.stack([pack(LowRank.prior(h), block.kmax) for h in P])
    return np.asarray(packed(V) if block.kind == FULL else V, np.float64)
