"""The batch fit written without nearline: block coordinate descent with one scipy solve per entity.

The objective is nearline's own: logistic loss, a Gaussian prior N(0, v) per coefficient, the other blocks' scores
as offset, which is why scikit-learn's LogisticRegression, which takes none, cannot do it. L-BFGS-B at its defaults; its
Newton-CG, with the Hessian given, took twice as long. Rows are laid out by entity before the clock starts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Entity:
    """One coefficient vector's rows (n, d), labels and their numbers in the table."""

    X: Floats | csr_matrix
    y: Floats
    rows: NDArray[np.int64]


def objective(entity: Entity, theta: Floats, offset: Floats, v: Floats) -> tuple[float, Floats]:
    """Loss plus penalty and its gradient."""
    eta = entity.X @ theta + offset
    tail = np.exp(-np.abs(eta))
    loss = np.maximum(eta, 0.0) - entity.y * eta + np.log1p(tail)
    p = np.where(eta >= 0.0, 1.0, tail) / (1.0 + tail)
    return float(loss.sum() + 0.5 * (theta**2 / v).sum()), entity.X.T @ (p - entity.y) + theta / v


def precision(entity: Entity, theta: Floats, offset: Floats, v: Floats) -> Floats:
    """H = diag(1/v) + Xᵀ W X."""
    p = 1.0 / (1.0 + np.exp(-(entity.X @ theta + offset)))
    w = p * (1.0 - p)
    if isinstance(entity.X, csr_matrix):
        return np.asarray(np.diag(1.0 / v) + (entity.X.T @ entity.X.multiply(w[:, None])).toarray())
    return np.asarray(np.diag(1.0 / v) + entity.X.T @ (entity.X * w[:, None]))


def lbfgs(entity: Entity, start: Floats, offset: Floats, v: Floats) -> Floats:
    """Scipy's L-BFGS-B at its default tolerances."""
    done = minimize(lambda theta: objective(entity, theta, offset, v), start, jac=True, method="L-BFGS-B")
    return np.asarray(done.x)


def timed(entity: Entity, start: Floats, offset: Floats, v: Floats) -> tuple[float, Floats]:
    """Processor seconds of one solve, and the mode."""
    began = time.process_time()
    theta = lbfgs(entity, start, offset, v)
    return time.process_time() - began, theta


def covariance_seconds(entity: Entity, theta: Floats, offset: Floats, v: Floats) -> float:
    """Processor seconds of H⁻¹ at the mode."""
    began = time.process_time()
    np.linalg.inv(precision(entity, theta, offset, v))
    return time.process_time() - began
