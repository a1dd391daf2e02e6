"""A run-time certificate: how much an update is sure to improve the objective that a batch job would minimise.

The discounted objective of all batches so far and of the base prior is

    G_t(β) = ½ (β − μ0)ᵀ Λ0 (β − μ0) + Σ_{s ≤ t} δ^(t−s) l_s(β)

The update solves f_t, in which every past batch is a quadratic at its own mode θ_s. Their difference is bounded by the
Lipschitz constants of the batches' Hessians, M_s = c3 Σ_n w_n ‖x_n‖³, through q(β) = Σ_s δ^(t−s) M_s ‖β − θ_s‖²:

    G_t(θ_{t−1}) − G_t(θ_t) ≥ f_t(θ_{t−1}) − f_t(θ_t) − (r/12) [q(θ_{t−1}) + 4 q(θ̄) + q(θ_t)],   r = ‖θ_t − θ_{t−1}‖
    ‖∇G_t(θ_t)‖ ≤ q(θ_t)/2,     ‖θ_t − θ*_t‖ ≤ q(θ_t)/(2μ′),     G_t(θ_t) − min G_t ≤ q(θ_t)²/(8μ′)

with θ̄ the midpoint, μ′ = λ_min(Λ0), and q taken after this update's discount, before its batch joins. It holds for one
block with a full precision, offsets that do not change, and multiplicative forgetting (`unavailable`). *Derived.*
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearline._errors import ConfigError
from nearline.glmix._codes import FULL, NEVER, PER_UPDATE, STABILISED
from nearline.glmix._links import Link

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, slots=True)
class Path:
    """What an entity's past updates leave for the certificate: constant memory, d + 3 numbers.

    Attributes
    ----------
    centre
        The latest mode θ (d); the sums are centred on it, for the raw form cancels badly.
    S0, S1, S2
        Σ M_s,  Σ M_s (θ_s − centre) (d)  and  Σ M_s ‖θ_s − centre‖², discounted.
    residual
        Σ ‖∇f_s(θ_s)‖, discounted: what the solver left.

    Examples
    --------
    >>> path = Path.start(np.zeros(2)).joined(np.ones(2), M=3.0)
    >>> path.q(np.ones(2)), path.q(np.zeros(2))
    (0.0, 6.0)
    """

    centre: Floats
    S0: float
    S1: Floats
    S2: float
    residual: float = 0.0

    @classmethod
    def start(cls, theta: Floats, M: float = 0.0) -> Path:
        """At the base prior's mean, or at the mode of a batch fit whose rows have Lipschitz constant M."""
        return cls(theta, M, np.zeros_like(theta), 0.0)

    def q(self, beta: Floats) -> float:
        """Σ M_s ‖β − θ_s‖², clipped at 0."""
        away = beta - self.centre
        return max(self.S0 * float(away @ away) - 2.0 * float(away @ self.S1) + self.S2, 0.0)

    def discounted(self, delta: float) -> Path:
        """After forgetting by δ."""
        return Path(self.centre, delta * self.S0, delta * self.S1, delta * self.S2, delta * self.residual)

    def joined(self, theta: Floats, M: float, residual: float = 0.0) -> Path:
        """With a batch whose mode is θ, centred there."""
        move = theta - self.centre
        S1 = self.S1 - self.S0 * move
        S2 = self.S2 - 2.0 * float(move @ self.S1) + self.S0 * float(move @ move)
        return Path(theta, self.S0 + M, S1, max(S2, 0.0), self.residual + residual)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is certain of one update.

    Attributes
    ----------
    improvement
        G_t(θ_{t−1}) − G_t(θ_t) is at least this; negative means that nothing is certain.
    gradient, distance, gap
        ‖∇G_t(θ_t)‖, ‖θ_t − θ*_t‖ and G_t(θ_t) − min G_t are at most these; θ*_t is exact retraining.
    """

    improvement: float
    gradient: float
    distance: float
    gap: float

    @property
    def certified(self) -> bool:
        """Whether the update is sure to have lowered G_t."""
        return self.improvement > 0.0


def unavailable(link: Link, kind: int, form: int, blocks: int = 1, walks: bool = False) -> str:
    """Why a block has no certificate; empty where it has one.

    Examples
    --------
    >>> from nearline.glmix._codes import DIAGONAL
    >>> from nearline.glmix._links import by_name
    >>> unavailable(by_name("log"), FULL, NEVER), unavailable(by_name("logit"), DIAGONAL, NEVER)
    ('the log link has no bounded third derivative', 'the precision is not full')
    """
    if not np.isfinite(link.c3):
        return f"the {link.name} link has no bounded third derivative"
    if kind != FULL:
        return "the precision is not full"
    if blocks != 1:
        return "several blocks have separate precisions"
    if walks or form not in (NEVER, STABILISED, PER_UPDATE):
        return "forgetting is not multiplicative"
    return ""


def lipschitz(link: Link, X: Floats, w: Floats) -> float:
    """Lipschitz constant of a batch's Hessian, M = c3 Σ_n w_n ‖x_n‖³.

    Raises
    ------
    ConfigError
        When the link has none.

    Examples
    --------
    >>> from nearline.glmix._links import by_name
    >>> round(lipschitz(by_name("logit"), np.array([[3.0, 4.0]]), np.ones(1)), 4)
    12.0281
    """
    if not np.isfinite(link.c3):
        raise ConfigError(f"the {link.name} link's third derivative is unbounded: there is no certificate")
    return float(link.c3 * (w @ np.linalg.norm(X, axis=1) ** 3))


def certify(
    path: Path, before: Floats, after: Floats, decrease: float, *, delta: float, M: float, mu: float,
    residual: float = 0.0,
) -> tuple[Certificate, Path]:  # fmt: skip
    """Certificate of the update θ_{t−1} = `before` → θ_t = `after`, and the path with its batch.

    Parameters
    ----------
    decrease
        f_t(before) − f_t(after) of the objective that was solved.
    delta
        This update's forgetting factor δ.
    M
        `lipschitz` of this batch.
    mu
        λ_min(Λ0), or any strong convexity of G_t.
    residual
        ‖∇f_t(after)‖.

    Examples
    --------
    >>> first, path = certify(Path.start(np.zeros(1)), np.zeros(1), np.ones(1), 0.5, delta=1.0, M=2.0, mu=1.0)
    >>> first.improvement, first.gap  # at the base prior the objective is exact
    (0.5, 0.0)
    >>> certify(path, np.ones(1), np.full(1, 1.5), 0.1, delta=1.0, M=2.0, mu=1.0)[0].distance
    0.25
    """
    past = path.discounted(delta)
    r, q = float(np.linalg.norm(after - before)), past.q(after)
    slack = past.q(before) + 4.0 * past.q(0.5 * (before + after)) + q
    gradient = 0.5 * q + past.residual + residual
    improvement = decrease - r / 12.0 * slack - r * past.residual
    return Certificate(improvement, gradient, gradient / mu, gradient**2 / (2.0 * mu)), past.joined(after, M, residual)


def certify_step(r: float, mu: float, M: float, strong: float) -> tuple[float, float]:
    """One update after an exact fit b0: (sure improvement, distance to exact retraining).

        F(b0) − F(b1) ≥ (μ/2) r² − (M/6) r³,     ‖b1 − b*‖ ≤ M r² / (2μ′),     r = ‖b1 − b0‖

    μ = λ_min of the fit's Hessian at b0, M its Lipschitz constant, μ′ (`strong`) the strong convexity of F. The first
    is positive when r < 3μ/M.

    Examples
    --------
    >>> certify_step(1.0, mu=2.0, M=3.0, strong=1.0)
    (0.5, 1.5)
    """
    return 0.5 * mu * r**2 - M / 6.0 * r**3, M * r**2 / (2.0 * strong)


def most_step(gradient: Floats, mu: float) -> float:
    """Longest step that new rows can cause, r ≤ ‖∇l_new(b0)‖ / μ: known before anything is solved.

    Examples
    --------
    >>> most_step(np.array([3.0, 4.0]), mu=2.0)
    2.5
    """
    return float(np.linalg.norm(gradient)) / mu
