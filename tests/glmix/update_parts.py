"""Slices, and models of one block and of three that compete, whose precisions are read as matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from nearline import Fixed, GLMix, Numeric, Prior, Random, Schema
from nearline.glmix._lowrank import unpack as unpack_row
from nearline.glmix._packed import unpack
from nearline.glmix._state import Block

SCHEMA = Schema(label="y", weight="w", offset="o", columns={c: Numeric(0, 1) for c in ("a", "b", "c")})
LIMIT = {"cycles": 500, "tolerance": 1e-13}
KINDS = ("full", "diagonal", "lowrank")


def table(seed: int = 0, n: int = 60, users: int = 4, link: str = "logit") -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    y = {"identity": rng.normal(size=n), "logit": rng.integers(0, 2, n), "log": rng.poisson(1.0, n)}[link]
    columns = {name: rng.normal(size=n) for name in ("a", "b", "c")}
    keys = {"user": rng.integers(0, users, n), "item": rng.integers(0, 5, n)}
    return {**keys, **columns, "y": y, "w": rng.uniform(0.5, 2.0, n), "o": rng.normal(size=n)}


def take(data: dict[str, Any], rows: Any) -> dict[str, Any]:
    return {name: np.asarray(column)[rows] for name, column in data.items()}


def model(posterior: Any = "full", link: str = "logit", **options: Any) -> GLMix:
    """A fixed effect and two random ones that compete with it."""
    fixed = Fixed("a", "b", prior=Prior(2.0), posterior=posterior)
    prior = Prior({"(intercept)": 1.0, "*": 0.5}, {"a": 0.3})
    user = Random("user", on=["a"], prior=prior, posterior=posterior)
    return GLMix(SCHEMA, fixed, [user, Random("item", prior=Prior(0.7), posterior=posterior)], link=link, **options)


def one_block(posterior: Any = "full", link: str = "logit", prior: Prior | None = None) -> GLMix:
    user = Random("user", on=["a", "b", "c"], intercept=False, prior=prior or Prior(0.5), posterior=posterior)
    return GLMix(SCHEMA, Fixed(intercept=False), [user], link=link)


def state(of: GLMix) -> list[bytes]:
    return [x[: b.entities].tobytes() for b in of.blocks for x in (b.mean, b.cov, b.last, b.counts)]


def close(one: GLMix, two: GLMix, tolerance: float) -> None:
    for a, b in zip(one.blocks, two.blocks):
        n = a.entities
        np.testing.assert_allclose(a.mean[:n], b.mean[:n], rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(a.cov[:n], b.cov[:n], rtol=tolerance, atol=tolerance)


def code(of: GLMix, key: str, entity: Any) -> int:
    return int(of.encoder.entity_codes(key)[entity])


def precision(block: Block, entity: int) -> np.ndarray:
    return np.asarray(np.linalg.inv(unpack(block.cov[entity].astype(np.float64))))


def precision_of(block: Block, at: int) -> np.ndarray:
    row = block.cov[at]
    if block.effect.posterior == "lowrank":
        return unpack_row(row, block.d, block.kmax).precision()
    return np.diag(1.0 / row) if block.effect.posterior == "diagonal" else precision(block, at)
