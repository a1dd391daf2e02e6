"""Priors learned from the evidence: what a simulation put in comes out; acceptance 18."""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
import pytest
from tests.glmix.priors_parts import NO_FIXED, SCHEMA, simulate, take, user

from nearline import ConfigError, Fixed, GLMix, Numeric, Prior, Random, Schema, datasets, evaluate


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
