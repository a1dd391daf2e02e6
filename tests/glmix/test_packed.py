"""Packed triangles: read back as they were written, and grown as the posterior grows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.glmix.fold_parts import seeds, state

from nearline._errors import StateError
from nearline.glmix import _packed
from nearline.glmix._links import by_name
from nearline.glmix._solve import solve


@settings(deadline=None)
@given(seed=seeds, d=st.integers(1, 8))
def test_packing_round_trip(seed: int, d: int) -> None:
    A = np.random.default_rng(seed).normal(size=(3, d, d))
    S = A + A.transpose(0, 2, 1)
    packed = _packed.pack(S)
    assert packed.shape == (3, _packed.packed_size(d))
    assert _packed.dimension(packed.shape[1]) == d
    np.testing.assert_array_equal(_packed.unpack(packed), S)
    np.testing.assert_array_equal(packed[:, _packed.diagonal_indices(d)], np.diagonal(S, axis1=1, axis2=2))
    j, k = d - 1, d // 2
    np.testing.assert_array_equal(packed[:, j * (j + 1) // 2 + k], S[:, j, k])
    with pytest.raises(StateError, match="packed"):
        _packed.dimension(_packed.packed_size(d + 1) + 1)


@settings(deadline=None)
@given(seed=seeds)
def test_growing_is_the_posterior_of_a_model_that_had_the_dimensions_all_along(seed: int) -> None:
    """Section 5.4: under a joint prior the coordinates not yet seen follow the seen ones."""
    rng = np.random.default_rng(seed)
    _, Lambda0, mu0, _ = state(seed, 5)
    V0 = np.linalg.inv(Lambda0)
    X = np.column_stack([rng.normal(size=(4, 3)), np.zeros((4, 2))])
    y, one = rng.normal(size=4), np.ones(4)
    late = solve(X[:, :3], y, one, 0 * one, mu0[:3], np.linalg.inv(V0[:3, :3]), by_name("logit"))
    early = solve(X, y, one, 0 * one, mu0, Lambda0, by_name("logit"))
    mean = _packed.embed_mean(late.theta, 5, mu0, _packed.pack(V0))
    cov = _packed.embed(_packed.pack(np.linalg.inv(late.H)), 3, 5, _packed.pack(V0))
    np.testing.assert_allclose(mean, early.theta, atol=1e-8)
    np.testing.assert_allclose(_packed.unpack(cov), np.linalg.inv(early.H), atol=1e-8)


def test_growing_moves_no_number() -> None:
    packed = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    prior = _packed.packed_diagonal(np.array([9.0, 9.0, 0.5]))
    grown = _packed.embed(packed, 2, 3, prior)
    assert grown.dtype == np.float32
    np.testing.assert_array_equal(grown[:, :3], packed)
    assert grown[:, 3:].tolist() == [[0.0, 0.0, 0.5]] * 7
    with pytest.raises(StateError, match="grow"):
        _packed.embed(packed, 3, 4, prior)
