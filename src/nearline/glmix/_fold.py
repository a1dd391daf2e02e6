"""What time and forgetting do to a posterior before new rows enter: pure folds (state) → Gaussian prior of one solve.

A state is a mean with a precision H (folds that forget) or a covariance V (folds that drift). No clock: elapsed times
come in, in the unit of the half-life. The compiled twins are in `nearline.glmix._kernels._folds`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearline._errors import ConfigError, StateError

Floats = NDArray[np.float64]


def time_factor(elapsed: ArrayLike, half_life: float) -> Floats:
    """Forgetting factor of a half-life in time, δ = 2^(−Δt/τ).

    A semigroup: the factors of Δ1 and Δ2 multiply to that of Δ1 + Δ2, so decaying lazily at the next touch is exact.
    Times that ran backwards count as Δt = 0 (see `late_factor`).

    Examples
    --------
    >>> float(time_factor(10.0, half_life=5.0))
    0.25
    """
    return np.asarray(np.exp2(-np.maximum(np.asarray(elapsed, dtype=np.float64), 0.0) / _positive(half_life)))


def count_factor(weight: ArrayLike, half_life: float) -> Floats:
    """Forgetting factor of a half-life in rows, δ = 2^(−Σw/ν), with Σw the weight of the rows since the last update.

    Examples
    --------
    >>> float(count_factor(3.0, half_life=3.0))
    0.5
    """
    return time_factor(weight, half_life)


def late_factor(lateness: ArrayLike, half_life: float) -> Floats:
    """Weight factor 2^(−s/τ) of a row older than the state by s; such a row decays nothing else.

    With the identity link any arrival order then gives the same state (specification, section 5.3).

    Examples
    --------
    >>> float(late_factor(5.0, half_life=5.0))
    0.5
    """
    return time_factor(lateness, half_life)


def drift_coefficient(elapsed: ArrayLike, growth: float, prior_precision: float) -> Floats:
    """Coefficient a of additive drift, a² = (1 − qλ)^Δt: variance grows by about q per unit of time, up to 1/λ.

    Raises
    ------
    ConfigError
        Unless 0 ≤ qλ < 1.

    Examples
    --------
    >>> float(drift_coefficient(2.0, growth=0.75, prior_precision=1.0))
    0.25
    """
    kept = 1.0 - growth * prior_precision
    if not 0.0 < kept <= 1.0:
        raise ConfigError(f"drift needs 0 <= growth * prior_precision < 1, not {growth} * {prior_precision}")
    return np.asarray(kept ** (0.5 * np.maximum(np.asarray(elapsed, dtype=np.float64), 0.0)))


def _positive(half_life: float) -> float:
    if not half_life > 0.0:
        raise ConfigError(f"a half-life must be positive, not {half_life}; use infinity to forget nothing")
    return half_life


def stabilised(theta: Floats, H: Floats, mu0: Floats, Lambda0: Floats, delta: float) -> tuple[Floats, Floats]:
    """Stabilised forgetting: the prior N(θ, H⁻¹)^δ · N(μ0, Λ0⁻¹)^(1−δ), normalised.

        P = δ H + (1−δ) Λ0,    m = P⁻¹ (δ H θ + (1−δ) Λ0 μ0)

    H ⪰ Λ0 stays so for ever; δ = 1 is the state itself. Returns (m (d), P (d, d)).
    Source: Lambda Learner, arXiv 2010.05154, folded into one Gaussian.

    Raises
    ------
    ConfigError
        Unless 0 ≤ δ ≤ 1.

    Examples
    --------
    >>> m, P = stabilised(np.ones(1), np.array([[100.0]]), np.zeros(1), np.eye(1), 0.8)
    >>> round(float(m[0]), 4), round(float(P[0, 0]), 2)
    (0.9975, 80.2)
    """
    if _is_identity(delta):
        return theta, H
    P = delta * H + (1.0 - delta) * Lambda0
    m = np.linalg.solve(P, delta * (H @ theta) + (1.0 - delta) * (Lambda0 @ mu0))
    return m.astype(np.float64, copy=False), P


def stabilised_diagonal(theta: Floats, h: Floats, mu0: Floats, lambda0: Floats, delta: float) -> tuple[Floats, Floats]:
    """`stabilised` for diagonal precisions h and λ0 (d): θ_j → (δh_jθ_j + (1−δ)λ0_jμ0_j) / (δh_j + (1−δ)λ0_j).

    Examples
    --------
    >>> m, p = stabilised_diagonal(np.ones(1), np.array([100.0]), np.zeros(1), np.ones(1), 0.8)
    >>> round(float(m[0]), 4), round(float(p[0]), 2)
    (0.9975, 80.2)
    """
    if _is_identity(delta):
        return theta, h
    p = delta * h + (1.0 - delta) * lambda0
    return (delta * h * theta + (1.0 - delta) * lambda0 * mu0) / p, p


def _is_identity(delta: float) -> bool:
    if not 0.0 <= delta <= 1.0:
        raise ConfigError(f"a forgetting factor must lie in [0, 1], not {delta}")
    return delta == 1.0


def past_weighted(mean: Floats, variance: Floats, omega: float, lambda2: float) -> tuple[Floats, Floats]:
    """Diagonal prior that gives the past weight ω: P = ω diag(1/v), and ω λ2 where no variance is stored.

    `mean` (d) is NaN for a feature new to the block, which then starts at 0; `variance` (d) is NaN or 0 where none
    is stored. No base prior is re-injected: repeated ω < 1 forgets a vanished feature entirely.
    Returns (m (d), P (d, d)). Source: arXiv 2108.13299, the incremental update of all blocks.

    Raises
    ------
    ConfigError
        When ω or λ2 is negative.
    StateError
        When a stored variance is negative or infinite.

    Examples
    --------
    >>> nan = np.nan
    >>> m, P = past_weighted(np.array([0.25, nan]), np.array([0.5, nan]), omega=0.5, lambda2=2.0)
    >>> m.tolist(), np.diag(P).tolist()
    ([0.25, 0.0], [1.0, 1.0])
    """
    if not (omega >= 0.0 and lambda2 >= 0.0):
        raise ConfigError(f"omega and lambda2 must not be negative: {omega}, {lambda2}")
    if (variance < 0.0).any() or np.isinf(variance).any():
        raise StateError("a stored variance is negative or infinite; restore the block from a sound version")
    known = variance > 0.0
    precision = np.where(known, 1.0 / np.where(known, variance, 1.0), lambda2)
    return np.where(np.isnan(mean), 0.0, mean), np.diag(omega * precision)


def ornstein_uhlenbeck(mean: Floats, V: Floats, mu0: Floats, V0: Floats, a: float) -> tuple[Floats, Floats]:
    """Additive drift towards the base prior, in covariance form; V may be (d, d), packed, or a diagonal.

        m = μ0 + a (m − μ0),    V = a² V + (1 − a²) V0

    A semigroup in a: a1 then a2 is a1·a2. As a → 0 it is the base prior.

    Raises
    ------
    ConfigError
        Unless 0 ≤ a ≤ 1.

    Examples
    --------
    >>> m, V = ornstein_uhlenbeck(np.ones(1), np.full(1, 0.2), np.zeros(1), np.ones(1), a=0.5)
    >>> float(m[0]), float(V[0])
    (0.5, 0.8)
    """
    if not 0.0 <= a <= 1.0:
        raise ConfigError(f"a drift coefficient must lie in [0, 1], not {a}")
    if a == 1.0:
        return mean, V
    return mu0 + a * (mean - mu0), a * a * V + (1.0 - a * a) * V0


def random_walk(V: Floats, noise: Floats) -> Floats:
    """Covariance (d, d) after a random walk of per-dimension variance `noise` (d): V + diag(noise); the mean stays.

    Examples
    --------
    >>> random_walk(np.eye(2), np.array([0.5, 0.0])).tolist()
    [[1.5, 0.0], [0.0, 1.0]]
    """
    return V + np.diag(noise)
