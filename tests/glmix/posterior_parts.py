"""Rows of one shape, and a model with correlated coefficients."""

from __future__ import annotations

from typing import Any

import numpy as np

from nearline import Fixed, GLMix, Numeric, Random, Schema
from nearline.glmix._packed import pack

NUMBERS = {c: Numeric(0, 1) for c in ("a", "b")}
SCHEMA = Schema(label="y", time="t", offset="o", columns=NUMBERS)
NO_FIXED = Fixed(intercept=False)


def table(seed: int = 0, n: int = 80) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "user": rng.integers(0, 4, n),
        "item": [f"i{i}" for i in rng.integers(0, 5, n)],
        "a": rng.normal(size=n),
        "b": rng.normal(size=n),
        "g": [f"g{i}" for i in rng.integers(0, 3, n)],
        "y": rng.integers(0, 2, n),
        "t": np.sort(rng.uniform(0, 1000.0, n)),
        "o": rng.normal(size=n),
    }


def row(**values: Any) -> dict[str, Any]:
    return {name: [value] for name, value in ({name: column[0] for name, column in table().items()} | values).items()}


def correlated(posterior: Any = "full") -> GLMix:
    """One block with a posterior that is set by hand: V correlated, or its diagonal."""
    user = Random("user", on=["a", "b"], posterior=posterior)
    model = GLMix(SCHEMA, NO_FIXED, [user])
    model.partial_fit(table())
    V = np.array([[1.0, 0.7, -0.3], [0.7, 2.0, 0.4], [-0.3, 0.4, 0.5]])
    model.blocks[1].mean[0] = [0.5, -1.0, 2.0]
    model.blocks[1].cov[0] = pack(V) if posterior == "full" else np.diag(V)
    return model
