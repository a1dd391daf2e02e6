"""A warm start changes where the descent of a batch fit begins, never where it ends."""

from __future__ import annotations

import numpy as np
import pytest

from nearline import Fixed, GLMix, Numeric, Prior, Random, Schema

# With a learned scale the models would differ: it comes from the first table a model sees.
_SCHEMA = Schema(label="y", columns={"x": Numeric(center=0.0, scale=1.0)})


def _model() -> GLMix:
    return GLMix(_SCHEMA, fixed=Fixed("x"), random=[Random("a", on=["x"], prior=Prior(0.5)), Random("b")])


def _table(rows: int, seed: int) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    x, a, b = rng.standard_normal(rows), rng.integers(0, 12, rows), rng.integers(0, 9, rows)
    y = rng.random(rows) < 1 / (1 + np.exp(-(0.4 * x + np.sin(a) + 0.7 * np.cos(3 * b))))
    return {"x": x, "a": a, "b": b, "y": y.astype(np.int8)}


def test_a_warm_start_ends_at_the_optimum_of_a_cold_one() -> None:
    cold, warm = _model(), _model()
    table = _table(400, seed=0)
    warm.fit({name: column[:300] for name, column in table.items()})  # type: ignore[index]
    slow = cold.fit(table, cycles=500, tolerance=0.0)
    quick = warm.fit(table, cycles=500, tolerance=0.0, warm=True)
    assert quick.objective[0] < slow.objective[0]
    assert quick.objective[-1] == pytest.approx(slow.objective[-1], abs=1e-9)
    for name in ("fixed", "a", "b"):
        old, new = cold.block(name), warm.block(name)
        n = old.entities
        np.testing.assert_allclose(new.mean[:n], old.mean[:n], atol=1e-5)
        np.testing.assert_allclose(new.cov[:n], old.cov[:n], atol=1e-5)
        np.testing.assert_array_equal(new.counts[:n], old.counts[:n])


def test_an_entity_without_rows_returns_to_its_prior_in_a_warm_fit() -> None:
    model = _model()
    model.fit({"x": [1.0, -1.0], "a": [1, 2], "b": [1, 1], "y": [1, 0]})
    model.fit({"x": [1.0, -1.0], "a": [1, 1], "b": [1, 1], "y": [1, 0]}, warm=True)
    block = model.block("a")
    mean, covariance = block.prior_arrays()
    np.testing.assert_array_equal(block.mean[1], mean)
    np.testing.assert_array_equal(block.cov[1], covariance)
    assert block.counts[1] == 0
    assert np.isnan(block.last[1])


def test_a_locked_effect_keeps_its_posterior_in_a_warm_fit() -> None:
    model = _model()
    model.fit(_table(200, seed=1))
    before = model.block("fixed").mean[0].copy()
    model.fit(_table(200, seed=2), locked=["fixed"], warm=True)
    np.testing.assert_array_equal(model.block("fixed").mean[0], before)
