"""Every kind of model, as cases: effects × posterior × link × mode, the rows they learn and what they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from nearline import Fixed, Forgetting, GLMix, Loadings, Numeric, Prior, Random, Schema
from nearline.glmix import _lowrank
from nearline.glmix._codes import DIAGONAL, LOWRANK
from nearline.glmix._packed import unpack
from nearline.glmix._state import Block

SCHEMA = Schema(label="y", time="t", weight="w", offset="o", columns={"x": Numeric(0, 1)})
EFFECTS = ("fixed", "random", "parent", "crossed", "loadings", "reverting", "stabilised")
POSTERIORS = ("full", "diagonal", "lowrank")
ROWS = 72


@dataclass(frozen=True)
class Case:
    effects: str
    posterior: Any
    link: str
    mode: Any

    def model(self, *, mean: float = 0.2, **options: Any) -> GLMix:
        fixed, random = _effects(self.effects, self.posterior, mean)
        return GLMix(SCHEMA, fixed, random, link=self.link, mode=self.mode, **options)

    def table(self, seed: int = 0, n: int = ROWS) -> pa.Table:
        return table(self.link, seed, n)


def _effects(kind: str, posterior: Any, mean: float) -> tuple[Fixed, list[Random | Loadings]]:
    prior = Prior(variance=0.5, mean={"(intercept)": mean})
    # A loading acts on the coefficients of all levels, those that are yet to be seen included: their mean must be 0.
    own = Prior(
        variance={"(intercept)": 0.6, "*": 0.3}, mean={} if kind == "loadings" else {"(intercept)": 0.0, "*": 0.1}
    )
    shared: dict[str, Any] = {"prior": own, "posterior": posterior}
    if kind == "fixed":
        return Fixed("x", "g", prior=prior, posterior=posterior), []
    fixed = Fixed("x", prior=prior, posterior=posterior)
    if kind == "random":
        return fixed, [Random("user", on=["x", "g", "tags"], **shared)]
    if kind == "parent":
        return fixed, [Random("item", on=["g"], parent="campaign", **shared)]
    if kind == "crossed":
        return fixed, [Random("user", on=["tags"], **shared), Random(("user", "item"), on=["x"], **shared)]
    if kind == "loadings":
        loadings = Loadings("item", of="user", prior=Prior(variance=0.05))
        return fixed, [Random("user", on=["g"], **shared), Random("item", on=["x"], **shared), loadings]
    walks: dict[str, Any] = {"walk_per_day": {"*": 0.5}, "walk_per_event": {"(intercept)": 0.01}}
    if kind == "reverting":
        slow, fast = Forgetting(half_life=36000.0), Forgetting(half_life=3600.0, **walks)
    else:
        slow, fast = Forgetting(half_life=7200.0, form="stabilised", **walks), Forgetting(form="per_update", delta=0.95)
    return Fixed("x", prior=prior, posterior=posterior, forgetting=slow), [
        Random("user", on=["g"], forgetting=fast, **shared),
        Random("item", on=["x", "tags"], forgetting=slow, **shared),
    ]


def table(link: str, seed: int, n: int) -> pa.Table:
    """Rows in time order, whose levels and entities keep appearing until the end."""
    rng = np.random.default_rng(seed)
    known = 2 + np.arange(n) // 12
    user, item, level = (rng.integers(0, known) for _ in range(3))
    eta = rng.normal(size=n)
    labels = {"logit": rng.random(n) < 0.5, "identity": eta, "log": rng.poisson(np.exp(0.5 * eta))}
    columns = {
        "user": user,
        "item": [f"i{i}" for i in item],
        "campaign": item // 3,
        "x": rng.normal(size=n),
        "g": [f"g{i}" for i in level],
        "tags": [[f"t{i}" for i in rng.choice(3 + i // 2, size=rng.integers(0, 3), replace=False)] for i in level],
        "y": labels[link].astype(float),
        "t": 1e9 + np.cumsum(rng.exponential(300.0, n)),
        "w": rng.choice([0.5, 1.0, 2.0], n),
        "o": rng.normal(scale=0.3, size=n),
    }
    return pa.table(columns)


def with_column(data: pa.Table, name: str, values: Any) -> pa.Table:
    return data.set_column(data.schema.get_field_index(name), name, pa.array(values))


def state(model: GLMix) -> list[bytes]:
    """Every number a model has learned, to the bit."""
    arrays = [(b.mean, b.cov, b.last, b.counts) for b in model.blocks]
    return [a[: b.entities].tobytes() for b, four in zip(model.blocks, arrays) for a in four]


def cases(**fixed: Any) -> list[Any]:
    out = []
    for effects in fixed.get("effects", EFFECTS):
        for posterior in fixed.get("posterior", POSTERIORS):
            for link in fixed.get("link", ("logit", "identity", "log")):
                for mode in fixed.get("mode", ("event", "minibatch")):
                    name = f"{effects}-{posterior}-{link}-{mode}"
                    out.append(pytest.param(Case(effects, posterior, link, mode), id=name))
    return out


every = pytest.mark.parametrize("case", cases())
every_effect = pytest.mark.parametrize("case", cases(posterior=["full"], link=["logit"]))
event_only = pytest.mark.parametrize("case", cases(mode=["event"]))


def covariance(block: Block, code: int) -> np.ndarray:
    if block.kind == LOWRANK:
        return np.linalg.inv(_lowrank.unpack(block.cov[code], block.d, block.kmax).precision())
    return np.diag(block.cov[code]) if block.kind == DIAGONAL else unpack(block.cov[code])
