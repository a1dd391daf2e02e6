"""Which entities, rows and features a batch fit takes, against fits of what they come to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline import ConfigError, Fixed, GLMix, Numeric, Prior, Random, Schema
from nearline.glmix import FixedFit, RandomFit
from nearline.glmix._block import LocalDesign, group
from nearline.glmix._fit import _sampling

COLUMNS = ("a", "b", "c")
SCHEMA = Schema(label="y", weight="w", columns={c: Numeric(0, 1) for c in COLUMNS})
PRIOR = Prior({"(intercept)": 1.0, "*": 0.5}, {"a": 0.3})


def table(seed: int = 0, n: int = 200, users: int = 8) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    columns = {c: rng.normal(size=n) for c in COLUMNS}
    # Half of them have many rows, half few.
    user = np.where(rng.random(n) < 0.9, rng.integers(0, users // 2, n), rng.integers(users // 2, users, n))
    return {"user": user, **columns, "y": rng.integers(0, 2, n), "w": rng.uniform(0.5, 2.0, n)}


def some(data: dict[str, Any], rows: Any) -> dict[str, Any]:
    return {name: np.asarray(column)[rows] for name, column in data.items()}


def model(fit: RandomFit | None = None, **options: Any) -> GLMix:
    user = Random("user", on=COLUMNS, prior=PRIOR, fit=fit, **options)
    return GLMix(SCHEMA, Fixed(intercept=False), [user])


def posterior(of: GLMix, user: int) -> tuple[np.ndarray, np.ndarray]:
    block, code = of.block("user"), of.encoder.entity_codes("user")[user]
    return block.mean[code].copy(), block.cov[code].copy()


def test_an_entity_with_too_few_rows_gets_no_new_model() -> None:
    data = table()
    sizes = np.bincount(data["user"], minlength=8)
    least = int(np.median(sizes))
    strict, all_of_them = model(RandomFit(least_rows=least)), model()
    strict.fit(data)
    all_of_them.fit(data)
    assert (sizes < least).any()
    for user, size in enumerate(sizes):
        expected = strict.block("user").prior_arrays() if size < least else posterior(all_of_them, user)
        for one, two in zip(posterior(strict, user), expected):
            np.testing.assert_allclose(one, two, rtol=1e-9)


def test_a_model_that_an_entity_has_is_kept_and_scored() -> None:
    data = table()
    sizes = np.bincount(data["user"], minlength=8)
    poor = int(np.flatnonzero(sizes < 15)[0])
    strict = model(RandomFit(least_rows=15))
    strict.partial_fit(some(data, data["user"] == poor))
    before = posterior(strict, poor)
    report = strict.fit(data)
    for one, two in zip(posterior(strict, poor), before):
        np.testing.assert_array_equal(one, two)
    assert report.blocks[0].rows == int(sizes[sizes >= 15].sum())
    rows = some(data, data["user"] == poor)
    X = np.column_stack([np.ones(len(rows["y"])), *(rows[c] for c in COLUMNS)])
    np.testing.assert_allclose(strict.decision_function(rows), X @ before[0], atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1_000), most=st.integers(1, 40), entities=st.integers(1, 12))
def test_a_reservoir_keeps_every_total(seed: int, most: int, entities: int) -> None:
    rng = np.random.default_rng(seed)
    codes, w = rng.integers(-1, entities, 150).astype(np.int32), rng.uniform(0.1, 3.0, 150)
    whole = group(codes, entities)
    kept, scaled = _sampling.reservoir(whole, w, RandomFit(most_rows=most, seed=seed))
    assert kept.codes.tolist() == whole.codes.tolist()
    for e in range(len(whole.codes)):
        before, after = whole.order[whole.ptr[e] : whole.ptr[e + 1]], kept.order[kept.ptr[e] : kept.ptr[e + 1]]
        assert len(after) == min(most, len(before))
        assert set(after) <= set(before)
        assert float(scaled[after].sum()) == pytest.approx(float(w[before].sum()), rel=1e-12)
        ratio = scaled[after] / w[after]
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-12)
        assert not scaled[np.setdiff1d(before, after)].any()


def test_a_reservoir_is_fair_and_keeps_its_draws_when_history_grows() -> None:
    """Every row is as likely: 4,000 draws of 3 rows in 12, within five standard errors."""
    w, times = np.ones(12), np.zeros(12)
    whole = group(np.zeros(12, np.int32), 1)
    for seed in range(4_000):
        times[_sampling.reservoir(whole, w, RandomFit(most_rows=3, seed=seed))[0].order] += 1
    assert (np.abs(times - 1_000) < 5 * np.sqrt(4_000 * 0.25 * 0.75)).all()
    np.testing.assert_array_equal(_sampling.draws(50, 7), _sampling.draws(80, 7)[:50])


def test_most_rows_is_a_fit_of_the_rows_drawn() -> None:
    data = table()
    small = model(RandomFit(most_rows=20, seed=5))
    report = small.fit(data)
    design, _ = small.design(data, learn=True)
    whole = group(design.entities["user"], 8)
    kept, scaled = _sampling.reservoir(whole, data["w"], RandomFit(most_rows=20, seed=5))
    alone = model()
    alone.design(data, learn=True)
    alone.fit({**some(data, np.sort(kept.order)), "w": scaled[np.sort(kept.order)]})
    assert report.blocks[0].rows == len(kept.order) < len(data["y"])
    for user in range(8):
        for one, two in zip(posterior(small, user), posterior(alone, user)):
            np.testing.assert_allclose(one, two, rtol=1e-8, atol=1e-12)


def test_features_are_ranked_by_correlation_with_the_label() -> None:
    """Against NumPy's own correlations, weights as copies; a constant feature ranks last."""
    rng = np.random.default_rng(0)
    n, d = 60, 6
    X, w = rng.normal(size=(n, d)), rng.integers(1, 4, n)
    X[:, 0], X[:, 4] = 1.0, 2.0
    y, codes = (rng.random(n) < 1 / (1 + np.exp(-2 * X[:, 2]))) * 1.0, np.arange(n, dtype=np.int32) % 3
    design = LocalDesign(np.arange(n + 1) * d, np.tile(np.arange(d, dtype=np.int32), n), X.ravel())
    mu0 = rng.normal(size=d)
    fewer, given_up = _sampling.fewer_features(design, group(codes, 3), y, w * 1.0, 0.1, 0, mu0)
    kept = fewer.values.reshape(n, d) != 0.0
    np.testing.assert_allclose(given_up, np.where(kept, 0.0, X) @ mu0, atol=1e-12)
    for user in range(3):
        rows = np.flatnonzero(codes == user)
        copies = np.repeat(rows, w[rows])
        score = [-1.0 if j in (0, 4) else abs(np.corrcoef(X[copies, j], y[copies])[0, 1]) for j in range(d)]
        best = {0, *np.argsort(score)[::-1][:2].tolist()}
        assert (kept[rows] == np.isin(np.arange(d), list(best))).all()


def test_features_that_are_given_up_stay_at_the_prior_and_count_at_it() -> None:
    data = table()
    capped = model(RandomFit(features_per_row=1e-9))  # one feature per entity
    capped.fit(data)
    block = capped.block("user")
    mu0 = block.prior_arrays()[0]
    for code in range(8):
        moved = np.flatnonzero(block.mean[code, 1:] != mu0[1:])
        assert len(moved) <= 1
    # A prior mean of the features given up is part of the score: an offset to the fit.
    user = 0
    code, rows = capped.encoder.entity_codes("user")[user], some(data, data["user"] == user)
    j = int(np.flatnonzero(block.mean[code, 1:] != mu0[1:])[0])
    alone = GLMix(
        Schema("y", weight="w", offset="o", columns=SCHEMA.columns), Fixed(intercept=False),
        [Random("user", on=[COLUMNS[j]], prior=Prior(PRIOR.variance, {COLUMNS[j]: mu0[1 + j], "*": 0.0}))],
    )  # fmt: skip
    alone.fit({**rows, "o": 0.0 if j == 0 else 0.3 * rows["a"]})
    np.testing.assert_allclose(block.mean[code, [0, 1 + j]], alone.block("user").mean[0], rtol=1e-9)
    np.testing.assert_allclose(capped.decision_function(rows), alone.decision_function({**rows, "o": 0.3 * rows["a"]}))


def test_a_cap_on_features_needs_independent_coefficients() -> None:
    data = table()
    capped = model(RandomFit(features_per_row=0.1))
    capped.learn_priors(data, method="evidence", rounds=1, structure="diagonal")
    capped.fit(data)
    with pytest.raises(ConfigError, match="learn it with structure='diagonal'"):
        capped.learn_priors(data, method="evidence", rounds=1, structure="full")


def test_negatives_are_sampled_and_weighted_back() -> None:
    """Photon-ML: kept at rate ρ with weight 1/ρ; the intercept stays that of all rows, as far as a sample can tell."""
    rng = np.random.default_rng(1)
    n = 40_000
    data = {"a": rng.normal(size=n)}
    data["y"] = (rng.random(n) < 1 / (1 + np.exp(-(0.8 * data["a"] - 3.0)))).astype(int)
    schema = Schema("y", weight="w", columns={"a": Numeric(0, 1)})
    whole = GLMix(schema, Fixed("a"))
    whole.fit({**data, "w": np.ones(n)})
    some_of_them = GLMix(schema, Fixed("a", fit=FixedFit(negatives=0.1, seed=4)))
    report = some_of_them.fit({**data, "w": np.ones(n)})
    kept = (data["y"] == 1) | (_sampling.draws(n, 4) < 0.1)
    assert report.blocks[0].rows == int(kept.sum()) < 0.2 * n
    alone = GLMix(schema, Fixed("a"))
    alone.fit({**some(data, kept), "w": np.where(data["y"] == 1, 1.0, 10.0)[kept]})
    np.testing.assert_allclose(some_of_them.block("fixed").mean[0], alone.block("fixed").mean[0], atol=1e-9)
    sd = np.sqrt(10 * 0.05 / 0.95) * np.array([c.sd for c in whole.coefficients("fixed")])
    assert (np.abs(some_of_them.block("fixed").mean[0] - whole.block("fixed").mean[0]) < 5 * sd).all()
    with pytest.raises(ConfigError, match="no label is negative"):
        GLMix(schema, Fixed("a", fit=FixedFit(negatives=0.5)), link="identity").fit({**data, "w": np.ones(n)})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"least_rows": 0}, "least_rows=...\\) must be at least 1"),
        ({"least_rows": 9, "most_rows": 3}, "most_rows=...\\) must be at least least_rows"),
        ({"features_per_row": 0.0}, "features_per_row=...\\) must be > 0"),
    ],
)
def test_settings_that_cannot_be_meant(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RandomFit(**settings)


def test_settings_survive_a_save(tmp_path: Any) -> None:
    fit = RandomFit(least_rows=2, most_rows=50, features_per_row=0.5, seed=1)
    chosen = model(fit)
    chosen.fit(table())
    loaded = GLMix.load(chosen.save(tmp_path / "model"))
    assert isinstance(loaded.random[0], Random)
    assert loaded.random[0].fit == fit
