"""Sequential Bayes for a few coefficients with lower bounds, many at once: from Gaussians and a batch to Gaussians.

Symbols, for each s of S: belief N(m, J⁻¹), its rows φ_i with offsets o_i, labels y_i ∈ {0, 1}, weights w_i, bounds l,
p_i = σ(o_i + φ_iᵀθ).

    θ = argmin_{θ ≥ l} ½ (θ − m)ᵀ J (θ − m) + Σ_i w_i ℓ(y_i, o_i + φ_iᵀθ),     J' = J + Σ_i w_i p_i (1 − p_i) φ_i φ_iᵀ

by projected Newton: coefficients held at their bound by the gradient stay there. Source: Bertsekas, "Projected Newton
methods for optimization problems with simple constraints", SIAM J. Control and Optimization 20(2), 1982.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_STEPS, _HALVINGS = 30, 30
_CLOSE = 1e-6
"""A Newton step this short is taken as it is: the objective cannot tell it from none, and the next is its square."""


@dataclass(frozen=True, slots=True)
class Problem:
    """S beliefs and the rows of a batch.

    Attributes
    ----------
    mean, precision, lower
        m (S, d), J (S, d, d), l (S, d).
    phi, offset, label, weight, code
        φ (n, d), o, y, w (n), and which of the S a row belongs to (n).
    """

    mean: Floats
    precision: Floats
    lower: Floats
    phi: Floats
    offset: Floats
    label: Floats
    weight: Floats
    code: Ints

    def objective(self, theta: Floats) -> Floats:
        """What θ minimises, (S)."""
        eta, off = self._eta(theta), theta - self.mean
        loss = self.weight * (np.logaddexp(0.0, eta) - self.label * eta)
        prior: Floats = 0.5 * np.einsum("si,sij,sj->s", off, self.precision, off)
        return prior + self._sums(loss)

    def derivatives(self, theta: Floats) -> tuple[Floats, Floats]:
        """Its gradient (S, d) and curvature J' (S, d, d)."""
        p = 1 / (1 + np.exp(-np.clip(self._eta(theta), -700.0, 700.0)))
        pull, spread = self.weight * (p - self.label), self.weight * p * (1 - p)
        gradient = np.einsum("sij,sj->si", self.precision, theta - self.mean)
        curvature = self.precision.copy()
        for i in range(theta.shape[1]):
            gradient[:, i] += self._sums(pull * self.phi[:, i])
            for j in range(theta.shape[1]):
                curvature[:, i, j] += self._sums(spread * self.phi[:, i] * self.phi[:, j])
        return gradient, curvature

    def _eta(self, theta: Floats) -> Floats:
        linear: Floats = np.einsum("nd,nd->n", self.phi, theta[self.code])
        return self.offset + linear

    def _sums(self, values: Floats) -> Floats:
        return np.asarray(np.bincount(self.code, values, minlength=len(self.mean)), np.float64)


def posteriors(problem: Problem) -> tuple[Floats, Floats]:
    """Modes θ (S, d) and precisions J' (S, d, d) after the batch."""
    theta = np.maximum(problem.mean, problem.lower)
    for _ in range(_STEPS):
        gradient, curvature = problem.derivatives(theta)
        free = (theta > problem.lower) | (gradient < 0)
        held = np.where(free[:, :, None] & free[:, None, :], curvature, np.eye(theta.shape[1]))
        step = np.linalg.solve(held, np.where(free, gradient, 0.0)[:, :, None])[:, :, 0]
        theta = _moved(problem, theta, step)
        if np.abs(step).max() < _CLOSE:
            break
    return theta, problem.derivatives(theta)[1]


def _moved(problem: Problem, theta: Floats, step: Floats) -> Floats:
    """θ − s, θ − s/2, … (projected), each of S for itself: the first that lowers its objective."""
    value, scale = problem.objective(theta), np.ones((len(theta), 1))
    close = np.abs(step).max(axis=1) < _CLOSE
    for _ in range(_HALVINGS):
        moved = np.maximum(theta - scale * step, problem.lower)
        worse = (problem.objective(moved) > value) & ~close
        if not worse.any():
            return moved
        scale[worse] /= 2
    return np.where(worse[:, None], theta, moved)
