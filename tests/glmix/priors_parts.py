"""Streams of a simulated random effect of which the prior is known."""

from __future__ import annotations

from typing import Any

import numpy as np

from nearline import Fixed, Numeric, Prior, Random, Schema

SCHEMA = Schema(label="y", time="t", weight="w", columns={c: Numeric(0, 1) for c in ("a", "b")})
NO_FIXED = Fixed(intercept=False)


def user(prior: Prior | None = None, posterior: Any = "full", **options: Any) -> Random:
    return Random("user", on=["a", "b"], prior=prior or Prior(1.0), posterior=posterior, **options)


def simulate(
    V: np.ndarray, mean: Any = 0.0, *, users: int = 1500, each: int = 8, seed: int = 0, noise: float | None = 1.0
) -> dict[str, Any]:
    """Rows of users with coefficients from N(mean, V); real labels of variance `noise`, or clicks for None."""
    rng = np.random.default_rng(seed)
    beta = mean + rng.normal(size=(users, 3)) @ np.linalg.cholesky(V).T
    who = np.tile(np.arange(users), each)
    a, b = rng.normal(size=(2, len(who)))
    eta = beta[who, 0] + beta[who, 1] * a + beta[who, 2] * b
    clicks = (rng.random(len(who)) < 1 / (1 + np.exp(-eta))).astype(float)
    y = clicks if noise is None else eta + np.sqrt(noise) * rng.normal(size=len(who))
    return {"user": who, "a": a, "b": b, "y": y, "t": np.arange(len(who), dtype=float), "w": np.ones(len(who))}


def take(data: dict[str, Any], rows: Any) -> dict[str, Any]:
    return {name: np.asarray(column)[rows] for name, column in data.items()}
