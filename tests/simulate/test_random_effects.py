"""Mini-batches of random effects: their moments, and the lift of the reference table."""

from __future__ import annotations

import numpy as np
import pytest

from nearline import evaluate, simulate


def test_random_effects_have_the_stated_moments():
    data = simulate.random_effects(seed=1, rho=0.5, drift=True)
    assert data.X.shape == (25, 600, 20, 10)
    assert (data.X[..., 0] == 1).all()
    assert np.corrcoef(data.X[:, :, :, 1:].reshape(-1, 9).T) == pytest.approx(
        0.5 * np.eye(9) + 0.5 * np.ones((9, 9)), abs=0.01
    )
    assert data.offset.mean() == pytest.approx(-1, abs=0.01)
    assert data.offset.std() == pytest.approx(1, abs=0.01)
    step = np.sqrt(0.96) * data.coefficients[:-1] - data.coefficients[1:]
    assert step.std() == pytest.approx(0.14, abs=0.002)
    assert data.coefficients[-1].std() == pytest.approx(0.7, abs=0.03)
    assert data.y.mean() == pytest.approx(data.probability.mean(), abs=0.005)
    still = simulate.random_effects(seed=1, rho=0.5)
    np.testing.assert_array_equal(still.coefficients[0], still.coefficients[-1])


def test_a_random_effects_mini_batch_as_a_table():
    data = simulate.random_effects(seed=0, entities=4, batches=2, rows=3)
    table = data.table(1)
    assert table.num_rows == 12
    assert table["entity"].to_pylist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    np.testing.assert_array_equal(table["x9"].to_numpy().reshape(4, 3), data.X[1, :, :, 9])
    np.testing.assert_array_equal(table["y"].to_numpy().reshape(4, 3), data.y[1])


def _laplace(mean, precision, X, offset, y):
    """One Newton solve per entity of −log posterior, prior N(mean, precision⁻¹): new mean and precision."""
    theta = mean
    for _ in range(30):
        p = 1 / (1 + np.exp(-(np.einsum("erd,ed->er", X, theta) + offset)))
        gradient = np.einsum("edk,ek->ed", precision, theta - mean) + np.einsum("erd,er->ed", X, p - y)
        hessian = precision + np.einsum("erd,er,erk->edk", X, p * (1 - p), X)
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        theta = theta - step
        if np.abs(step).max() < 1e-8:
            break
    return theta, hessian


@pytest.mark.parametrize(
    ("rho", "drift", "expected", "tolerance"),
    [(0.0, False, 55.1, 1.5), (0.9, False, 82.0, 2.4), (0.0, True, 31.4, 2.1)],
)
def test_a_stale_model_captures_the_lift_of_the_reference_table(rho, drift, expected, tolerance):
    # specification 11.1, column "stale", three standard deviations; without drift the sequential posterior
    # with full covariance stands in for the batch refit (100.0 in the table), with drift it has 101.1
    data = simulate.random_effects(seed=0, rho=rho, drift=drift)
    mean, precision = np.zeros((600, 10)), np.broadcast_to(np.eye(10), (600, 10, 10))
    aucs = {"fixed": [], "stale": [], "full": []}
    means = [mean]
    for k in range(25):
        X, offset, y = data.X[k], data.offset[k], data.y[k]
        if k >= 12:
            for name, theta in (("fixed", means[0]), ("stale", means[1]), ("full", means[-1])):
                score = np.einsum("erd,ed->er", X, theta) + offset
                aucs[name].append(evaluate.auc(y.ravel(), score.ravel()))
        mean, precision = _laplace(mean, precision, X, offset, y)
        means.append(mean)
    fixed, old, full = (np.mean(aucs[name]) for name in ("fixed", "stale", "full"))
    lift = 100 * evaluate.lift_captured(old, fixed, full) * (1.011 if drift else 1.0)
    assert lift == pytest.approx(expected, abs=tolerance)
