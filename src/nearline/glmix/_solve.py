"""One block's posterior mode and curvature: damped Newton on a weighted loss with a Gaussian prior.

    θ = argmin_β f(β),   f(β) = Σ_n w_n ℓ(y_n, x_nᵀβ + o_n) + ½ (β − m)ᵀ P (β − m)
    H = P + Xᵀ W X,      W = diag(w_n D_n) at θ

`solve` works in the d coefficients with the precision P, `solve_dual` in the n rows with the covariance V = P⁻¹.
Both are the readable twins of the compiled kernels and never raise for numerical trouble: they return a status
and leave the prior as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearline.glmix._links import LOG, Link

Floats = NDArray[np.float64]

CONVERGED, NOT_CONVERGED, NOT_POSITIVE_DEFINITE, NON_FINITE = (
    "converged",
    "not_converged",
    "not_positive_definite",
    "non_finite",
)
STATUSES = (CONVERGED, NOT_CONVERGED, NOT_POSITIVE_DEFINITE, NON_FINITE)

TOLERANCE = 1e-12  # Newton decrement: the squared distance to the mode, in posterior standard deviations
MAX_STEPS = 50
ARMIJO = 1e-4
MAX_HALVINGS = 30
LOG_CAP = 5.0  # longest step of a log link in any margin
# |ℓ'''| ≤ ℓ'' for all three losses, so a full Newton step that moves no margin by more than c decreases f by at
# least (1 − (e^c − c − 1)/c²) times the decrement: at c = 1.5 by 0.11 > ARMIJO. Such a step needs no evaluation of f,
# and rounding of f near the mode cannot refuse it.
SAFE_CHANGE = 1.5


@dataclass(frozen=True, slots=True)
class Solution:
    """Mode θ (d) and precision H (d, d); the prior's m and P with evidence NaN unless status is "converged".

    `evidence` is Laplace's log p(B) = −l(θ) − ½(θ−m)ᵀP(θ−m) + ½log|P| − ½log|H|, up to the terms of the loss that do
    not depend on θ; `decrement` is gᵀH⁻¹g before the last step, `steps` the number of Newton steps.
    """

    theta: Floats
    H: Floats
    status: str
    steps: int
    evidence: float
    decrement: float


@dataclass(frozen=True, slots=True)
class CovarianceSolution:
    """As `Solution`, with the covariance V = H⁻¹ (d, d)."""

    theta: Floats
    V: Floats
    status: str
    steps: int
    evidence: float
    decrement: float


@dataclass(frozen=True, slots=True)
class _Rows:
    X: Floats
    y: Floats
    w: Floats
    offset: Floats
    link: Link

    def loss(self, eta: Floats) -> float:
        return float(self.w @ self.link.loss(self.y, eta))

    def derivatives(self, eta: Floats) -> tuple[Floats, Floats]:
        return self.w * self.link.gradient(self.y, eta), self.w * self.link.curvature(self.y, eta)


@dataclass(frozen=True, slots=True)
class _Newton:
    """One coordinate system for the same problem: margins, penalty and Newton direction at coefficients c."""

    margins: Callable[[Floats], Floats]
    penalty: Callable[[Floats], float]
    direction: Callable[[Floats, Floats], tuple[Floats, Floats, float]]


@dataclass(frozen=True, slots=True)
class _Mode:
    c: Floats
    eta: Floats
    status: str
    steps: int
    decrement: float


def solve(X: Floats, y: Floats, w: Floats, offset: Floats, m: Floats, P: Floats, link: Link) -> Solution:
    """Mode and precision of one block with precision P (d, d) and mean m (d) as its prior.

    X is (n, d), y, w and offset (n); rows of weight 0 are no rows, an identity link's dispersion φ enters as w/φ.

    Examples
    --------
    >>> from nearline.glmix._links import by_name
    >>> X, one = np.array([[1.0], [1.0]]), np.ones(2)
    >>> fit = solve(X, np.array([3.0, 0.0]), one, 0 * one, np.zeros(1), np.eye(1), by_name("identity"))
    >>> round(float(fit.theta[0]), 12), float(fit.H[0, 0]), fit.status
    (1.0, 3.0, 'converged')
    """
    rows = _rows(X, y, w, offset, link)

    def curvature(eta: Floats) -> Floats:
        return P + rows.X.T @ (rows.derivatives(eta)[1][:, None] * rows.X)

    def direction(theta: Floats, eta: Floats) -> tuple[Floats, Floats, float]:
        gradient = rows.X.T @ rows.derivatives(eta)[0] + P @ (theta - m)
        step = -_solve_positive(curvature(eta), gradient)
        return step, rows.X @ step, float(-gradient @ step)

    def penalty(theta: Floats) -> float:
        return 0.5 * float((theta - m) @ P @ (theta - m))

    with np.errstate(all="ignore"):
        mode = _descend(rows, m, _Newton(lambda theta: rows.offset + rows.X @ theta, penalty, direction))
        if mode.status != CONVERGED:
            return Solution(m, P, mode.status, mode.steps, np.nan, mode.decrement)
        H = curvature(mode.eta)
        evidence = 0.5 * (np.linalg.slogdet(P)[1] - np.linalg.slogdet(H)[1])
        evidence -= rows.loss(mode.eta) + penalty(mode.c)
    return Solution(mode.c, H, CONVERGED, mode.steps, float(evidence), mode.decrement)


def solve_dual(X: Floats, y: Floats, w: Floats, offset: Floats, m: Floats, V: Floats, link: Link) -> CovarianceSolution:
    """Mode and covariance of one block with covariance V (d, d) as its prior; no d × d factorisation, no division.

        K = X V Xᵀ,    S = diag(√(w D)),    B = I + S K S,    r = a + w∘g
        a ← a − t (r − S B⁻¹ S K r),    θ = m + V Xᵀ a,    V ← V − V Xᵀ S B⁻¹ S X V

    The residual r vanishes at the mode, so what the difference loses to rounding vanishes with it.

    Examples
    --------
    >>> from nearline.glmix._links import by_name
    >>> X, one = np.array([[1.0], [1.0]]), np.ones(2)
    >>> fit = solve_dual(X, np.array([3.0, 0.0]), one, 0 * one, np.zeros(1), np.eye(1), by_name("identity"))
    >>> round(float(fit.theta[0]), 12), round(float(fit.V[0, 0]), 12)
    (1.0, 0.333333333333)
    """
    rows = _rows(X, y, w, offset, link)
    VXt = V @ rows.X.T
    K = rows.X @ VXt
    base = rows.offset + rows.X @ m

    def factors(eta: Floats) -> tuple[Floats, Floats]:
        s = np.sqrt(rows.derivatives(eta)[1])
        return s, np.eye(len(s)) + s[:, None] * K * s

    def direction(a: Floats, eta: Floats) -> tuple[Floats, Floats, float]:
        wg, wD = rows.derivatives(eta)
        s, B = factors(eta)
        residual = a + wg
        step = s * _solve_positive(B, s * (K @ residual)) - residual
        change = K @ step
        return step, change, float(step @ change + wD @ change**2)

    def penalty(a: Floats) -> float:
        return 0.5 * float(a @ K @ a)

    with np.errstate(all="ignore"):
        mode = _descend(rows, np.zeros(len(base)), _Newton(lambda a: base + K @ a, penalty, direction))
        if mode.status != CONVERGED:
            return CovarianceSolution(m, V, mode.status, mode.steps, np.nan, mode.decrement)
        s, B = factors(mode.eta)
        posterior = V - (VXt * s) @ _solve_positive(B, s[:, None] * VXt.T)
        if not (np.diagonal(posterior) > 0.0).all():
            return CovarianceSolution(m, V, NOT_POSITIVE_DEFINITE, mode.steps, np.nan, mode.decrement)
        evidence = -0.5 * float(np.linalg.slogdet(B)[1]) - rows.loss(mode.eta) - penalty(mode.c)
    return CovarianceSolution(m + VXt @ mode.c, posterior, CONVERGED, mode.steps, evidence, mode.decrement)


def _rows(X: Floats, y: Floats, w: Floats, offset: Floats, link: Link) -> _Rows:
    used = w != 0.0
    return _Rows(X[used], y[used], w[used], offset[used], link)


def _solve_positive(matrix: Floats, right: Floats) -> Floats:
    """Solve with a positive definite matrix; its Cholesky factor decides whether it is one."""
    if not np.isfinite(matrix).all():
        raise FloatingPointError("non-finite curvature")
    L = np.linalg.cholesky(matrix)
    return np.linalg.solve(L.T, np.linalg.solve(L, right))


def _descend(rows: _Rows, start: Floats, newton: _Newton) -> _Mode:
    c, eta, decrement = start, newton.margins(start), np.inf
    if (rows.w < 0.0).any():
        return _Mode(c, eta, NON_FINITE, 0, decrement)
    for step in range(1, MAX_STEPS + 1):
        try:
            change, eta_change, decrement = newton.direction(c, eta)
        except FloatingPointError:
            return _Mode(c, eta, NON_FINITE, step, np.inf)
        except np.linalg.LinAlgError:
            return _Mode(c, eta, NOT_POSITIVE_DEFINITE, step, np.inf)
        if not (np.isfinite(decrement) and np.isfinite(eta_change).all()):
            return _Mode(c, eta, NON_FINITE, step, decrement)
        t = _step_length(rows, newton, c, eta, change, eta_change, decrement)
        if t == 0.0:
            return _Mode(c, eta, NOT_CONVERGED, step, decrement)
        c = c + t * change
        eta = newton.margins(c)
        if decrement <= TOLERANCE:
            return _Mode(c, eta, CONVERGED, step, decrement)
    return _Mode(c, eta, NOT_CONVERGED, MAX_STEPS, decrement)


def _step_length(
    rows: _Rows, newton: _Newton, c: Floats, eta: Floats, change: Floats, eta_change: Floats, decrement: float
) -> float:
    """Longest step from 1 (or the log link's cap) by halving that meets Armijo's condition; 0 when none does."""
    largest = float(np.abs(eta_change).max(initial=0.0))
    if rows.link.c3 == 0.0 or largest <= SAFE_CHANGE:
        return 1.0
    t = min(1.0, LOG_CAP / largest) if rows.link is LOG else 1.0
    before = rows.loss(eta) + newton.penalty(c)
    for _ in range(MAX_HALVINGS + 1):
        trial = c + t * change
        if rows.loss(newton.margins(trial)) + newton.penalty(trial) <= before - ARMIJO * t * decrement:
            return t
        t *= 0.5
    return 0.0
