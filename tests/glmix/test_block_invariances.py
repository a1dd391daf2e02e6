"""What leaves a block update as it is: copies, padding, cutting, threads, company, storage; acceptance 3, 7, 8, 9."""

from __future__ import annotations

import numpy as np
import pytest
from tests.glmix.block_parts import LINKS, Problem

from nearline.glmix._packed import packed_diagonal, unpack


@pytest.mark.parametrize("diagonal", [False, True], ids=["full", "diagonal"])
@pytest.mark.parametrize("link", LINKS)
def test_weight_k_is_k_copies(link: str, diagonal: bool) -> None:
    """Acceptance test 7: mean and covariance to 1e-12, whichever of primal and dual each side takes."""
    problem = Problem.random(9, link, 6, [3, 8])
    problem.w = np.random.default_rng(0).integers(0, 4, len(problem.y)).astype(float)
    again = np.repeat(np.arange(len(problem.y)), problem.w.astype(int))
    copied = Problem(problem.X[again], problem.y[again], np.ones(len(again)), problem.offset[again],
                     problem.codes[again], problem.mean, problem.V, link)  # fmt: skip
    one, other = problem.state(diagonal), copied.state(diagonal)
    problem.update(*one)
    copied.update(*other)
    np.testing.assert_allclose(one[0], other[0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(one[1], other[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("diagonal", [False, True], ids=["full", "diagonal"])
def test_rows_of_weight_0_change_no_bit(diagonal: bool) -> None:
    """Acceptance test 7: padding, whatever it holds; an entity of padding alone is not touched."""
    problem = Problem.random(1, "logit", 5, [2, 6, 9])
    problem.w = np.maximum(problem.w, 0.5)
    plain, padded = problem.state(diagonal), problem.state(diagonal)
    problem.update(*plain)
    extra = np.full((4, 5), np.nan)
    bigger = Problem(np.vstack([extra, problem.X]), np.r_[np.full(4, np.nan), problem.y], np.r_[np.zeros(4), problem.w],
                     np.r_[np.full(4, np.inf), problem.offset], np.r_[np.int32([0, 1, 1, 2]), problem.codes],
                     problem.mean, problem.V, "logit")  # fmt: skip
    bigger.update(*padded)
    np.testing.assert_array_equal(plain[0], padded[0])
    np.testing.assert_array_equal(plain[1], padded[1])
    bigger.w[:] = 0.0
    before = problem.state(diagonal)
    after = problem.state(diagonal)
    result = bigger.update(*after)
    np.testing.assert_array_equal(before[0], after[0])
    np.testing.assert_array_equal(before[1], after[1])
    assert (result.steps.max(), result.evidence.max(), result.change.max()) == (0, 0.0, 0.0)


@pytest.mark.parametrize("pieces", [2, 5])
def test_linear_stream_is_the_batch(pieces: int) -> None:
    """Acceptance tests 3 and 8: a minibatch cut into any number of updates, 1e-10."""
    problem = Problem.random(4, "identity", 6, [5, 12, 40])
    whole, parts = problem.state(False), problem.state(False)
    problem.update(*whole)
    for part in np.array_split(np.random.default_rng(0).permutation(len(problem.y)), pieces):
        Problem(problem.X[part], problem.y[part], problem.w[part], problem.offset[part], problem.codes[part],
                problem.mean, problem.V, "identity").update(*parts)  # fmt: skip
    np.testing.assert_allclose(parts[0], whole[0], atol=1e-10)
    np.testing.assert_allclose(parts[1], whole[1], atol=1e-10)


@pytest.mark.parametrize("diagonal", [False, True], ids=["full", "diagonal"])
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_same_bits_for_any_number_of_threads(diagonal: bool, sparse: bool) -> None:
    """Acceptance test 9, and for any company: an entity updated alone gets the bits it gets among others."""
    rows = [1, 40, 3, 3, 90, 2, 17, 1, 8, 200, 5]
    problem = Problem.random(8, "logit", 9, rows)
    results = []
    for threads in (1, 2, 3):
        mean, cov = problem.state(diagonal)
        result = problem.update(mean, cov, sparse, threads)
        results.append((mean, cov, result.evidence, result.change, result.steps, result.decrement))
    for other in results[1:]:
        for one, two in zip(results[0], other):
            np.testing.assert_array_equal(one, two)
    for e in range(len(rows)):
        r = problem.codes == e
        alone = Problem(problem.X[r], problem.y[r], problem.w[r], problem.offset[r], problem.codes[r], problem.mean,
                        problem.V, "logit")  # fmt: skip
        mean, cov = problem.state(diagonal)
        alone.update(mean, cov, sparse)
        np.testing.assert_array_equal(mean[e], results[0][0][e])
        np.testing.assert_array_equal(cov[e], results[0][1][e])


@pytest.mark.parametrize("diagonal", [False, True], ids=["full", "diagonal"])
@pytest.mark.parametrize("link", LINKS)
def test_float32_storage_is_float64_arithmetic(link: str, diagonal: bool) -> None:
    """Section 8: only what is stored is rounded."""
    problem = Problem.random(12, link, 8, [2, 6, 9, 30])
    stored = problem.state(diagonal, "float32")
    # What is solved is the rounded prior, in float64.
    problem.mean = stored[0].astype(np.float64)
    problem.V = unpack(packed_diagonal(stored[1].astype(float)) if diagonal else stored[1].astype(float))
    exact = problem.state(diagonal)
    problem.update(*stored)
    problem.update(*exact)
    np.testing.assert_array_equal(stored[0], exact[0].astype(np.float32))
    np.testing.assert_array_equal(stored[1], exact[1].astype(np.float32))
