"""Low-rank posteriors of many entities, a row of floats each: conversion, forgetting, variances and draws in NumPy.

`nearline.glmix._lowrank` has the mathematics of one entity and the layout of its row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearline.glmix._codes import REVERTING
from nearline.glmix._lowrank import LowRank, pack, unpack

Floats = NDArray[np.float64]


def kmax_of(rank: int) -> int:
    """Columns that a row has room for: an event appends one, and a full row is compressed to `rank`.

    Half as many again keeps compression, which costs more than an event, to one event in eight.

    Examples
    --------
    >>> kmax_of(16), kmax_of(4)
    (24, 12)
    """
    return rank + max(8, rank // 2)


def unpacked(rows: NDArray[Any], d: int, kmax: int) -> list[LowRank]:
    """The posterior of every row (E, row_size)."""
    return [unpack(row, d, kmax) for row in rows]


def packed(posteriors: list[LowRank], kmax: int) -> Floats:
    """Rows (E, row_size) in float64."""
    return np.stack([pack(H, kmax) for H in posteriors])


def variances(rows: NDArray[Any], d: int, kmax: int) -> Floats:
    """Marginal variances (E, d)."""
    return np.array([H.variances() for H in unpacked(rows, d, kmax)]).reshape(len(rows), d)


def draws(theta: Floats, rows: Floats, kmax: int, scale: float, xi: Floats) -> Floats:
    """Draws (size, E, d) of N(θ_e, scale H_e⁻¹) from standard normals xi (size, E, d + kmax)."""
    out = np.empty((len(xi), *theta.shape))
    for e, H in enumerate(unpacked(rows, theta.shape[1], kmax)):
        for k in range(len(xi)):
            out[k, e] = H.draw(theta[e], xi[k, e], scale)
    return out


def fold(form: int, delta: float, theta: Floats, H: LowRank, mu0: Floats, precision: Floats) -> tuple[Floats, LowRank]:
    """One entity's posterior, relaxed towards its prior N(mu0, diag(1/precision)); the twin of the compiled folds."""
    if form == REVERTING:
        return mu0 + delta * (theta - mu0), H.drifted(delta**2, (1.0 - delta**2) / precision)
    after = H.forgotten(delta, precision)
    return theta - after.solve((1.0 - delta) * precision * (theta - mu0)), after


def walked(H: LowRank, growth: Floats, precision: Floats) -> LowRank:
    """Random-walk variance added, never beyond the prior's."""
    noise = np.clip(np.minimum(growth, 1.0 / precision - H.variances()), 0.0, None)
    return H.drifted(1.0, noise) if noise.any() else H


def from_covariance(V: NDArray[Any], precision: Floats, rank: int) -> LowRank:
    """H ≈ V⁻¹ with base prior diag(precision): the `rank` directions in which data moved it most, and diag(H) exact.

    With Λ0 = diag(precision) and the eigenvectors U of Λ0^(−½) (H − Λ0) Λ0^(−½), of eigenvalues s,

        Q = Λ0^(½) U √s,    h = diag(H) − diag(Q Qᵀ),    s > 0 and the largest only

    Examples
    --------
    >>> V = np.linalg.inv([[2.0, 1.0], [1.0, 2.0]])
    >>> from_covariance(V, np.ones(2), rank=1).precision().round(9).tolist()
    [[2.0, 1.0], [1.0, 2.0]]
    """
    return from_precision(np.linalg.inv(V), precision, rank)


def from_precision(H: Floats, precision: Floats, rank: int) -> LowRank:
    """As `from_covariance`, from H itself.

    Examples
    --------
    >>> from_precision(np.array([[2.0, 1.0], [1.0, 2.0]]), np.ones(2), rank=1).precision().round(9).tolist()
    [[2.0, 1.0], [1.0, 2.0]]
    """
    root = np.sqrt(precision)
    s, U = np.linalg.eigh((H - np.diag(precision)) / np.outer(root, root))
    top = np.argsort(-s)[:rank]
    top = top[s[top] > 1e-12 * max(float(s.max(initial=0.0)), 1.0)]
    Q = root[:, None] * U[:, top] * np.sqrt(s[top])
    return LowRank(np.maximum(np.diagonal(H) - np.square(Q).sum(axis=1), precision), Q)
