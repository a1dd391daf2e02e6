"""Posteriors of a fixed effect too wide for its whole precision."""

from __future__ import annotations

import numpy as np
import pytest

from nearline import ConfigError, Fixed, GLMix, Numeric, Prior, Schema
from nearline.glmix import FixedFit, _links, _lowrank_rows
from nearline.glmix._block import LocalDesign
from nearline.glmix._fit import _posterior
from nearline.glmix._fit._newton import Problem


def problem(d: int = 30, n: int = 400) -> tuple[Problem, np.ndarray]:
    """Rows of three directions that dominate, and some noise; w∘D of each."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3)) @ rng.normal(size=(3, d)) + 0.1 * rng.normal(size=(n, d))
    design = LocalDesign(np.arange(n + 1) * d, np.tile(np.arange(d, dtype=np.int32), n), X.ravel())
    none, one = np.full(d, np.inf), np.ones(n)
    precision = rng.uniform(0.5, 2.0, d)
    found = Problem(design, 0 * one, one, 0 * one, _links.LOGIT, np.zeros(d), precision, np.zeros(d), -none, none)
    return found, rng.uniform(0.05, 0.25, n)


def test_directions_found_by_products_are_those_of_the_whole_precision() -> None:
    given, curvature = problem()
    H = given.hessian(curvature)
    found, exact = _posterior._directions(given, curvature, 3), _lowrank_rows.from_precision(H, given.precision, 3)
    np.testing.assert_allclose(found.Q @ found.Q.T, exact.Q @ exact.Q.T, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(np.diagonal(found.precision()), np.diagonal(H), rtol=1e-9)


def test_marginals_are_matched_where_the_whole_inverse_is_at_hand() -> None:
    given, curvature = problem()
    H = given.hessian(curvature)
    v = np.diagonal(np.linalg.inv(H))
    rough = _lowrank_rows.from_precision(H, given.precision, 2)
    assert np.abs(rough.variances() / v - 1.0).max() > 0.01
    close = _posterior.matched(rough, v, given.precision)
    np.testing.assert_allclose(close.variances(), v, rtol=1e-6)
    assert (close.h >= given.precision).all()


def test_exact_variances_have_their_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_posterior, "EXACT", 2)
    fixed = Fixed("x", "y", prior=Prior(1.0), posterior="diagonal", fit=FixedFit(variances="exact"))
    model = GLMix(Schema("label", columns={"x": Numeric(0, 1), "y": Numeric(0, 1)}), fixed)
    with pytest.raises(ConfigError, match="inverts a matrix of 3 coefficients, at most 2; use 'diagonal'"):
        model.fit({"x": [1.0, -1.0], "y": [0.5, 0.0], "label": [0, 1]})
