"""Learned priors: what a simulation put in comes out, evidence survives a change of prior, searches improve."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from nearline import ConfigError, Fixed, Forgetting, GLMix, Loadings, Numeric, Prior, Random, Schema, datasets, evaluate
from nearline.glmix import _links, _priors
from nearline.glmix._packed import unpack
from nearline.glmix._state import Block

SCHEMA = Schema(label="y", time="t", weight="w", columns={c: Numeric(0, 1) for c in ("a", "b")})
NO_FIXED = Fixed(intercept=False)


def user(prior: Prior | None = None, posterior: Any = "full", **options: Any) -> Random:
    return Random("user", on=["a", "b"], prior=prior or Prior(1.0), posterior=posterior, **options)


def simulate(
    V: np.ndarray, mean: Any = 0.0, *, users: int = 1500, each: int = 8, seed: int = 0, noise: float | None = 1.0
) -> dict[str, Any]:
    """Rows of users with coefficients from N(mean, V); real labels of variance `noise`, or clicks for None."""
    rng = np.random.default_rng(seed)
    beta = mean + rng.normal(size=(users, 3)) @ np.linalg.cholesky(V).T
    who = np.tile(np.arange(users), each)
    a, b = rng.normal(size=(2, len(who)))
    eta = beta[who, 0] + beta[who, 1] * a + beta[who, 2] * b
    clicks = (rng.random(len(who)) < 1 / (1 + np.exp(-eta))).astype(float)
    y = clicks if noise is None else eta + np.sqrt(noise) * rng.normal(size=len(who))
    return {"user": who, "a": a, "b": b, "y": y, "t": np.arange(len(who), dtype=float), "w": np.ones(len(who))}


def take(data: dict[str, Any], rows: Any) -> dict[str, Any]:
    return {name: np.asarray(column)[rows] for name, column in data.items()}


# -- evidence --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("posterior", ["full", "diagonal"])
@pytest.mark.parametrize(("noise", "truth"), [(1.0, 0.4), (1.0, 3.0), (None, 0.4)])
def test_evidence_recovers_one_variance(noise: float | None, truth: float, posterior: str) -> None:
    """Section 5.4, λ ← Σ(d − λ tr V)/Σ‖θ‖²: within 4 standard errors of a variance of so many coefficients.

    Approximations cost a few percent: Laplace's of the logit link (200 clicks a user), and the diagonal's.
    """
    users = 1500 if noise else 500
    data = simulate(truth * np.eye(3), noise=noise, each=8 if noise else 200, users=users)
    link = "identity" if noise else "logit"
    model = GLMix(SCHEMA, NO_FIXED, [user(posterior=posterior)], link=link)
    found = model.learn_priors(data, method="evidence", structure="scalar", rounds=3)
    belief = found.beliefs["user"]
    assert belief.prior.variance_of("a") == belief.prior.variance_of("(intercept)")
    bias = 0.0 if noise and posterior == "full" else 0.05
    assert belief.prior.variance_of("a") == pytest.approx(truth, rel=4 * np.sqrt(2 / (3 * users)) + bias)
    assert found.after >= found.before
    # What is said to be the evidence of the learned priors is it, and the prior holds for levels that are yet to come.
    refit = model.fit(data, cycles=3, tolerance=0.0)
    assert refit.log_evidence["user"] / len(data["y"]) == pytest.approx(found.after, rel=1e-9)
    assert belief.variance0(["never seen"]).tolist() == [belief.prior.variance_of("a")]


def test_evidence_recovers_a_variance_for_every_dimension_and_the_mean() -> None:
    """Section 5.4: Λ0⁻¹ ← mean_e [V_e + (θ_e − μ0)(θ_e − μ0)ᵀ], diagonal and full, μ0 ← mean_e θ_e."""
    V = np.array([[1.0, 0.5, 0.0], [0.5, 0.6, -0.2], [0.0, -0.2, 0.3]])
    mean = np.array([0.5, -1.0, 0.2])
    error = 5 * np.sqrt(2 / 1500)
    short = GLMix(SCHEMA, NO_FIXED, [user()], link="identity")
    half_way = short.learn_priors(simulate(V, users=200), method="evidence", structure="full", rounds=1)
    refit = short.fit(simulate(V, users=200), cycles=3, tolerance=0.0)
    assert half_way.evaluations == 10
    assert refit.log_evidence["user"] / 1600 == pytest.approx(half_way.after, rel=1e-9)
    diagonal, full = (GLMix(SCHEMA, NO_FIXED, [user()], link="identity") for _ in range(2))
    data = simulate(V)
    found = diagonal.learn_priors(data, method="evidence", structure="diagonal", rounds=4).beliefs["user"]
    np.testing.assert_allclose(np.diag(found.covariance), np.diag(V), rtol=error)
    assert np.count_nonzero(found.covariance - np.diag(np.diag(found.covariance))) == 0
    data = simulate(V, mean)
    found = full.learn_priors(data, method="evidence", structure="full", rounds=4).beliefs["user"]
    np.testing.assert_allclose(found.covariance, V, atol=error)
    np.testing.assert_allclose(found.mean, mean, atol=5 / np.sqrt(1500))
    np.testing.assert_allclose(found.covariance, found.covariance.T)


def test_learning_priors_forgets_what_was_learned_and_keeps_the_vocabulary() -> None:
    data = simulate(np.eye(3), users=60)
    model = GLMix(SCHEMA, Fixed("a"), [user()], link="identity")
    model.partial_fit(data)
    found = model.learn_priors(data, method="evidence", rounds=1)
    block = model.block("user")
    assert block.belief is found.beliefs["user"]
    assert found.beliefs["fixed"].prior == Fixed("a").prior
    assert block.entities == 60
    mean, cov = block.prior_arrays()
    np.testing.assert_array_equal(block.mean[:60], np.tile(mean, (60, 1)))
    np.testing.assert_array_equal(block.cov[:60], np.tile(cov, (60, 1)))
    assert np.isnan(block.last[:60]).all()
    assert not block.counts[:60].any()


def test_settings_of_learn_priors_are_checked() -> None:
    model = GLMix(SCHEMA, NO_FIXED, [user()])
    data = simulate(np.eye(3), users=2, noise=None)
    with pytest.raises(ConfigError, match=r"learn_priors\(method=...\) is 'one_step' or 'evidence', got 'best'"):
        model.learn_priors(data, method="best")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"learn_priors\(structure=...\) is 'scalar'"):
        model.learn_priors(data, structure="dense")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="the table is empty"):
        model.learn_priors(take(data, slice(0, 0)))


@pytest.mark.skipif("NEARLINE_DATA" not in os.environ, reason="needs MovieLens-100k under NEARLINE_DATA")
def test_acceptance_18_learned_scalar_prior_on_movielens_100k() -> None:
    """Sections 11.2, 11.4, 11.5: λ = 5.2 ± 0.2 from the first half, log loss at most 0.6295 on the second."""
    ratings = datasets.movielens_100k()
    year = np.nan_to_num(np.array(ratings["year"].to_pylist(), dtype=float)) / 2000
    columns = {name: ratings[name] for name in ("movie_id", "gender", "occupation", "genres")}
    labels = (ratings["rating"].to_numpy() > 3).astype(float)
    columns |= {"age": ratings["age"].to_numpy() / 100, "year": year, "y": labels}
    data, half = pa.table(columns), ratings.num_rows // 2
    numbers = {"age": Numeric(0, 1), "year": Numeric(0, 1)}
    everything = ("age", "gender", "occupation", "genres", "year")
    free_intercept = Prior({"(intercept)": 1e6, "*": 1.0})
    fixed = GLMix(Schema("y", columns=numbers), Fixed(*everything, prior=free_intercept))
    fixed.fit(data.slice(0, half))
    y = data["y"].to_numpy()[half:]
    assert evaluate.auc(y, fixed.predict_proba(data.slice(half))) == pytest.approx(0.6050, abs=5e-4)
    data = data.append_column("o", pa.array(fixed.decision_function(data)))
    movie = Random("movie_id", on=["age", "gender", "occupation"], prior=Prior(1.0), posterior="full")
    model = GLMix(Schema("y", offset="o", columns={"age": Numeric(0, 1)}), NO_FIXED, [movie], mode="minibatch")
    learned = model.learn_priors(data.slice(0, half), method="evidence", structure="scalar")
    assert model.block("movie_id").d == 25
    assert 1 / learned.beliefs["movie_id"].prior.variance_of("age") == pytest.approx(5.2, abs=0.2)
    model.fit(data.slice(0, half))
    p = []
    for start in range(half, ratings.num_rows, 2500):
        part = data.slice(start, 2500)
        p.append(model.predict_proba(part))
        model.partial_fit(part)
    assert evaluate.log_loss(y, np.concatenate(p)) <= 0.6295
    assert evaluate.auc(y, np.concatenate(p)) == pytest.approx(0.7011, abs=5e-4)


# -- a new prior without a replay --------------------------------------------------------------------------------------


def evidence_of(block: Block) -> tuple[np.ndarray, np.ndarray]:
    """Section 5.1: J = H − Λ0 and j = Hθ − Λ0 μ0 of every entity."""
    n, (mu0, cov0) = block.entities, block.prior_arrays()
    theta, cov = block.mean[:n], block.cov[:n]
    if block.cov_size == block.d:
        return 1 / cov - 1 / cov0, theta / cov - mu0 / cov0
    H, base = np.linalg.inv(unpack(cov)), np.linalg.inv(unpack(cov0))
    return H - base, np.einsum("eij,ej->ei", H, theta) - base @ mu0


def learned(posterior: Any = "full", **options: Any) -> GLMix:
    """A model of 80 users that has streamed, half of its users known and never learned from."""
    model = GLMix(SCHEMA, Fixed("a"), [user(posterior=posterior)], **options)
    data = simulate(np.eye(3), users=160, noise=None)
    model.design(data, learn=True)
    model.partial_fit(take(data, data["user"] < 80))
    return model


@pytest.mark.parametrize("posterior", ["full", "diagonal"])
def test_refreshing_priors_keeps_what_the_data_said(posterior: str) -> None:
    """Section 5.1: a new base prior needs no replay, J and j stay."""
    model = learned(posterior)
    block = model.block("user")
    J, j = evidence_of(block)
    fixed = model.block("fixed").mean.tobytes()
    changed = model.refresh_priors()
    assert changed.keys() == {"user"}
    assert changed["user"] is block.belief
    after = evidence_of(block)
    np.testing.assert_allclose(after[0][:80], J[:80], atol=1e-9)
    np.testing.assert_allclose(after[1][:80], j[:80], atol=1e-9)
    assert model.block("fixed").mean.tobytes() == fixed
    mean, cov = block.prior_arrays()
    np.testing.assert_array_equal(block.mean[80:160], np.tile(mean, (80, 1)))
    np.testing.assert_array_equal(block.cov[80:160], np.tile(cov, (80, 1)))


@pytest.mark.parametrize("posterior", ["full", "diagonal", "lowrank"])
def test_a_prior_and_back_is_the_same_posterior(posterior: str) -> None:
    model = learned(posterior)
    block = model.block("user")
    before = block.mean[:160].copy(), _priors.posteriors(block, np.arange(160))[1]
    old = block.belief
    other = replace(old, prior=Prior({"a": 0.1, "*": 7.0}, {"b": 2.0}))
    if posterior == "full":
        V = np.array([[2.0, 0.9, 0.1], [0.9, 0.5, 0.0], [0.1, 0.0, 0.3]])
        other = replace(old, mean=np.array([1.0, -1.0, 0.5]), covariance=V)
    _priors.rebase(block, other)
    assert np.abs(block.mean[:160] - before[0]).max() > 0.1
    _priors.rebase(block, old)
    np.testing.assert_allclose(block.mean[:160], before[0], atol=1e-8)
    np.testing.assert_allclose(_priors.posteriors(block, np.arange(160))[1], before[1], atol=1e-8)


def test_rebasing_equals_having_had_the_prior_all_along_under_the_identity_link() -> None:
    """Section 5.1: exact for linear loss, one block."""
    data = simulate(np.eye(3), users=40)
    one, two = (GLMix(SCHEMA, NO_FIXED, [user(prior)], link="identity") for prior in (Prior(1.0), Prior(0.2, 0.3)))
    for model in (one, two):
        model.partial_fit(data)
    _priors.rebase(one.block("user"), two.block("user").belief)
    np.testing.assert_allclose(one.block("user").mean[:40], two.block("user").mean[:40], atol=1e-8)
    np.testing.assert_allclose(one.block("user").cov[:40], two.block("user").cov[:40], atol=1e-8)


def test_refreshing_priors_is_a_step_of_expectation_maximisation() -> None:
    """Section 5.4, shrunk towards its diagonal by d/(d + E)."""
    model = learned()
    block = model.block("user")
    theta, V = block.mean[:80].copy(), unpack(block.cov[:80])
    belief = model.refresh_priors()["user"]
    # On a column of the fixed effect the mean is the fixed effect's to carry.
    shared = np.array([column in model.block("fixed").columns for column in block.columns])
    assert shared.any()
    assert not shared.all()
    np.testing.assert_allclose(belief.mean, np.where(shared, 0.0, theta.mean(axis=0)), atol=1e-12)
    centred = theta - belief.mean
    second = V.mean(axis=0) + centred.T @ centred / 80
    np.testing.assert_allclose(np.diag(belief.covariance), np.diag(second), rtol=1e-10)
    np.testing.assert_allclose(belief.covariance[0, 1], second[0, 1] * 80 / 83, rtol=1e-10)


def test_few_entities_keep_their_prior() -> None:
    model = learned()
    assert model.refresh_priors(least=81) == {}
    assert model.refresh_priors(least=80).keys() == {"user"}


def test_new_dimensions_after_a_refresh_follow_the_declared_prior() -> None:
    schema = Schema("y")
    model = GLMix(schema, NO_FIXED, [Random("user", on=["g"], prior=Prior(0.7))])
    rng = np.random.default_rng(0)
    rows = {"user": np.arange(100) % 60, "g": ["g0", "g1"] * 50, "y": rng.integers(0, 2, 100)}
    model.partial_fit(rows)
    model.refresh_priors()
    z = model.decision_function(rows)
    model.partial_fit({"user": [0], "g": ["g2"], "y": [1]})
    block = model.block("user")
    V0 = block.belief.V0(block.columns)
    assert block.d == 4
    np.testing.assert_array_equal(V0[3], [0.0, 0.0, 0.0, 0.7])
    np.testing.assert_array_equal(V0[:3, :3], block.belief.covariance)
    others = np.flatnonzero(rows["user"] != 0)
    np.testing.assert_array_equal(model.decision_function(rows)[others], z[others])


@pytest.mark.parametrize("mode", ["event", "minibatch"])
def test_priors_are_refreshed_every_so_many_events(mode: Any) -> None:
    data = simulate(np.eye(3), users=60, noise=None)
    automatic, manual = (GLMix(SCHEMA, Fixed("a"), [user()], mode=mode, refresh_every=n) for n in (240, None))
    for part in (slice(0, 240), slice(240, 480)):
        automatic.partial_fit(take(data, part))
        manual.partial_fit(take(data, part))
        manual.refresh_priors()
    for one, two in zip(automatic.blocks, manual.blocks):
        assert one.mean.tobytes() == two.mean.tobytes()
        assert one.cov.tobytes() == two.cov.tobytes()
    assert automatic.events_learned == 480


@pytest.mark.parametrize("cuts", [[], [1], [100, 239], [240], [241, 300, 477]])
def test_refreshes_fall_on_the_same_event_however_a_table_is_split(cuts: list[int]) -> None:
    """Rows of weight 0 and refused rows are not counted."""
    data = simulate(np.eye(3), users=60, noise=None)
    data["w"][::7] = 0.0
    data["a"][5] = 1e200
    whole, pieces = (GLMix(SCHEMA, Fixed("a"), [user()], refresh_every=100) for _ in range(2))
    for model in (whole, pieces):
        model.design(data, learn=True)
    learned_rows = whole.partial_fit(data).rows
    for start, stop in zip([0, *cuts], [*cuts, 480]):
        pieces.partial_fit(take(data, slice(start, stop)))
    assert whole.events_learned == pieces.events_learned == learned_rows
    assert learned_rows == np.count_nonzero(data["w"]) - 1
    for one, two in zip(whole.blocks, pieces.blocks):
        assert one.mean.tobytes() == two.mean.tobytes()
        assert one.cov.tobytes() == two.cov.tobytes()


# -- search by one-step-ahead loss -------------------------------------------------------------------------------------

SEARCHES: dict[str, tuple[Fixed, list[Any], str]] = {
    "far off": (Fixed(prior=Prior(100.0)), [user(Prior(30.0))], "full"),
    "scalar": (Fixed("a"), [user(Prior(0.01))], "scalar"),
    "diagonal": (Fixed("a"), [user(posterior="diagonal")], "diagonal"),
    "per update": (Fixed(), [user(forgetting=Forgetting(form="per_update", delta=0.9))], "full"),
    "forgetful": (Fixed(), [user(forgetting=Forgetting(half_life=50.0, walk_per_event=0.5))], "full"),
    "loadings": (Fixed(), [user(), Random("hour"), Loadings("hour", of="user")], "full"),
}


@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_never_ends_worse_than_it_began(search: str) -> None:
    """Before and after are mean progressive losses, and the learned settings do give the loss after."""
    fixed, random, structure = SEARCHES[search]
    data = simulate(np.diag([1.0, 0.3, 0.1]), users=40, each=6, noise=None)
    data |= {"hour": np.arange(240) % 5}
    model = GLMix(SCHEMA, fixed, random)
    found = model.learn_priors(data, rounds=1, structure=structure)  # type: ignore[arg-type]

    def loss(each: GLMix) -> float:
        margin = each.progressive(data).margin
        return float(np.mean(_links.by_name("logit").loss(data["y"], margin)))

    declared = GLMix(SCHEMA, fixed, random)
    declared.design(data, learn=True)
    assert loss(declared) == pytest.approx(found.before, rel=1e-12)
    assert loss(model) == pytest.approx(found.after, rel=1e-12)
    assert found.after <= found.before
    assert found.evaluations > 5
    if search in ("far off", "forgetful"):
        assert found.after < found.before - 0.01


@pytest.mark.parametrize("every", [None, 7, "50s"])
def test_a_search_replays_in_the_models_own_mode(every: Any) -> None:
    """A minibatch model is judged by minibatches: before and after are the losses of its own progressive validation."""
    data = simulate(np.diag([1.0, 0.3, 0.1]), users=40, each=6, noise=None)
    declared, model = (GLMix(SCHEMA, Fixed(), [user(Prior(30.0))], mode="minibatch") for _ in range(2))
    found = model.learn_priors(data, rounds=1, structure="scalar", every=every)
    declared.design(data, learn=True)
    for each, expected in ((declared, found.before), (model, found.after)):
        margin = each.progressive(data, every=every or 3).margin  # 240 rows: a hundredth, rounded up
        assert np.mean(_links.by_name("logit").loss(data["y"], margin)) == pytest.approx(expected, rel=1e-12)
    by_event = GLMix(SCHEMA, Fixed(), [user(Prior(30.0))]).learn_priors(data, rounds=1, structure="scalar")
    assert abs(by_event.before - found.before) > 1e-4
    assert found.after < found.before - 0.01


def test_a_scalar_search_scales_a_prior_as_a_whole(capsys: pytest.CaptureFixture[str]) -> None:
    data = simulate(np.diag([1.0, 1.0, 1e-4]), users=60, each=12, noise=None)
    model = GLMix(SCHEMA, NO_FIXED, [user(Prior({"(intercept)": 0.04, "*": 0.01}))])
    found = model.learn_priors(data, structure="scalar", rounds=1, progress=True)
    prior = found.beliefs["user"].prior
    assert prior.variance_of("a") > 0.01
    assert prior.variance_of("a") == prior.variance_of("b")
    assert prior.variance_of("(intercept)") == pytest.approx(4 * prior.variance_of("a"))
    assert found.beliefs["user"].covariance is None
    by_column = GLMix(SCHEMA, NO_FIXED, [user(Prior({"(intercept)": 0.04, "*": 0.01}))])
    prior = by_column.learn_priors(data, structure="diagonal", rounds=1).beliefs["user"].prior
    assert prior.variance_of("a") > prior.variance_of("b")
    # The bar is for people: it stays off standard output.
    assert capsys.readouterr().out == ""


def test_a_search_turns_on_only_what_pays() -> None:
    """Clicks of users who never change: neither noise nor forgetting."""
    data = simulate(np.diag([1.0, 0.3, 0.1]), users=40, each=20, noise=None)
    model = GLMix(SCHEMA, Fixed(), [user()])
    found = model.learn_priors(data, rounds=1)
    forgetting = found.beliefs["user"].forgetting
    assert forgetting == Forgetting()
    off = GLMix(SCHEMA, Fixed(), [user()]).learn_priors(data, rounds=1, walks=False, half_lives=False)
    assert off.evaluations < found.evaluations


def test_refreshing_leaves_posteriors_that_noise_made_less_sure_than_the_old_prior_as_they_are() -> None:
    """H − Λ0 + Λ0' of section 5.1 is no precision where a random walk has taken H below Λ0 in some direction."""
    data = simulate(np.diag([1.0, 0.01, 0.01]), users=80, noise=None)
    walk = Forgetting(walk_per_event={"(intercept)": 0.5})
    effect = Random("user", on=["a", "b"], prior=Prior(variance=4.0), forgetting=walk)
    model = GLMix(SCHEMA, Fixed(), [effect], refresh_every=100)
    model.partial_fit(data)
    V = unpack(model.block("user").cov[:80])
    assert np.linalg.eigvalsh(V).min() > 0
    assert np.isfinite(model.decision_function(data)).all()


def test_what_learns_from_many_events_is_insured_against_change_unless_half_lives_are_not_wanted() -> None:
    rng = np.random.default_rng(0)
    rows = 20_000
    who, a = rng.integers(0, 2_000, rows), rng.normal(size=rows)
    y = (rng.random(rows) < 1 / (1 + np.exp(-0.5 * a))).astype(float)
    data = {"user": who, "a": a, "b": a, "y": y, "t": np.arange(rows, dtype=float), "w": np.ones(rows)}
    model = GLMix(SCHEMA, Fixed("a"), [Random("user")])
    beliefs = model.learn_priors(data, rounds=1).beliefs
    assert beliefs["fixed"].forgetting.half_life == pytest.approx(8.0 * (rows - 1))
    # Ten events each: they follow a change anyway.
    assert beliefs["user"].forgetting.half_life is None
    again = GLMix(SCHEMA, Fixed("a"), [Random("user")]).learn_priors(data, rounds=1, half_lives=False).beliefs
    assert again["fixed"].forgetting.half_life is None
