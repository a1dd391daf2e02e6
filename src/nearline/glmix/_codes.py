"""The small numbers by which the compiled kernels know kinds of posterior and forms of forgetting."""

from __future__ import annotations

FULL, DIAGONAL, LOWRANK = 0, 1, 2
"""A packed lower triangle, a vector of variances, or low rank plus diagonal."""

NEVER, REVERTING, STABILISED, PER_UPDATE = 0, 1, 2, 3
"""No forgetting, Ornstein-Uhlenbeck in covariance, Lambda Learner's in precision, the same by a constant δ."""
