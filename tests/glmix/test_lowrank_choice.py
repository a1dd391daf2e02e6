"""When a posterior is low-rank: by size, by prior, by conversion; and better than a diagonal."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from tests.glmix.lowrank_model_parts import SCHEMA, model, table

from nearline import ConfigError, Fixed, GLMix, Prior, Random, Schema
from nearline.glmix import _lowrank_rows, _priors, _state
from nearline.glmix._codes import DIAGONAL, FULL, LOWRANK
from nearline.glmix._lowrank import LowRank, pack, unpack


def test_a_prior_too_wide_for_memory_is_left_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_priors, "WIDEST", 20)
    wide = model("lowrank", rank=6)
    wide.partial_fit(table(1))
    before = wide.block("user").belief
    assert wide.refresh_priors(least=1) == {}
    assert wide.block("user").belief is before
    with pytest.raises(ConfigError, match=r"effect 'user': .* 22 coefficients .* structure='scalar'"):
        wide.learn_priors(table(1), method="evidence")
    assert wide.learn_priors(table(1), method="evidence", rounds=1, structure="scalar").evaluations > 0


def test_rebasing_on_the_same_prior_changes_nothing() -> None:
    from nearline.glmix._priors import rebase

    wide = model("lowrank", rank=6)
    wide.partial_fit(table(1, n=100))
    before = wide._score(table(2), variances=True)
    rebase(wide.block("user"), wide.block("user").belief)
    np.testing.assert_allclose(wide._score(table(2), variances=True), before, rtol=1e-9)


def wide_table(levels: range, n: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    tags = [[f"t{i}" for i in rng.choice(levels, 4, replace=False)] for _ in range(n - 1)]
    columns = {"tags": [*tags, [f"t{i}" for i in levels]], "user": [1] * n, "y": (rng.random(n) < 0.5).astype(float)}
    return pa.table({**columns, "t": np.arange(n) * 60.0, "w": np.ones(n), "x": rng.normal(size=n)})


def test_auto_chooses_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_state, "LOWRANK_MOST", 700)
    auto = GLMix(SCHEMA, Fixed("tags"), [Random("user", on=["tags"])])

    def kinds() -> list[int]:
        return [block.kind for block in auto.blocks]

    seen = []
    for levels in (100, 140, 520, 720):
        auto.partial_fit(wide_table(range(levels), 20))
        seen.append((auto.block("user").d, kinds()))
    assert seen == [(101, [FULL, FULL]), (141, [FULL, LOWRANK]), (521, [LOWRANK, LOWRANK]), (721, [DIAGONAL, DIAGONAL])]
    assert _state.FULL_RANDOM == 128
    assert _state.FULL_FIXED == 512


def test_becoming_low_rank_keeps_what_few_events_said() -> None:
    """Fewer events than the rank: the full posterior is diagonal plus low rank, so nothing is lost."""
    auto = GLMix(SCHEMA, Fixed(intercept=False), [Random("user", on=["tags"])])
    auto.partial_fit(wide_table(range(120), 12))
    known, _ = auto.design(wide_table(range(120), 9, seed=1), learn=False)
    before = auto._score(known, variances=True)
    auto.design(wide_table(range(200), 4), learn=True)
    assert auto.block("user").kind == LOWRANK
    np.testing.assert_allclose(auto._score(known, variances=True), before, rtol=1e-9)


def test_a_conversion_keeps_the_marginal_precisions() -> None:
    rng = np.random.default_rng(0)
    X, precision = rng.normal(size=(40, 12)), rng.uniform(1, 4, 12)
    H = np.diag(precision) + X.T @ X
    kept = _lowrank_rows.from_covariance(np.linalg.inv(H), precision, rank=5)
    assert kept.Q.shape == (12, 5)
    np.testing.assert_allclose(np.diagonal(kept.precision()), np.diagonal(H), rtol=1e-10)
    exact = _lowrank_rows.from_covariance(np.linalg.inv(H), precision, rank=12)
    np.testing.assert_allclose(exact.precision(), H, rtol=1e-8, atol=1e-8)
    again = unpack(pack(kept, 8), 12, 8)
    assert isinstance(again, LowRank)
    np.testing.assert_array_equal(again.Q, kept.Q)


def test_on_correlated_features_it_beats_a_diagonal() -> None:
    """200 tags in groups of ten that always come together: a diagonal posterior counts each group ten times."""
    rng = np.random.default_rng(0)
    n, effect = 1500, rng.normal(scale=1.0, size=20)
    chosen = [rng.choice(20, 2, replace=False) for _ in range(n)]
    tags = [[f"t{10 * g + i}" for g in groups for i in range(10)] for groups in chosen]
    eta = np.array([effect[groups].sum() for groups in chosen])
    data = {"tags": tags, "y": (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float), "t": np.arange(n) * 60.0}
    losses = {}
    for posterior in ("full", "lowrank", "diagonal"):
        fixed = Fixed("tags", posterior=posterior, rank=16, prior=Prior(0.1))
        fitted = GLMix(Schema(label="y", time="t"), fixed)
        z = fitted.partial_fit(data).margin
        losses[posterior] = float(np.mean(np.logaddexp(0.0, z) - data["y"] * z))
        assert fitted.blocks[0].d == 201
    assert losses["lowrank"] < losses["diagonal"] - 0.01
    assert losses["lowrank"] < losses["full"] + 0.01
