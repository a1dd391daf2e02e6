"""Models of several blocks and of one, and how far their posteriors are from each other."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from nearline import Fixed, Forgetting, GLMix, Loadings, Numeric, Prior, Random, Schema

Table = dict[str, Any]
SCHEMA = Schema(label="y", time="t", weight="w", offset="o", columns={"x": Numeric(0, 1), "v": Numeric(0, 1)})
LINKS = ("logit", "identity", "log")
HALF = 36_000.0
FORGETTING = {
    "never": Forgetting(),
    "reverting": Forgetting(half_life=HALF),
    "stabilised": Forgetting(half_life=HALF, form="stabilised"),
    "walking": Forgetting(half_life=HALF, walk_per_event=0.01, walk_per_day=0.1),
}


def table(seed: int, n: int, link: str, start: float = 1e9) -> Table:
    rng = np.random.default_rng(seed)
    label = {"logit": rng.random(n) < 0.5, "identity": rng.normal(size=n), "log": rng.poisson(1.5, n)}[link]
    return {
        "user": rng.integers(0, 3, n), "item": rng.integers(0, 4, n), "tag": rng.integers(0, 5, n).astype(str),
        "x": rng.normal(size=n), "v": rng.normal(size=n), "y": label.astype(float), "w": rng.choice([0.5, 1.0, 2.0], n),
        "o": 0.3 * rng.normal(size=n), "t": start + 3600.0 * np.cumsum(rng.exponential(1.0, n)),
    }  # fmt: skip


def rows(data: Table, chosen: Any) -> Table:
    return {name: column[chosen] for name, column in data.items()}


def model(
    link: str, kind: Any = "full", forgetting: str = "never", loads: bool = False, dtype: Any = "float64"
) -> GLMix:
    own: dict[str, Any] = {"posterior": kind, "forgetting": FORGETTING[forgetting], "rank": 150}
    random: list[Any] = [Random("user", on=["x", "tag"], **own), Random("item", on=["x", "v"], **own)]
    if loads:
        random.append(Loadings("item", of="user", forgetting=FORGETTING[forgetting]))
    return GLMix(SCHEMA, Fixed("x", "tag", **own), random, link=link, dtype=dtype)


def single(link: str, forgetting: Forgetting | None = None, mode: Literal["event", "minibatch"] = "event") -> GLMix:
    """One block: per-user coefficients alone."""
    user = Random("user", on=["x", "v", "tag"], prior=Prior(0.7), forgetting=forgetting)
    return GLMix(SCHEMA, Fixed(intercept=False), [user], link=link, mode=mode)
