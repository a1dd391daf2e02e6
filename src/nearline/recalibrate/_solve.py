"""One step of sequential Bayes for a few coefficients with lower bounds: from a Gaussian and a batch to a Gaussian.

Symbols: prior belief N(m, J⁻¹), rows φ_i with offsets o_i, labels y_i ∈ {0, 1}, weights w_i, p = σ(o + φᵀθ), bounds l.

    θ = argmin_{θ ≥ l} ½ (θ − m)ᵀ J (θ − m) + Σ_i w_i ℓ(y_i, o_i + φ_iᵀθ),     J' = J + Σ_i w_i p_i (1 − p_i) φ_i φ_iᵀ

by projected Newton: coefficients held at their bound by the gradient stay there. Source: Bertsekas, "Projected Newton
methods for optimization problems with simple constraints", SIAM J. Control and Optimization 20(2), 1982.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_STEPS, _HALVINGS, _TOLERANCE = 30, 30, 1e-10


def posterior(
    mean: Floats, precision: Floats, phi: Floats, offset: Floats, label: Floats, weight: Floats, lower: Floats
) -> tuple[Floats, Floats]:
    """Mode θ (d) and precision J' (d, d) after the batch."""
    theta, curvature = np.maximum(mean, lower), precision

    def objective(at: Floats) -> float:
        eta = offset + phi @ at
        return float(0.5 * (at - mean) @ precision @ (at - mean) + weight @ (np.logaddexp(0.0, eta) - label * eta))

    value = objective(theta)
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(offset + phi @ theta, -700.0, 700.0)))
        gradient = precision @ (theta - mean) + phi.T @ (weight * (p - label))
        curvature = precision + (phi * (weight * p * (1 - p))[:, None]).T @ phi
        free = (theta > lower) | (gradient < 0)
        step = np.zeros_like(theta)
        step[free] = np.linalg.solve(curvature[np.ix_(free, free)], gradient[free])
        moved, found = _descended(objective, theta, step, lower, value)
        if found >= value or np.abs(moved - theta).max() < _TOLERANCE:
            break
        theta, value = moved, found
    return theta, curvature


def _descended(objective, theta: Floats, step: Floats, lower: Floats, value: float) -> tuple[Floats, float]:  # type: ignore[no-untyped-def]
    """The first of θ − s, θ − s/2, … (projected) that lowers the objective."""
    moved, found = theta, value
    for halving in range(_HALVINGS):
        moved = np.maximum(theta - step * 0.5**halving, lower)
        found = objective(moved)
        if found < value:
            break
    return moved, found
