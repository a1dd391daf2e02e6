"""A block update that fails says so by a status and keeps the state: specification, section 13; acceptance 16."""

from __future__ import annotations

import numpy as np
import pytest
from tests.glmix.block_parts import Problem

from nearline._errors import DataError, StateError
from nearline.glmix._block import LocalDesign, update_block
from nearline.glmix._links import by_name
from nearline.glmix._packed import packed_diagonal, unpack
from nearline.glmix._solve import STATUSES


@pytest.mark.parametrize("diagonal", [False, True], ids=["full", "diagonal"])
def test_failed_entities_are_named_and_keep_every_bit(diagonal: bool) -> None:
    """Defect 9 and acceptance test 16: a status, the state as it was, all rows reported; other entities go on."""
    problem = Problem.random(13, "log", 4, [3, 2, 6, 3, 2])
    problem.w = np.ones(16)
    bad_feature, bad_weight, overflow = (np.flatnonzero(problem.codes == e)[0] for e in (0, 1, 3))
    problem.X[bad_feature, 2] = np.nan
    problem.w[bad_weight] = -1.0
    problem.offset[overflow] = 800.0
    mean, cov = problem.state(diagonal)
    result = problem.update(mean, cov)
    failed = [0, 1, 3]
    assert result.counts == {"converged": 2, "not_converged": 0, "not_positive_definite": 0, "non_finite": 3}
    assert result.failed_codes.tolist() == failed
    assert result.failed_rows.tolist() == np.flatnonzero(np.isin(problem.codes, failed)).tolist()
    assert np.isnan(result.evidence[failed]).all()
    assert np.isnan(result.change[failed]).all()
    assert np.isfinite(result.log_evidence)
    before = problem.state(diagonal)
    np.testing.assert_array_equal(mean[failed], before[0][failed])
    np.testing.assert_array_equal(cov[failed], before[1][failed])
    assert (mean[[2, 4]] != before[0][[2, 4]]).any(axis=1).all()


@pytest.mark.parametrize("rows", [1, 12])
def test_indefinite_state_is_a_status_never_silent_jitter(rows: int) -> None:
    """Section 8: in the primal by its Cholesky, in the dual by B or by the posterior's diagonal."""
    problem = Problem.random(14, "logit", 4, [rows], zeros=0.0)
    problem.w = np.ones(rows)
    problem.V[0] = np.diag([1.0, 1.0, -3.0, 1.0])
    mean, cov = problem.state(False)
    result = problem.update(mean, cov)
    assert STATUSES[result.status[0]] == "not_positive_definite"
    np.testing.assert_array_equal(mean, problem.mean)
    np.testing.assert_array_equal(unpack(cov), problem.V)


@pytest.mark.parametrize("diagonal", [False, True], ids=["full", "diagonal"])
@pytest.mark.parametrize("d", [1, 2], ids=["primal", "dual"])
def test_out_of_steps_is_a_status(d: int, diagonal: bool) -> None:
    """A log link moves a margin by at most 5 a step: from −230 to 30 is out of reach of 50 of them."""
    variance = np.full((1, d), 1e4)
    mean, cov = np.zeros((1, d)), variance if diagonal else packed_diagonal(variance)
    result = update_block(
        np.zeros(1, np.int32), LocalDesign.dense(np.ones((1, d))), np.exp([30.0]), np.ones(1), np.array([-230.0]), mean,
        cov, link=by_name("log"),
    )  # fmt: skip
    assert (STATUSES[result.status[0]], result.steps[0]) == ("not_converged", 50)
    assert mean.tolist() == [[0.0] * d]
    assert result.failed_rows.tolist() == [0]


@pytest.mark.parametrize("diagonal", [False, True], ids=["full", "diagonal"])
def test_separation_single_class_and_empty_rows_have_a_mode(diagonal: bool) -> None:
    """Acceptance test 16."""
    X = np.column_stack([np.ones(40), np.linspace(-1, 1, 40), np.zeros(40)])
    X = np.vstack([X, X, np.zeros((3, 3))])
    y = np.r_[(X[:40, 1] > 0) * 1.0, np.ones(40), np.ones(3)]
    codes = np.repeat(np.arange(3, dtype=np.int32), [40, 40, 3])
    mean = np.zeros((3, 3))
    cov = np.full((3, 3), 1e4) if diagonal else packed_diagonal(np.full((3, 3), 1e4))
    result = update_block(codes, LocalDesign.dense(X), y, np.ones(83), np.zeros(83), mean, cov, link=by_name("logit"))
    assert result.counts["converged"] == 3
    assert np.isfinite(mean).all()
    assert np.isfinite(cov).all()
    assert mean[2].tolist() == [0.0, 0.0, 0.0]
    assert result.evidence[2] == pytest.approx(-3 * np.log(2.0), rel=1e-12)


@pytest.mark.parametrize("rows", [1, 9], ids=["dual", "primal"])
def test_variance_of_zero_locks_and_a_negative_one_is_refused(rows: int) -> None:
    """Defect 11: a zero variance divides nothing by zero; a corrupt one is a status."""
    problem = Problem.random(18, "logit", 3, [rows], zeros=0.0)
    problem.w = np.ones(rows)
    mean, cov = problem.state(True)
    cov[0, 1] = 0.0
    result = problem.update(mean, cov)
    assert result.counts["converged"] == 1
    assert mean[0, 1] == pytest.approx(problem.mean[0, 1], rel=1e-15)
    assert cov[0, 1] == pytest.approx(0.0, abs=1e-290)
    free = Problem(problem.X[:, [0, 2]], problem.y, problem.w, problem.offset + problem.X[:, 1] * problem.mean[0, 1],
                   problem.codes, problem.mean[:, [0, 2]], problem.V[:, [0, 2]][:, :, [0, 2]], "logit")  # fmt: skip
    fit = free.oracle(0, True)
    np.testing.assert_allclose(mean[0, [0, 2]], fit.theta, atol=1e-10)
    np.testing.assert_allclose(cov[0, [0, 2]], 1 / np.diag(fit.H), atol=1e-10)
    assert result.evidence[0] == pytest.approx(fit.evidence, abs=1e-9)
    mean, cov = problem.state(True)
    cov[0, 1] = -0.1
    before = mean.copy()
    assert problem.update(mean, cov).counts["not_positive_definite"] == 1
    np.testing.assert_array_equal(mean, before)


def test_arrays_that_do_not_fit_are_refused() -> None:
    problem = Problem.random(17, "logit", 3, [4, 4])
    mean, cov = problem.state(False)
    with pytest.raises(StateError, match="covariance"):
        problem.update(mean, cov[:, :4].copy())
    with pytest.raises(StateError, match="entity code 1"):
        problem.update(mean[:1], cov[:1])
    with pytest.raises(DataError, match="columns"):
        problem.update(np.zeros((2, 2)), np.zeros((2, 3)))
    for state in ((mean.T.copy().T, cov), (mean, cov.astype(int))):
        with pytest.raises(StateError, match="contiguous"):
            problem.update(*state)
    wrong = LocalDesign(np.arange(9, dtype=np.int64), np.full(8, 3, np.int32), np.ones(8))
    with pytest.raises(DataError, match="dimension"):
        update_block(problem.codes, wrong, problem.y, problem.w, problem.offset, mean, cov, link=by_name("logit"))
    with pytest.raises(StateError, match="labels"):
        update_block(problem.codes, problem.design(False), problem.y[1:], problem.w, problem.offset, mean, cov,
                     link=by_name("logit"))  # fmt: skip
