"""A small model of three numeric features, and rows for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from nearline import Fixed, Numeric, Schema

NO_FIXED = Fixed(intercept=False)
F = ("x0", "x1", "x2")
SCHEMA_F = Schema(label="y", weight="w", offset="o", time="t", columns={name: Numeric(0, 1) for name in F})


def rows_of(n: int = 30, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "user": rng.integers(0, 4, n),
        "x0": rng.normal(size=n),
        "g": [f"g{k}" for k in rng.integers(0, 3, n)],
        "y": rng.integers(0, 2, n),
        "w": np.ones(n),
    }
