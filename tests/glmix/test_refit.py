"""The entities of a batch fit against NumPy's Newton: modes, covariances, evidence, in the dimensions they touch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline import Fixed, GLMix, Numeric, Prior, Random, Schema
from nearline.glmix import _links
from nearline.glmix._packed import pack, unpack
from nearline.glmix._solve import solve

WIDE = [f"f{k}" for k in range(40)]
SCHEMA = Schema(label="y", weight="w", offset="o", columns={c: Numeric(0, 1) for c in WIDE})


def table(
    seed: int, link: str, n: int = 120, touched: int = 3, scale: float = 1.0
) -> tuple[dict[str, Any], np.ndarray]:
    """Rows that touch few of many features: each user has a few of its own."""
    rng = np.random.default_rng(seed)
    user, X = rng.integers(0, 6, n), np.zeros((n, 41))
    X[:, 0] = 1.0
    for u in range(6):
        own = 1 + rng.choice(40, touched, replace=False)
        rows = np.flatnonzero(user == u)
        X[np.ix_(rows, own)] = scale * rng.normal(size=(len(rows), touched)) * (rng.random((len(rows), touched)) < 0.7)
    y = {"logit": rng.integers(0, 2, n), "identity": rng.normal(size=n), "log": rng.poisson(2.0, n)}[link]
    roles = {"y": y, "w": rng.uniform(0.3, 2.0, n), "o": rng.normal(size=n)}
    return {"user": user, **dict(zip(WIDE, X[:, 1:].T)), **roles}, X


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1_000), link=st.sampled_from(["logit", "identity", "log"]),
    posterior=st.sampled_from(["full", "diagonal"]), touched=st.sampled_from([1, 3, 20]),
    scale=st.sampled_from([1.0, 6.0]),
)  # fmt: skip
def test_a_solve_in_the_touched_features_is_the_whole_one(
    seed: int, link: str, posterior: Any, touched: int, scale: float
) -> None:
    """Section 3: each entity has the features it has seen; with independent priors the others stay at theirs."""
    data, X = table(seed, link, touched=touched, scale=scale)
    prior = Prior({"(intercept)": 2.0, "f0": 0.3, "*": 0.5}, {"f1": 0.4, "*": 0.0})
    model = GLMix(
        SCHEMA, Fixed(intercept=False), [Random("user", on=WIDE, prior=prior, posterior=posterior)], link=link
    )
    report = model.fit(data, cycles=2)
    block, evidence = model.block("user"), 0.0
    m, P = block.belief.mu0(block.columns), np.diag(1 / block.belief.variance0(block.columns))
    assert report.unsolved["user"] == 0
    for user, code in model.encoder.entity_codes("user").items():
        rows = data["user"] == user
        y, w, o = (np.asarray(data[name], float)[rows] for name in ("y", "w", "o"))
        whole = solve(X[rows], y, w, o, m, P, _links.by_name(link))
        assert whole.status == "converged"
        np.testing.assert_allclose(block.mean[code], whole.theta, atol=1e-6)
        V = np.linalg.inv(whole.H)
        expected = pack(V) if posterior == "full" else 1 / np.diagonal(whole.H)
        np.testing.assert_allclose(block.cov[code], expected, rtol=1e-5, atol=1e-9)
        evidence += whole.evidence
    assert report.log_evidence["user"] == pytest.approx(evidence, rel=1e-7)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_joint_prior_and_threads(threads: int) -> None:
    """A prior with a covariance moves also what no row touches; entities are spread over threads without a trace."""
    rng = np.random.default_rng(0)
    n, columns = 400, ["a", "b"]
    schema = Schema("y", columns={c: Numeric(0, 1) for c in columns})
    data = {"user": rng.integers(0, 9, n), "a": rng.normal(size=n), "b": rng.normal(size=n), "y": rng.integers(0, 2, n)}
    data["b"][data["user"] == 4] = 0.0
    data["a"][data["user"] == 4] += 1.0
    model = GLMix(schema, Fixed(intercept=False), [Random("user", on=columns)], threads=threads)
    model.learn_priors(data, method="evidence", rounds=1, structure="full")
    block = model.block("user")
    A = rng.normal(size=(3, 3))
    from dataclasses import replace

    block.belief = replace(block.belief, covariance=np.eye(3) + A @ A.T, mean=np.array([0.1, 0.0, -0.2]))
    model.fit(data, cycles=2)
    alone = model.fork()
    alone.threads = 1
    alone.fit(data, cycles=2)
    assert alone.block("user").cov.tobytes() == block.cov.tobytes()
    for user, code in model.encoder.entity_codes("user").items():
        rows = data["user"] == user
        X = np.column_stack([np.ones(int(rows.sum())), data["a"][rows], data["b"][rows]])
        one = np.ones(len(X))
        V0 = block.belief.V0(block.columns)
        whole = solve(
            X, data["y"][rows] * 1.0, one, 0 * one, block.belief.mu0(block.columns), np.linalg.inv(V0), _links.LOGIT
        )
        np.testing.assert_allclose(block.mean[code], whole.theta, atol=1e-8)
        np.testing.assert_allclose(unpack(block.cov[code]), np.linalg.inv(whole.H), rtol=1e-6)
