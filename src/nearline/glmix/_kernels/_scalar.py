"""What one row contributes to a loss: ℓ(y, η), g = ∂ℓ/∂η, D = ∂²ℓ/∂η² and the mean, per link code, compiled.

Every function takes the link code first (`LOGIT`, `IDENTITY` or `LOG`); an identity link's dispersion φ is the
caller's, through the row weight w/φ. The NumPy twin, and the oracle of the tests, is `nearline.glmix._links`.
"""

from __future__ import annotations

import math

from numba import njit

LOGIT, IDENTITY, LOG = 0, 1, 2

# No 'nnan' or 'ninf': an overflow must stay visible to the finite checks of the callers.
FASTMATH = {"reassoc", "contract", "arcp", "nsz"}


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def sigmoid(eta: float) -> float:
    """σ(η) = 1 / (1 + e^−η), by the sign of η so that the exponential never overflows."""
    e = math.exp(-abs(eta))
    return 1.0 / (1.0 + e) if eta >= 0.0 else e / (1.0 + e)


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def loss(link: int, y: float, eta: float) -> float:
    """Row loss ℓ(y, η): log(1 + e^η) − yη (logit), ½(y − η)² (identity), e^η − yη (log)."""
    if link == LOGIT:
        # max(η, 0) − yη is written per sign so that a right, certain row costs exactly log1p(e^−|η|).
        linear = (1.0 - y) * eta if eta >= 0.0 else -y * eta
        return linear + math.log1p(math.exp(-abs(eta)))
    if link == IDENTITY:
        return 0.5 * (y - eta) * (y - eta)
    return math.exp(eta) - y * eta


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def derivatives(link: int, y: float, eta: float) -> tuple[float, float]:
    """Both derivatives (g, D) of the row loss with one exponential."""
    if link == LOGIT:
        e = math.exp(-abs(eta))
        tail = e / (1.0 + e)
        # σ(η) − y without cancellation: 1 − tail where η ≥ 0, tail where η < 0.
        return ((1.0 - y) - tail if eta >= 0.0 else tail - y), tail / (1.0 + e)
    if link == IDENTITY:
        return eta - y, 1.0
    e = math.exp(eta)
    return e - y, e


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def gradient(link: int, y: float, eta: float) -> float:
    """First derivative ∂ℓ/∂η: σ(η) − y (logit), η − y (identity), e^η − y (log)."""
    return derivatives(link, y, eta)[0]


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def curvature(link: int, y: float, eta: float) -> float:
    """Second derivative ∂²ℓ/∂η²: p(1 − p) (logit), 1 (identity), e^η (log); never negative."""
    return derivatives(link, y, eta)[1]


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def mean(link: int, eta: float) -> float:
    """Expected label at margin η: σ(η) (logit), η (identity), e^η (log)."""
    if link == LOGIT:
        return sigmoid(eta)
    if link == IDENTITY:
        return eta
    return math.exp(eta)
