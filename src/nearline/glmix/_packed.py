"""Symmetric matrices as packed lower triangles, row by row: entry (j, k ≤ j) lies at j(j+1)/2 + k.

Row by row, a new dimension is appended and no stored number moves.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearline._errors import StateError

Floats = NDArray[np.floating[Any]]


def packed_size(d: int) -> int:
    """Numbers in a packed d × d symmetric matrix, d(d+1)/2.

    Examples
    --------
    >>> packed_size(31)
    496
    """
    return d * (d + 1) // 2


def dimension(size: int) -> int:
    """The d whose packed size is `size`, the inverse of `packed_size`.

    Raises
    ------
    StateError
        When no d has that size.

    Examples
    --------
    >>> dimension(496)
    31
    """
    d = (math.isqrt(8 * size + 1) - 1) // 2
    if packed_size(d) != size:
        raise StateError(f"a packed symmetric matrix cannot hold {size} numbers; the nearest size is {packed_size(d)}")
    return d


def diagonal_indices(d: int) -> NDArray[np.int64]:
    """Positions of the diagonal, j(j+3)/2 for j = 0 … d−1.

    Examples
    --------
    >>> diagonal_indices(4).tolist()
    [0, 2, 5, 9]
    """
    j = np.arange(d, dtype=np.int64)
    return j * (j + 3) // 2


def pack(matrix: Floats) -> Floats:
    """Lower triangle of a symmetric (…, d, d) matrix as (…, d(d+1)/2), row by row.

    Examples
    --------
    >>> pack(np.array([[1.0, 2.0], [2.0, 3.0]])).tolist()
    [1.0, 2.0, 3.0]
    """
    rows, columns = np.tril_indices(matrix.shape[-1])
    return matrix[..., rows, columns]


def unpack(packed: Floats) -> Floats:
    """Symmetric (…, d, d) matrix of a packed (…, d(d+1)/2) lower triangle; the inverse of `pack`.

    Examples
    --------
    >>> unpack(np.array([1.0, 2.0, 3.0])).tolist()
    [[1.0, 2.0], [2.0, 3.0]]
    """
    d = dimension(packed.shape[-1])
    rows, columns = np.tril_indices(d)
    matrix = np.empty((*packed.shape[:-1], d, d), dtype=packed.dtype)
    matrix[..., rows, columns] = packed
    matrix[..., columns, rows] = packed
    return matrix


def packed_diagonal(values: Floats) -> Floats:
    """Packed diagonal matrix with `values` (…, d) on its diagonal.

    Examples
    --------
    >>> packed_diagonal(np.array([1.0, 2.0])).tolist()
    [1.0, 0.0, 2.0]
    """
    d = values.shape[-1]
    packed = np.zeros((*values.shape[:-1], packed_size(d)), dtype=values.dtype)
    packed[..., diagonal_indices(d)] = values
    return packed


def embed(packed: Floats, d_old: int, d_new: int, prior_packed: Floats) -> Floats:
    """Covariance grown from d_old to d_new dimensions whose new ones have seen no data.

    With V0 the prior split into old (o) and new (n) dimensions and B = V0_no V0_oo⁻¹,

        V_no = B V_oo,    V_nn = V0_nn + B (V_oo − V0_oo) Bᵀ

    the exact posterior when the data spoke of the old dimensions only; a diagonal prior has B = 0. `packed` is
    (…, d_old(d_old+1)/2), `prior_packed` the prior over all d_new dimensions; the result keeps packed's dtype.

    Raises
    ------
    StateError
        When a size does not match its dimension, or d_new < d_old.

    Examples
    --------
    >>> embed(np.array([4.0]), 1, 2, packed_diagonal(np.array([1.0, 0.5]))).tolist()
    [4.0, 0.0, 0.5]
    """
    old, new = packed_size(d_old), packed_size(d_new)
    if packed.shape[-1] != old or prior_packed.shape != (new,) or d_new < d_old:
        raise StateError(
            f"cannot grow {packed.shape[-1]} packed numbers from {d_old} to {d_new} dimensions with a prior of "
            f"shape {prior_packed.shape}; it needs {old} numbers and a prior of shape ({new},)"
        )
    grown = np.empty((*packed.shape[:-1], new), dtype=packed.dtype)
    grown[..., :old] = packed
    grown[..., old:] = prior_packed[old:]
    if not _is_block_diagonal(prior_packed, d_old, d_new):
        grown[..., old:] = _conditional_rows(packed, d_old, d_new, prior_packed)
    return grown


def embed_mean(mean: Floats, d_new: int, prior_mean: Floats, prior_packed: Floats) -> Floats:
    """Mean grown to d_new dimensions: μ_n = μ0_n + B (μ_o − μ0_o), with B as in `embed`.

    Examples
    --------
    >>> embed_mean(np.array([2.0]), 2, np.array([0.0, 0.5]), packed_diagonal(np.ones(2))).tolist()
    [2.0, 0.5]
    """
    d_old = mean.shape[-1]
    grown = np.empty((*mean.shape[:-1], d_new), dtype=mean.dtype)
    grown[..., :d_old] = mean
    shift = (mean - prior_mean[:d_old]) @ _regression(prior_packed, d_old).T
    grown[..., d_old:] = prior_mean[d_old:] + shift
    return grown


def _is_block_diagonal(prior_packed: Floats, d_old: int, d_new: int) -> bool:
    starts = packed_size(0) + np.array([packed_size(j) for j in range(d_old, d_new)], dtype=np.int64)
    return not prior_packed[starts[:, None] + np.arange(d_old)].any()


def _regression(prior_packed: Floats, d_old: int) -> Floats:
    prior = unpack(prior_packed)
    return np.linalg.solve(prior[:d_old, :d_old], prior[:d_old, d_old:]).T


def _conditional_rows(packed: Floats, d_old: int, d_new: int, prior_packed: Floats) -> Floats:
    B, V, V0 = _regression(prior_packed, d_old), unpack(packed), unpack(prior_packed)
    full = np.zeros((*packed.shape[:-1], d_new, d_new))
    full[..., d_old:, :d_old] = B @ V
    full[..., d_old:, d_old:] = V0[d_old:, d_old:] + B @ (V - V0[:d_old, :d_old]) @ B.T
    return pack(full)[..., packed_size(d_old) :]
