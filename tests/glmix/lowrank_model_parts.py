"""Rows of correlated features, and low-rank models of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from nearline import Fixed, Forgetting, GLMix, Numeric, Prior, Random, Schema

SCHEMA = Schema(label="y", time="t", weight="w", columns={"x": Numeric(0, 1)})


WALKS: dict[str, Any] = {"walk_per_event": {"(intercept)": 0.02}, "walk_per_day": 0.5}
FORGETTING = {
    "never": Forgetting(),
    "reverting": Forgetting(half_life=3600.0),
    "stabilised": Forgetting(half_life=3600.0, form="stabilised"),
    "per update": Forgetting(form="per_update", delta=0.9),
    "walking": Forgetting(**WALKS),
    "walking and reverting": Forgetting(half_life=3600.0, **WALKS),
    "walking and stabilised": Forgetting(half_life=7200.0, form="stabilised", **WALKS),
}


def table(seed: int, n: int = 60, levels: int = 20, users: int = 3, link: str = "logit") -> pa.Table:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    labels = {"logit": rng.random(n) < 0.5, "identity": x + rng.normal(size=n), "log": rng.poisson(1.5, n)}
    columns = {
        "user": rng.integers(0, users, n),
        "item": rng.integers(0, 4, n),
        "tags": [[f"t{i}" for i in rng.choice(levels, 3, replace=False)] for _ in range(n)],
        "x": x,
        "y": labels[link].astype(float),
        "w": rng.choice([0.5, 1.0, 2.0], n),
        "t": 1e9 + 60.0 * (n * seed + np.cumsum(rng.exponential(1.0, n))),
    }
    return pa.table(columns)


def model(posterior: Any, rank: int = 400, forgetting: Forgetting | None = None, **options: Any) -> GLMix:
    own: dict[str, Any] = {"posterior": posterior, "rank": rank, "forgetting": forgetting}
    random = [Random("user", on=["x", "tags"], prior=Prior({"x": 0.4, "*": 0.2}, {"x": 0.1}), **own)]
    return GLMix(SCHEMA, Fixed("x", "tags", **own), random, **options)
