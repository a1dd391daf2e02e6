"""Low-rank plus diagonal posteriors: precision H = diag(h) + Q Qᵀ over d coefficients, Q d × k with k a few tens.

For wide effects, where a full covariance (d²/2 numbers) is too large: d from about 100 to 10,000. Every use of the
posterior goes through Woodbury's identity with the k × k matrix M:

    M = I + Qᵀ diag(1/h) Q,    H⁻¹ = diag(1/h) − diag(1/h) Q M⁻¹ Qᵀ diag(1/h),    log|H| = Σ log h_j + log|M|

An event with design x moves the mean by a H⁻¹ x, which touches every coordinate that shares a column with x: O(d k).
Beyond d of about 10,000 that is too slow for one event; use a diagonal posterior there, which touches nnz coordinates.

**One event, several blocks.** The joint update of all blocks is S −= c v vᵀ with v = S x, c = wD / (1 + wD s) and
s = Σ_b s_b. Block b keeps S_b − c v_b v_bᵀ, and by Sherman and Morrison, as H_b v_b = x_b,

    (S_b − c v_b v_bᵀ)⁻¹ = H_b + ω_b x_b x_bᵀ,    ω_b = c / (1 − c s_b) = wD / (1 + wD (s − s_b))

so the other blocks' uncertainty acts as noise on the observation, and the update appends the column √ω_b x_b to Q.

**Compression.** With Q at its widest, diag(h)^(−1/2) Q keeps its `rank` largest singular directions: with V the
eigenvectors of M, Q ← Q V[:, :rank], and h grows by the diagonal of what is dropped, so that diag(H) stays exact. No
ordering against H is implied, but H − diag(Λ0) stays positive semidefinite, so no sequence of events can break H.

**The row.** The compiled kernels (`nearline.glmix._kernels._lowrank`) keep one entity in one row of `row_size(d, kmax)`
floats, which grows at its end with d:

    [k | L, T numbers | L's rounding errors, T numbers | Q_0, h_0 | Q_1, h_1 | … | Q_d−1, h_d−1]

with k the columns in use, L Lᵀ = M packed row by row (T = kmax (kmax + 1) / 2), and kmax numbers per Q_j, which are
zero from k on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from nearline._errors import ConfigError, StateError

Floats = NDArray[np.float64]
Storage = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False, slots=True)
class LowRank:
    """Precision H = diag(h) + Q Qᵀ of one coefficient vector; the NumPy reference of the compiled kernels.

    Attributes
    ----------
    h : (d) floats
        Base precision plus what compression has moved to the diagonal; positive.
    Q : (d, k) floats
        One column √ω x per event, until compressed.

    Examples
    --------
    >>> H = LowRank.prior([1.0, 4.0]).appended([[1.0, 1.0]], [2.0])
    >>> H.precision().round(12).tolist()
    [[3.0, 2.0], [2.0, 6.0]]
    >>> H.solve(np.array([5.0, 8.0])).round(12).tolist()
    [1.0, 1.0]
    """

    h: Floats
    Q: Floats

    @classmethod
    def prior(cls, precision: ArrayLike) -> LowRank:
        """The base prior, H = diag(precision)."""
        h = np.asarray(precision, dtype=np.float64)
        return cls(h, np.zeros((h.size, 0)))

    def precision(self) -> Floats:
        """H as a dense d × d matrix."""
        return np.diag(self.h) + self.Q @ self.Q.T

    def core(self) -> Floats:
        """M = I + Qᵀ diag(1/h) Q, k × k."""
        return np.asarray(np.eye(self.Q.shape[1]) + self.Q.T @ (self.Q / self.h[:, None]))

    def solve(self, y: Floats) -> Floats:
        """H⁻¹ y by Woodbury's identity, y of shape (d)."""
        z = y / self.h
        return np.asarray(z - self.Q @ np.linalg.solve(self.core(), self.Q.T @ z) / self.h)

    def variances(self) -> Floats:
        """Marginal variances diag(H⁻¹) = 1/h − (row sums of Q M⁻¹ ∘ Q) / h²."""
        explained = np.einsum("jk,jk->j", np.linalg.solve(self.core(), self.Q.T).T, self.Q)
        return np.asarray(1.0 / self.h - explained / self.h**2)

    def log_determinant(self) -> float:
        """Log-determinant of the precision, log |H| = Σ log h_j + log |M|."""
        return float(np.log(self.h).sum() + np.linalg.slogdet(self.core())[1])

    def draw(self, mean: Floats, xi: Floats, scale: float = 1.0) -> Floats:
        """A draw of N(mean, scale H⁻¹) from standard normals ξ = (ξ₁, ξ₂) of shape (d + k), by perturb and solve.

        y = √h ∘ ξ₁ + Q ξ₂ has covariance H, so mean + √scale H⁻¹ y has covariance scale H⁻¹, exactly
        (Papandreou and Yuille 2010).

        Examples
        --------
        >>> LowRank.prior([4.0]).draw(np.array([1.0]), np.array([3.0])).tolist()
        [2.5]
        """
        d = self.h.size
        y = np.sqrt(self.h) * xi[:d] + self.Q @ xi[d : d + self.Q.shape[1]]
        return np.asarray(mean + np.sqrt(scale) * self.solve(y))

    def appended(self, X: ArrayLike, weight: ArrayLike) -> LowRank:
        """H + Σ_n weight_n x_n x_nᵀ for the rows x_n of X (n, d): one more column per row."""
        new = np.asarray(X, dtype=np.float64).T * np.sqrt(np.asarray(weight, dtype=np.float64))
        return LowRank(self.h, np.hstack([self.Q, new]))

    def compressed(self, rank: int) -> LowRank:
        """At most `rank` columns, by singular values of diag(h)^(−1/2) Q; diag(H) is unchanged.

        Examples
        --------
        >>> H = LowRank.prior([1.0, 1.0]).appended([[2.0, 0.0], [1.0, 1.0]], [1.0, 1.0])
        >>> H.compressed(1).precision().diagonal().round(12).tolist()
        [6.0, 2.0]
        """
        if self.Q.shape[1] <= rank:
            return self
        V = np.linalg.eigh(self.core())[1][:, ::-1]
        turned = self.Q @ V
        return LowRank(self.h + np.square(turned[:, rank:]).sum(axis=1), turned[:, :rank])

    def forgotten(self, delta: float, prior: Floats) -> LowRank:
        """Stabilised forgetting H ← δ H + (1−δ) diag(prior): h ← Λ0 + δ (h − Λ0), Q ← √δ Q."""
        return LowRank(prior + delta * (self.h - prior), np.sqrt(delta) * self.Q)

    def drifted(self, keep: float, noise: Floats) -> LowRank:
        """Additive drift H⁻¹ ← keep H⁻¹ + diag(noise), exact and of the same rank.

        The covariance is E − F Fᵀ with E = diag(1/h); so is the drifted one, with keep E + diag(noise) and √keep F.
        Back in precision form, with R = I + Qᵀ diag(noise / (keep + h noise)) Q = C Cᵀ:

            h ← h / (keep + h noise),    Q ← diag(√keep / (keep + h noise)) Q C⁻ᵀ

        Reversion to the prior with coefficient a is keep = a², noise = (1 − a²) / Λ0; a random walk is keep = 1.

        Examples
        --------
        >>> H = LowRank.prior([1.0]).appended([[1.0]], [1.0]).drifted(1.0, np.array([0.5]))
        >>> float(H.variances()[0].round(12))
        1.0
        """
        shrink = 1.0 / (keep + self.h * noise)
        C = np.linalg.cholesky(np.eye(self.Q.shape[1]) + self.Q.T @ (self.Q * (noise * shrink)[:, None]))
        turned = np.linalg.solve(C, self.Q.T).T
        return LowRank(self.h * shrink, np.sqrt(keep) * shrink[:, None] * turned)

    def grown(self, precision: ArrayLike) -> LowRank:
        """Appended dimensions at the prior: h gains `precision`, Q gains zero rows."""
        more = np.atleast_1d(np.asarray(precision, dtype=np.float64))
        return LowRank(np.concatenate([self.h, more]), np.vstack([self.Q, np.zeros((more.size, self.Q.shape[1]))]))


def block_weight(curvature: float, s_total: float, s_block: float) -> float:
    """Precision ω_b that one block gains along x_b from a joint update of all blocks, curvature = wD.

        ω_b = c / (1 − c s_b) = wD / (1 + wD (s_total − s_block)),    c = wD / (1 + wD s_total)

    Examples
    --------
    >>> block_weight(0.25, s_total=4.0, s_block=4.0), block_weight(0.25, s_total=4.0, s_block=0.0)
    (0.25, 0.125)
    """
    return curvature / (1.0 + curvature * max(s_total - s_block, 0.0))


def row_size(d: int, kmax: int) -> int:
    """Floats in one entity's row: 1 + kmax (kmax + 1) + d (kmax + 1).

    Examples
    --------
    >>> row_size(300, kmax=24)
    8101
    """
    return (1 + kmax * (kmax + 1)) + d * (kmax + 1)


def scratch_size(d: int, kmax: int, n: int = 0) -> int:
    """Float64 numbers of scratch that the kernels need; n is the rows of the largest minibatch (0: events only).

    Examples
    --------
    >>> scratch_size(300, kmax=24), scratch_size(300, kmax=24, n=100)
    (1848, 25048)
    """
    return 4 * kmax + 2 * kmax * kmax + 2 * d + n * (2 * n + 8 + kmax)


def pack(posterior: LowRank, kmax: int, dtype: DTypeLike = np.float64) -> Storage:
    """One posterior as the row that the kernels work on; the factor L is that of the numbers as stored.

    Raises
    ------
    ConfigError
        When the posterior has more than kmax columns.

    Examples
    --------
    >>> pack(LowRank.prior([5.0]), kmax=1).tolist()
    [0.0, 0.0, 0.0, 0.0, 5.0]
    """
    d, k = posterior.Q.shape
    if k > kmax:
        raise ConfigError(f"kmax={kmax} is too small for {k} columns; compress the posterior first")
    row = np.zeros(row_size(d, kmax), dtype=dtype)
    row[0] = k
    records = _records(row, d, kmax)
    records[:, :k], records[:, kmax] = posterior.Q, posterior.h
    L = np.linalg.cholesky(unpack(row, d, kmax).core())[np.tril_indices(k)]
    high, low = row[1:][: L.size], row[1 + kmax * (kmax + 1) // 2 :][: L.size]
    high[:] = L
    low[:] = L - high
    return row


def unpack(row: Storage, d: int, kmax: int) -> LowRank:
    """The posterior that a row holds, copied to float64.

    Raises
    ------
    StateError
        When the row is too short for d and kmax, or its count of columns is not in 0 … kmax.

    Examples
    --------
    >>> unpack(pack(LowRank.prior([5.0, 2.0]), kmax=3), d=2, kmax=3).h.tolist()
    [5.0, 2.0]
    """
    if row.size < row_size(d, kmax) or not 0 <= row[0] <= kmax:
        raise StateError(f"a row of {row.size} floats does not hold a low-rank posterior with d={d}, kmax={kmax}")
    records = _records(row, d, kmax).astype(np.float64)
    return LowRank(records[:, kmax].copy(), records[:, : int(row[0])].copy())


def grow(rows: Storage, d_old: int, d_new: int, kmax: int, precision: ArrayLike) -> Storage:
    """Rows (…, row_size(d_old, kmax)) lengthened to d_new dimensions, the new ones at the prior; no number moves.

    `precision` is the base prior's diagonal: one number, or d_new of them.

    Examples
    --------
    >>> rows = pack(LowRank.prior([5.0]), kmax=1)[None, :]
    >>> grow(rows, 1, 3, kmax=1, precision=2.0).tolist()
    [[0.0, 0.0, 0.0, 0.0, 5.0, 0.0, 2.0, 0.0, 2.0]]
    """
    longer = np.zeros((*rows.shape[:-1], row_size(d_new, kmax)), dtype=rows.dtype)
    kept = row_size(d_old, kmax)
    longer[..., :kept] = rows[..., :kept]
    longer[..., kept + kmax :: kmax + 1] = np.broadcast_to(precision, d_new)[d_old:]
    return longer


def _records(row: Storage, d: int, kmax: int) -> Storage:
    head = 1 + kmax * (kmax + 1)
    return row[head : head + d * (kmax + 1)].reshape(d, kmax + 1)
