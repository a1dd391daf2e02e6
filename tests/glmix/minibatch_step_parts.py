"""Rows of one stream, models of one block and of several, and their posteriors as matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from nearline import Fixed, GLMix, Numeric, Prior, Random, Schema
from nearline.glmix._packed import unpack
from nearline.glmix._state import Block

SCHEMA = Schema(label="y", time="t", weight="w", offset="o", columns={c: Numeric(0, 1) for c in ("a", "b", "c")})
NO_FIXED = Fixed(intercept=False)
N = 90


def table(seed: int = 0, n: int = N, users: int = 4, link: str = "identity") -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    y = {"identity": rng.normal(size=n), "logit": rng.integers(0, 2, n), "log": rng.poisson(1.0, n)}[link]
    columns = {name: rng.normal(size=n) for name in ("a", "b", "c")}
    times = {"t": np.sort(rng.uniform(0, 100.0, n)), "w": rng.uniform(0.5, 2.0, n), "o": rng.normal(size=n)}
    return {"user": rng.integers(0, users, n), "item": rng.integers(0, 5, n), **columns, "y": y, **times}


def take(data: dict[str, Any], rows: Any) -> dict[str, Any]:
    return {name: np.asarray(column)[rows] for name, column in data.items()}


def posterior(block: Block, code: int) -> tuple[np.ndarray, np.ndarray]:
    return block.mean[code].copy(), unpack(block.cov[code])


def close(one: GLMix, two: GLMix, tolerance: float) -> None:
    for a, b in zip(one.blocks, two.blocks):
        n = a.entities
        np.testing.assert_allclose(a.mean[:n], b.mean[:n], rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(a.cov[:n], b.cov[:n], rtol=tolerance, atol=tolerance)


def state(model: GLMix) -> list[bytes]:
    return [a[: b.entities].tobytes() for b in model.blocks for a in (b.mean, b.cov, b.last, b.counts)]


USER = Random("user", on=["b"], prior=Prior(0.5), posterior="full")
ITEM = Random("item", on=["c"], prior=Prior(0.25), posterior="full")


def several(**options: Any) -> GLMix:
    return GLMix(
        SCHEMA, Fixed("a", prior=Prior(2.0), posterior="full"), [USER, ITEM], **{"link": "identity", **options}
    )
