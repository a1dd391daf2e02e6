"""The contract of every model on weights and offsets: they mean what they say."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.glmix.contract_parts import EFFECTS, ROWS, Case, cases, covariance, every, state, with_column

from nearline import GLMix


def numbers(model: GLMix) -> np.ndarray:
    """Means and covariances in one vector."""
    parts = [covariance(b, code).ravel() for b in model.blocks for code in range(b.entities)]
    return np.concatenate([*(b.mean[: b.entities].ravel() for b in model.blocks), *parts]).astype(np.float64)


@every
def test_a_row_of_weight_zero_is_no_row(case: Case) -> None:
    data = case.table()
    ghosts = with_column(with_column(data, "w", np.zeros(ROWS)), "y", np.ones(ROWS))
    ghosts = with_column(ghosts, "t", pc.add(data["t"], 5000.0))
    both = pa.concat_tables([data, ghosts]).take(np.arange(2 * ROWS).reshape(2, -1).T.ravel())
    plain, haunted = case.model(), case.model()
    plain.partial_fit(data)
    learned = haunted.partial_fit(both)
    assert learned.rows == ROWS
    assert state(haunted) == state(plain)


@pytest.mark.parametrize("case", cases(mode=["minibatch"], effects=EFFECTS[:-2]))
def test_weight_k_equals_k_copies_in_a_minibatch(case: Case) -> None:
    """Section 4.3: mean and precision, for every loss."""
    data, weight = case.table(), np.random.default_rng(3).integers(1, 4, ROWS)
    once, copies = case.model(), case.model()
    once.partial_fit(with_column(data, "w", weight.astype(float)))
    copies.partial_fit(with_column(data, "w", np.ones(ROWS)).take(np.repeat(np.arange(ROWS), weight)))
    np.testing.assert_allclose(numbers(once), numbers(copies), rtol=1e-9, atol=1e-10)


def test_weight_k_equals_k_copies_of_an_event_under_the_identity_link() -> None:
    """One block: otherwise every event drops the cross-block covariance that the one before has made."""
    case = Case("fixed", "full", "identity", "event")
    data, weight = case.table(), np.random.default_rng(3).integers(1, 4, ROWS)
    once, copies = case.model(), case.model()
    once.partial_fit(with_column(data, "w", weight.astype(float)))
    copies.partial_fit(with_column(data, "w", np.ones(ROWS)).take(np.repeat(np.arange(ROWS), weight)))
    np.testing.assert_allclose(numbers(once), numbers(copies), rtol=1e-11, atol=1e-12)


@every
def test_an_offset_is_a_coefficient_known_in_advance(case: Case) -> None:
    """Adding 1 to every offset is adding 1 to the prior mean of the fixed intercept: same steps, same scores."""
    shifted, mean = case.model(mean=-0.8), case.model(mean=0.2)
    data = case.table()
    moved = with_column(data, "o", pc.add(data["o"], 1.0))
    a, b = shifted.partial_fit(moved), mean.partial_fit(data)
    test = case.table(seed=1)
    z = mean.decision_function(test)
    np.testing.assert_allclose(shifted.decision_function(with_column(test, "o", pc.add(test["o"], 1.0))), z, atol=1e-9)
    if case.mode == "event":
        np.testing.assert_allclose(a.margin, b.margin, atol=1e-9)
    raised = with_column(test, "o", pc.add(test["o"], 2.0))
    np.testing.assert_allclose(mean.decision_function(raised), z + 2.0, atol=1e-12)
