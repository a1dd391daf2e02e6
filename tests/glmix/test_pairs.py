"""Eight pairs of rows side by side: elementary functions to rounding; no bit of a pair depends on its neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from nearline.glmix._block import LocalDesign, update_block
from nearline.glmix._kernels import _eights, _memory, _pair_modes
from nearline.glmix._kernels._lanes import floats
from nearline.glmix._links import by_name
from nearline.glmix._packed import pack


@njit
def _elementary(x: np.ndarray, share: np.ndarray, exp: np.ndarray, log: np.ndarray, log1p: np.ndarray) -> None:
    for k in range(0, len(x), 8):
        a = _eights.take_eight(floats(x.ctypes.data), k)
        e = _eights.exp(a)
        _eights.put_eight(floats(exp.ctypes.data), k, e)
        _eights.put_eight(floats(log.ctypes.data), k, _eights.log(e))
        _eights.put_eight(
            floats(log1p.ctypes.data), k, _eights.log1p(_eights.exp(_eights.eight(0.0) - _eights.size(a)))
        )


def test_elementary_functions_are_exact_to_rounding() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-700, 700, 8_000), rng.normal(size=8_000), rng.normal(size=8_000) * 1e-8])
    exp, log, log1p = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    share = np.exp(-np.abs(x))
    _elementary(x, share, exp, log, log1p)
    np.testing.assert_array_max_ulp(exp, np.exp(x), maxulp=2)
    np.testing.assert_allclose(log, np.log(exp), rtol=4e-16, atol=4e-16)
    np.testing.assert_allclose(log1p, np.log1p(share), rtol=2e-15, atol=0)


def test_memory_has_room_for_every_field() -> None:
    assert len(_memory.Pairs.of(3).numbers) == _pair_modes.FIELDS
    assert _memory.Pairs.of(3).numbers.shape[1] == _eights.EIGHT


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), d=st.integers(3, 33), E=st.integers(1, 20), scale=st.sampled_from([0.3, 1.0, 5.0]))
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_no_bit_depends_on_the_neighbours(dtype: str, seed: int, d: int, E: int, scale: float) -> None:
    """Section 8: an entity updated in company, wherever it waits, is the entity updated on its own."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(1, 4, E)
    codes = rng.permutation(np.repeat(np.arange(E, dtype=np.int32), rows))
    n = len(codes)
    X, y, w = rng.normal(size=(n, d)) * scale, (rng.random(n) < 0.5) * 1.0, rng.choice([0.0, 0.5, 1.0], n)
    A = rng.normal(size=(E, d, d))
    mean = rng.normal(size=(E, d)).astype(dtype)
    cov = np.array(pack(A @ A.transpose(0, 2, 1) / d + np.eye(d)), dtype, order="C")
    one_mean, one_cov, logit = mean.copy(), cov.copy(), by_name("logit")
    together = update_block(codes, LocalDesign.dense(X), y, w, np.zeros(n), mean, cov, link=logit)
    for e in range(E):
        r = codes == e
        alone = update_block(
            np.zeros(r.sum(), np.int32), LocalDesign.dense(X[r]), y[r], w[r], np.zeros(r.sum()), one_mean[e : e + 1],
            one_cov[e : e + 1], link=logit,
        )  # fmt: skip
        assert alone.evidence.tobytes() == together.evidence[e : e + 1].tobytes()
        assert alone.decrement.tobytes() == together.decrement[e : e + 1].tobytes()
    assert one_mean.tobytes() == mean.tobytes()
    assert one_cov.tobytes() == cov.tobytes()
