"""The sparse kernels of the fixed effect against dense NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline.glmix import _links
from nearline.glmix._kernels import _csr

D = 7


def rows(seed: int, n: int = 30) -> tuple[Any, Any, Any, np.ndarray]:
    """A CSR matrix whose rows may repeat a dimension, and the same, dense."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 6, n)
    indptr = np.concatenate([[0], np.cumsum(sizes)])
    indices = rng.integers(0, D, indptr[-1]).astype(np.int32)
    values = rng.normal(size=indptr[-1])
    X = np.zeros((n, D))
    np.add.at(X, (np.repeat(np.arange(n), sizes), indices), values)
    return indptr, indices, values, X


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), link=st.sampled_from(["logit", "identity", "log"]))
def test_one_pass_gives_loss_gradient_margins_and_curvature(seed: int, link: str) -> None:
    indptr, indices, values, X = rows(seed)
    rng = np.random.default_rng(seed + 1)
    n, given_link = len(X), _links.by_name(link)
    y, w, o = rng.integers(0, 2, n) * 1.0, rng.integers(0, 3, n) * 1.0, rng.normal(size=n)
    theta, sums, margin, curvature = rng.normal(size=D), np.zeros((D, 2)), np.empty(n), np.empty(n)
    loss = _csr.evaluate(given_link.code, indptr, indices, values, y, w, o, theta, sums, margin, curvature)
    eta = o + X @ theta
    assert loss == pytest.approx(float(w @ given_link.loss(y, eta)), rel=1e-12)
    np.testing.assert_allclose(sums[:, 0], X.T @ (w * given_link.gradient(y, eta)), atol=1e-12)
    np.testing.assert_allclose(margin, eta, atol=1e-13)
    np.testing.assert_allclose(curvature, w * given_link.curvature(y, eta), rtol=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_products_with_the_hessian_and_its_diagonal(seed: int) -> None:
    """Also where a row repeats a dimension: it counts as the sum."""
    indptr, indices, values, X = rows(seed)
    rng = np.random.default_rng(seed)
    c, v = rng.uniform(0, 1, len(X)) * rng.integers(0, 2, len(X)), rng.normal(size=D)
    H = X.T @ (c[:, None] * X)
    product, whole, diagonal, scratch = np.zeros(D), np.zeros((D, D)), np.zeros(D), np.zeros(D)
    _csr.curved(indptr, indices, values, c, v, product)
    _csr.gram(indptr, indices, values, c, whole)
    _csr.squares(indptr, indices, values, c, scratch, diagonal)
    np.testing.assert_allclose(product, H @ v, atol=1e-12)
    np.testing.assert_allclose(whole, H, atol=1e-12)
    np.testing.assert_allclose(diagonal, np.diagonal(H), atol=1e-12)
    assert not scratch.any()


def test_terms_of_rows() -> None:
    indptr, indices, values, X = rows(3)
    means = np.random.default_rng(0).normal(size=(4, D))
    codes, out = np.arange(len(X), dtype=np.int32) % 4, np.empty(len(X))
    _csr.row_terms(indptr, indices, values, codes, means, out)
    np.testing.assert_allclose(out, (X * means[codes]).sum(axis=1), atol=1e-13)
