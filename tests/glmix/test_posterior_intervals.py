"""Intervals and averaged probabilities (specification, section 5.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm
from tests.glmix.posterior_parts import NO_FIXED, NUMBERS, SCHEMA, correlated, table

from nearline import ConfigError, Fixed, GLMix, Prior, Random, Schema


def sigmoid(eta: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-eta))


@pytest.fixture(scope="module")
def simulated() -> tuple[GLMix, dict[str, Any], np.ndarray]:
    """400 users with coefficients drawn from the prior, 40 labels each; and new rows with their true margin."""
    rng = np.random.default_rng(0)
    users, each, sd = 400, 40, np.sqrt([1.0, 0.5, 0.5])
    beta = rng.normal(size=(users, 3)) * sd
    user = Random("user", on=["a", "b"], prior=Prior({"(intercept)": 1.0, "*": 0.5}))
    model = GLMix(Schema("y", columns=NUMBERS), NO_FIXED, [user])

    def rows(n: int) -> tuple[dict[str, Any], np.ndarray]:
        user = np.repeat(np.arange(users), n)
        a, b = rng.normal(size=(2, users * n))
        eta = beta[user, 0] + beta[user, 1] * a + beta[user, 2] * b
        return {"user": user, "a": a, "b": b, "y": (rng.random(users * n) < sigmoid(eta)).astype(int)}, eta

    model.fit(rows(each)[0])
    return model, *rows(5)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_intervals_cover_the_truth(simulated: tuple[GLMix, dict[str, Any], np.ndarray], level: float) -> None:
    """One block: the posterior is a Laplace approximation of the exact one, so coverage is nominal but for sampling."""
    model, data, eta = simulated
    low, high = model.interval(data, level=level).T
    covered = np.mean((low <= sigmoid(eta)) & (sigmoid(eta) <= high))
    # 2,000 rows of 400 independent users.
    assert covered == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / 400) + 0.01)


def test_intervals_are_nested_and_checked() -> None:
    model = correlated()
    data = table(seed=1, n=20)
    p = model.predict_proba(data)
    before = np.column_stack([p, p])
    for level in (0.1, 0.5, 0.9, 0.999):
        interval = model.interval(data, level=level)
        assert (interval[:, 0] < before[:, 0]).all()
        assert (interval[:, 1] > before[:, 1]).all()
        before = interval
    z, s = model._score(data, variances=True)
    np.testing.assert_allclose(
        model.interval(data, level=0.9)[:, 1], sigmoid(z + norm.ppf(0.95) * np.sqrt(s)), rtol=1e-12
    )
    for level in (0.0, 1.0):
        with pytest.raises(ConfigError, match="must be between 0 and 1"):
            model.interval(data, level=level)


def test_averaged_probabilities(simulated: tuple[GLMix, dict[str, Any], np.ndarray]) -> None:
    """Section 5.2: σ(η/√(1 + πs/8)), within 0.02 of the integral over the posterior of the score."""
    model, data, _ = simulated
    z, s = model._score(data, variances=True)
    p = model.predict_proba(data, averaged=True)
    np.testing.assert_allclose(p, sigmoid(z / np.sqrt(1 + np.pi * s / 8)), rtol=1e-12)
    assert (np.abs(p - 0.5) <= np.abs(model.predict_proba(data) - 0.5)).all()
    for k in range(0, 200, 20):
        exact = quad(lambda e, k=k: sigmoid(e) * norm.pdf(e, z[k], np.sqrt(s[k])), z[k] - 12, z[k] + 12)[0]
        assert p[k] == pytest.approx(exact, abs=0.02)
    # It is the better forecast of labels: their log loss is lower.
    y = data["y"]
    loss = [-np.mean(np.log(np.where(y == 1, q, 1 - q))) for q in (p, model.predict_proba(data))]
    assert loss[0] < loss[1]


def test_expected_labels_by_link() -> None:
    data = table()
    for link, mean in (("logit", sigmoid), ("identity", lambda eta: eta), ("log", np.exp)):
        model = GLMix(SCHEMA, Fixed("a"), link=link)
        model.partial_fit(data)
        np.testing.assert_allclose(model.predict(data), mean(model.decision_function(data)), rtol=1e-12)
        if link != "logit":
            with pytest.raises(ConfigError, match="needs link='logit'"):
                model.predict_proba(data)
