"""Small streams whose best settings are not the learned ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from nearline import Fixed, GLMix, Numeric, Random, Schema

SCHEMA = Schema(label="y", time="t", columns={"a": Numeric(0, 1)})
QUICK: dict[str, object] = {"rounds": 1, "walks": False, "half_lives": False}


def events(rows: int = 1_500, seed: int = 0, drift: float = 0.06) -> dict[str, Any]:
    """Clicks of 20 users whose rates wander as time passes."""
    rng = np.random.default_rng(seed)
    who = rng.integers(0, 20, rows)
    walk = np.cumsum(drift * rng.normal(size=(rows, 20)), axis=0)
    a = rng.normal(size=rows)
    eta = walk[np.arange(rows), who] + 0.5 * a
    y = (rng.random(rows) < 1 / (1 + np.exp(-eta))).astype(float)
    return {"user": who, "a": a, "y": y, "t": np.arange(rows, dtype=float) * 600.0}


def model(mode: Any = "event") -> GLMix:
    """A fixed effect and the users."""
    return GLMix(SCHEMA, Fixed("a"), [Random("user")], mode=mode)
