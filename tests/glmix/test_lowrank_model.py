"""Low-rank posteriors through the whole model: exact while nothing is compressed, better than a diagonal after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from nearline import ConfigError, Fixed, Forgetting, GLMix, Loadings, Numeric, Prior, Random, Schema
from nearline.glmix import _lowrank_rows, _priors, _state
from nearline.glmix._codes import DIAGONAL, FULL, LOWRANK
from nearline.glmix._lowrank import LowRank, pack, unpack

SCHEMA = Schema(label="y", time="t", weight="w", columns={"x": Numeric(0, 1)})
LINKS = ("logit", "identity", "log")
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


def both(forgetting: Forgetting | None = None, **options: Any) -> tuple[GLMix, GLMix]:
    return model("full", forgetting=forgetting, **options), model("lowrank", forgetting=forgetting, **options)


def assert_alike(full: GLMix, wide: GLMix, data: pa.Table, tolerance: float) -> None:
    """Margins, their variances, coefficients and explanations agree."""
    assert {block.kind for block in full.blocks} == {FULL}
    assert {block.kind for block in wide.blocks} == {LOWRANK}
    for a, b in zip(full._score(data, variances=True), wide._score(data, variances=True)):
        np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance)
    for effect, entity in (("fixed", None), ("user", 1)):
        for p, q in zip(full.coefficients(effect, entity), wide.coefficients(effect, entity)):
            assert (q.mean, q.sd) == pytest.approx((p.mean, p.sd), rel=tolerance, abs=tolerance)
    for mine, theirs in zip(full.explain(data.slice(0, 3)), wide.explain(data.slice(0, 3))):
        terms = {(c.effect, c.feature): (c.contribution, c.sd) for c in theirs}
        for c in mine:
            assert terms[c.effect, c.feature] == pytest.approx((c.contribution, c.sd), rel=tolerance, abs=tolerance)


def state(fitted: GLMix) -> list[bytes]:
    return [a[: b.entities].tobytes() for b in fitted.blocks for a in (b.mean, b.cov, b.last, b.counts)]


@pytest.mark.parametrize("form", FORGETTING)
@pytest.mark.parametrize("mode", ["event", "minibatch"])
def test_with_room_for_every_event_it_is_the_full_posterior(mode: Any, form: str) -> None:
    """Growth in the middle of the stream and every form of forgetting included; `sample` below, by its moments."""
    full, wide = both(FORGETTING[form], mode=mode)
    for seed, levels in enumerate((10, 20, 30)):
        data = table(seed, levels=levels)
        a, b = full.partial_fit(data), wide.partial_fit(data)
        np.testing.assert_allclose(b.margin, a.margin, atol=1e-9)
    # The last levels, and user 3, were never seen; the rows come an hour to days later.
    assert_alike(full, wide, table(30, n=20, levels=40, users=4), 1e-8)


@pytest.mark.parametrize("link", LINKS)
def test_weight_k_equals_k_copies_in_a_minibatch(link: str) -> None:
    """Section 4.3, as long as nothing is compressed."""
    data, weight = table(1, link=link).to_pydict(), np.random.default_rng(3).integers(1, 4, 60)
    once, copies = model("lowrank", link=link, mode="minibatch"), model("lowrank", link=link, mode="minibatch")
    once.partial_fit({**data, "w": weight.astype(float)})
    copies.partial_fit(pa.table({**data, "w": np.ones(60)}).take(np.repeat(np.arange(60), weight)))
    later = table(2, link=link)
    np.testing.assert_allclose(once._score(later, variances=True), copies._score(later, variances=True), rtol=1e-7)


@pytest.mark.parametrize("link", LINKS)
def test_every_link(link: str) -> None:
    full, wide = both(link=link)
    for mode in ("event", "minibatch"):
        for each in (full, wide):
            each.partial_fit(table(1, link=link), mode=mode)
    assert_alike(full, wide, table(9, n=20), 1e-7)


def test_a_fit_of_history_reaches_the_full_posterior() -> None:
    full, wide = both(Forgetting(half_life=86_400.0))
    data = table(1, n=200)
    a, b = (each.fit(data, cycles=400, tolerance=1e-13) for each in (full, wide))
    assert b.unsolved == {"fixed": 0, "user": 0}
    assert b.objective[-1] == pytest.approx(a.objective[-1], rel=1e-9)
    assert b.log_evidence == pytest.approx(a.log_evidence, rel=1e-6)
    assert_alike(full, wide, table(9, n=20), 1e-5)


def test_a_fit_in_pieces_stays_exact_for_the_identity_link() -> None:
    """600 rows of one entity are learned as three minibatches, which for Gaussian rows is the same posterior."""
    data = table(1, n=600, users=1, link="identity")
    # An intercept of variance 1e6 would cost some of the digits compared here.
    fixed = (
        Fixed("x", "tags", posterior="full", free_intercept=False),
        Fixed("x", "tags", posterior="lowrank", rank=700, free_intercept=False),
    )
    full, wide = (GLMix(SCHEMA, effect, link="identity") for effect in fixed)
    for each in (full, wide):
        each.fit(data)
    z, s = full._score(data, variances=True)
    np.testing.assert_allclose(wide._score(data, variances=True), [z, s], rtol=1e-7, atol=1e-9)


def test_refreshed_priors_are_the_full_posteriors_variances() -> None:
    full, wide = both()
    for each in (full, wide):
        each.partial_fit(table(1))
        each.refresh_priors(least=1)
    a, b = full.block("user").belief, wide.block("user").belief
    assert a.covariance is not None
    assert b.covariance is not None
    assert a.mean is not None
    assert b.mean is not None
    np.testing.assert_allclose(b.mean, a.mean, atol=1e-9)
    np.testing.assert_allclose(np.diagonal(b.covariance), np.diagonal(a.covariance), rtol=1e-9)
    assert np.isfinite(wide.partial_fit(table(2)).margin).all()


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


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_compressed_stream_resumes_from_disk_to_the_bit(dtype: Any, tmp_path: Path) -> None:
    """Rank 4 over 120 events: compression happens many times before and after."""
    straight, stopped = (model("lowrank", 4, Forgetting(half_life=3600.0), dtype=dtype) for _ in range(2))
    straight.partial_fit(table(1))
    stopped.partial_fit(table(1))
    resumed = GLMix.load(stopped.save(tmp_path / "model"))
    fork = straight.fork()
    for each in (straight, resumed):
        each.partial_fit(table(2, levels=30))
    assert state(resumed) == state(straight) != state(fork)
    fork.partial_fit(table(2, levels=30))
    assert state(fork) == state(straight)
    assert resumed.block("user").kind == LOWRANK


def test_splitting_a_stream_and_threads_change_no_bit() -> None:
    whole, pieces = model("lowrank", 4), model("lowrank", 4, threads=2)
    data = table(1, n=100)
    whole.partial_fit(data)
    for start in (0, 1, 40, 77):
        pieces.partial_fit(data.slice(start, {0: 1, 1: 39, 40: 37, 77: 23}[start]))
    assert state(pieces) == state(whole)
    for each in (whole, pieces):
        each.partial_fit(table(2), mode="minibatch")
    assert state(pieces) == state(whole)
    assert pieces.decision_function(data).tobytes() == whole.decision_function(data).tobytes()


def test_growth_changes_no_prediction() -> None:
    wide = model("lowrank", 4)
    wide.partial_fit(table(1))
    known, _ = wide.design(table(2), learn=False)
    before = wide._score(known, variances=True)
    wide.design(table(3, levels=90, users=9), learn=True)
    np.testing.assert_array_equal(wide._score(known, variances=True), before)


def test_scoring_after_days_leaves_the_posterior_as_it_is() -> None:
    wide = model("lowrank", 4, FORGETTING["walking and stabilised"])
    wide.partial_fit(table(1))
    before = state(wide)
    later = table(50)
    wide.decision_function(later)
    wide.interval(later)
    wide.explain(later.slice(0, 2))
    wide.sample(later, size=2)
    assert state(wide) == before


def test_a_refused_row_changes_nothing() -> None:
    """A feature whose square overflows, among good rows; a batch that has it is refused as a whole (fixed effect)."""
    data = table(1, link="log").to_pydict()
    bad = {name: [*values[:30], values[30], *values[30:]] for name, values in data.items()}
    bad["x"][30], bad["tags"][30] = 1e200, []
    clean, dirty = (model("lowrank", 4, Forgetting(half_life=3600.0), link="log") for _ in range(2))
    clean.partial_fit(data)
    assert dirty.partial_fit(bad).refused.tolist() == [30]
    assert state(dirty) == state(clean)
    assert len(dirty.partial_fit(bad, mode="minibatch").refused) == len(bad["x"])
    assert state(dirty) == state(clean)


def test_an_unseen_entity_stands_at_the_prior() -> None:
    wide = model("lowrank", 4)
    wide.partial_fit(table(1))
    new = pa.table({**table(2, n=5).to_pydict(), "user": [99] * 5})
    z, s = wide._score(new, variances=True)
    fresh = model("lowrank", 4)
    fresh.design(table(1), learn=True)
    own = fresh.block("user")
    fixed = wide.fork()
    fixed.block("user").reset()
    np.testing.assert_allclose(fixed._score(pa.table({**new.to_pydict(), "user": [1] * 5}), variances=True), [z, s])
    assert own.cov[0].tolist() == wide.block("user").prior_arrays()[1].tolist()


def test_draws_have_the_posteriors_moments() -> None:
    wide = model("lowrank", 4)
    wide.partial_fit(table(1, n=200))
    data = table(2, n=3)
    z, s = wide._score(data, variances=True)
    draws = wide.sample(data, size=4000, seed=3)
    np.testing.assert_allclose(draws.mean(axis=0), z, atol=4 * np.sqrt(s.max() / 4000))
    np.testing.assert_allclose(draws.var(axis=0), s, rtol=0.12)
    np.testing.assert_allclose(wide.sample(data, size=2, scale=0.0), [z, z], rtol=1e-12)


def test_loadings_may_act_on_low_rank_coefficients() -> None:
    def loaded(posterior: Any) -> GLMix:
        users = Random("user", on=["tags"], posterior=posterior, rank=300)
        return GLMix(SCHEMA, Fixed("x"), [users, Loadings("item", of="user")])

    full, wide = loaded("full"), loaded("lowrank")
    data, later = table(1), table(2)
    np.testing.assert_allclose(wide.partial_fit(data).margin, full.partial_fit(data).margin, atol=1e-10)
    for each in (full, wide):
        each.partial_fit(later, mode="minibatch")
    np.testing.assert_allclose(wide._score(data, variances=True), full._score(data, variances=True), atol=1e-7)


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
