"""Models of every kind to be saved, and whether two are the same."""

from __future__ import annotations

from typing import Any

import numpy as np

from nearline import (
    Categorical,
    Fixed,
    Forgetting,
    GLMix,
    Hashed,
    Loadings,
    Multi,
    Numeric,
    Prior,
    Random,
    Schema,
    Vector,
)

SCHEMA = Schema(
    label="y", time="t", id="id", weight="w", offset="o",
    columns={"x": Numeric(1.0, 2.0), "tags": Multi("|"), "text": Hashed(bits=3), "v": Vector(), "age": Categorical()},
)  # fmt: skip
WALKS = Forgetting(half_life=float("inf"), form="stabilised", walk_per_event={"x": 0.01, "*": 0.0}, walk_per_day=0.5)
KINDS: dict[str, tuple[Fixed | None, list[Any]]] = {
    "nothing but an intercept": (None, []),
    "fixed": (Fixed("x", "tags", "text", "v", "age", prior=Prior({"x": 2.0, "*": 0.5}, {"x": 0.1})), []),
    "no fixed": (Fixed(intercept=False), [Random("user", on=["x"], posterior="diagonal", rank=3)]),
    "composite": (Fixed("x", posterior="diagonal"), [Random(("user", "item"), on=["x"], intercept=False, name="pair")]),
    "low rank": (Fixed("x", "text", posterior="lowrank", rank=2), [Random("user", on=["text"], posterior="lowrank")]),
    "parent": (Fixed(), [Random("item", on=["age"], parent="user")]),
    "forgetful": (
        Fixed("x", forgetting=Forgetting(half_life=60.0)),
        [
            Random("user", on=["x"], forgetting=WALKS),
            Random("item", forgetting=Forgetting(form="per_update", delta=0.9)),
        ],
    ),
    "loadings": (
        Fixed("x"),
        [Random("user", on=["age"]), Loadings("item", of="user", name="factor", prior=Prior(0.2))],
    ),
}


def table(seed: int = 0, n: int = 60) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "id": [f"{seed}-{i}" for i in range(n)],
        "user": rng.integers(0, 5, n),
        "item": [["a", "b", "ü", ""][i] for i in rng.integers(0, 4, n)],
        "x": rng.normal(size=n),
        "tags": ["|".join(rng.choice(["p", "q", "r"], 2)) for _ in range(n)],
        "text": [f"word{i}" for i in rng.integers(0, 20, n)],
        "v": [rng.normal(size=2).tolist() for _ in range(n)],
        "age": rng.integers(20, 24, n),
        "y": rng.integers(0, 2, n),
        "t": np.sort(rng.uniform(0, 1e5, n)),
        "w": rng.uniform(0.5, 2.0, n),
        "o": rng.normal(size=n),
    }


def model_of(kind: str, **options: Any) -> GLMix:
    fixed, random = KINDS[kind]
    return GLMix(SCHEMA, fixed, random, **options)


def same(one: GLMix, two: GLMix) -> None:
    for name in ("schema", "fixed", "random", "link", "mode", "dtype", "dispersion", "threads", "refresh_every"):
        assert getattr(one, name) == getattr(two, name)
    assert one.events_learned == two.events_learned
    vocabularies = [
        (m.encoder.slot_names, m.encoder.slot_columns, m.encoder.keys, m.encoder.features) for m in (one, two)
    ]
    assert vocabularies[0] == vocabularies[1]
    for key in one.encoder.keys:
        assert dict(one.encoder.entity_codes(key)) == dict(two.encoder.entity_codes(key))
    assert len(one.blocks) == len(two.blocks)
    for a, b in zip(one.blocks, two.blocks):
        assert (a.effect, a.kind, a.d, a.entities) == (b.effect, b.kind, b.d, b.entities)
        assert (a.slots, a.columns, a.known_slots) == (b.slots, b.columns, b.known_slots)
        assert (a.belief.prior, a.belief.forgetting) == (b.belief.prior, b.belief.forgetting)
        for old, new in ((a.belief.mean, b.belief.mean), (a.belief.covariance, b.belief.covariance)):
            assert (old is None and new is None) or (
                old is not None and new is not None and old.tobytes() == new.tobytes()
            )
        for name in ("mean", "cov", "last", "counts"):
            old, new = getattr(a, name)[: a.entities], getattr(b, name)[: b.entities]
            assert (old.dtype, old.shape, old.tobytes()) == (new.dtype, new.shape, new.tobytes())
