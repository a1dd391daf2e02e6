"""The compiled block update against its NumPy oracle, its invariances, and its failures (sections 2, 8, 10 and 13)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nearline._errors import DataError, StateError
from nearline.glmix import _solve
from nearline.glmix._block import BlockResult, LocalDesign, group, update_block
from nearline.glmix._kernels import _minibatch, _newton
from nearline.glmix._links import by_name
from nearline.glmix._packed import diagonal_indices, pack, packed_diagonal, unpack
from nearline.glmix._solve import STATUSES, solve, solve_dual

Floats = NDArray[np.float64]
LINKS = ("logit", "identity", "log")


@dataclass
class Problem:
    """Rows of several entities, and their states."""

    X: Floats
    y: Floats
    w: Floats
    offset: Floats
    codes: NDArray[np.int32]
    mean: Floats
    V: Floats
    link: str

    @classmethod
    def random(cls, seed: int, link: str, d: int, rows: list[int], zeros: float = 0.2, scale: float = 1.0) -> Problem:
        """rows[e] rows for entity e, in shuffled order."""
        rng = np.random.default_rng(seed)
        n = sum(rows)
        codes = rng.permutation(np.repeat(np.arange(len(rows), dtype=np.int32), rows))
        X = rng.normal(size=(n, d)) * (rng.random((n, d)) >= zeros) * scale
        y = {"logit": rng.random(n) < 0.5, "identity": rng.normal(size=n), "log": rng.poisson(1.0, n)}[link]
        A = rng.normal(size=(len(rows), d, d + 2))
        V = A @ A.transpose(0, 2, 1) / d + 0.05 * np.eye(d)
        w = rng.choice([0.0, 0.5, 1.0, 3.0], n, p=[0.1, 0.3, 0.4, 0.2])
        mean = 0.5 * rng.normal(size=(len(rows), d))
        return cls(X, y * 1.0, w, 0.5 * rng.normal(size=n), codes, mean, V, link)

    def design(self, sparse: bool) -> LocalDesign:
        """CSR where `sparse`: without zeros, each row's entries reversed, the first of them in two halves."""
        if not sparse:
            return LocalDesign.dense(self.X)
        indices, values, indptr = [], [], [0]
        for row in self.X:
            used = np.flatnonzero(row)[::-1]
            indices += [*used, *used[:1]]
            values += [*(row[used[:1]] / 2), *row[used[1:]], *(row[used[:1]] / 2)]
            indptr.append(len(indices))
        return LocalDesign(np.array(indptr, np.int64), np.array(indices, np.int32), np.array(values, np.float64))

    def state(self, diagonal: bool, dtype: str = "float64") -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        cov = np.diagonal(self.V, axis1=1, axis2=2) if diagonal else pack(self.V)
        return self.mean.astype(dtype), np.array(cov, dtype=dtype, order="C")

    def update(
        self, mean: NDArray[np.floating], cov: NDArray[np.floating], sparse: bool = False, threads: int = 1
    ) -> BlockResult:
        return update_block(
            self.codes,
            self.design(sparse),
            self.y,
            self.w,
            self.offset,
            mean,
            cov,
            link=by_name(self.link),
            threads=threads,
        )

    def oracle(self, e: int, diagonal: bool) -> _solve.Solution:
        r = self.codes == e
        V = np.diag(np.diag(self.V[e])) if diagonal else self.V[e]
        return solve(
            self.X[r], self.y[r], self.w[r], self.offset[r], self.mean[e], np.linalg.inv(V), by_name(self.link)
        )


def check(problem: Problem, diagonal: bool, sparse: bool, tolerance: float = 1e-8) -> None:
    mean, cov = problem.state(diagonal)
    result = problem.update(mean, cov, sparse)
    for e in range(len(problem.mean)):
        fit = problem.oracle(e, diagonal)
        assert fit.status == "converged"
        V = np.linalg.inv(fit.H)
        expected = 1 / np.diag(fit.H) if diagonal else pack(V)
        np.testing.assert_allclose(mean[e], fit.theta, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(cov[e], expected, rtol=tolerance, atol=tolerance)
    assert result.counts["converged"] == len(result.status)
    for e, code in enumerate(result.grouping.codes):
        evidence = problem.oracle(int(code), diagonal).evidence
        assert result.evidence[e] == pytest.approx(evidence, rel=1e-9, abs=1e-7)
        assert result.change[e] == pytest.approx(np.linalg.norm(mean[code] - problem.mean[code]), rel=1e-12)
        assert result.decrement[e] <= _solve.TOLERANCE


@pytest.mark.parametrize("diagonal", [False, True], ids=["full", "diagonal"])
@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("d", [1, 2, 3, 7, 12, 31])
def test_kernel_is_the_oracle(link: str, d: int, diagonal: bool) -> None:
    """Entities of 1 to 2d rows, and of more than a tile of 64; any weights; mode, cov, evidence."""
    rows = sorted({1, 2, 3, d // 2 + 1, d, d + 1, 2 * d, 130})
    check(Problem.random(d, link, d, rows), diagonal, sparse=False)
    check(Problem.random(d + 100, link, d, rows), diagonal, sparse=True)


@pytest.mark.parametrize("diagonal", [False, True], ids=["full", "diagonal"])
@pytest.mark.parametrize("link", LINKS)
def test_sparse_rows_of_a_wide_effect(link: str, diagonal: bool) -> None:
    """A design a tenth full takes the sparse path, in the primal and in the dual."""
    check(Problem.random(5, link, 40, [1, 4, 35, 60, 150], zeros=0.9), diagonal, sparse=True)
    check(Problem.random(6, link, 40, [1, 4, 35, 60, 150], zeros=0.9), diagonal, sparse=False)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), link=st.sampled_from(LINKS), d=st.integers(3, 37), sparse=st.booleans(),
       scale=st.sampled_from([0.1, 1.0, 4.0]), rows=st.lists(st.integers(1, 2), min_size=1, max_size=6))  # fmt: skip
def test_one_or_two_rows_are_the_oracle(
    seed: int, link: str, d: int, sparse: bool, scale: float, rows: list[int]
) -> None:
    check(Problem.random(seed, link, d, rows, scale=scale), False, sparse)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), link=st.sampled_from(LINKS), d=st.integers(1, 10), diagonal=st.booleans(),
       sparse=st.booleans(), rows=st.lists(st.integers(1, 20), min_size=1, max_size=6))  # fmt: skip
def test_kernel_is_the_oracle_on_any_shape(
    seed: int, link: str, d: int, diagonal: bool, sparse: bool, rows: list[int]
) -> None:
    check(Problem.random(seed, link, d, rows), diagonal, sparse)


@pytest.mark.parametrize("diagonal", [False, True], ids=["full", "diagonal"])
@pytest.mark.parametrize(("link", "shift"), [("logit", 60.0), ("logit", 800.0), ("log", -60.0), ("identity", 1e6)])
def test_saturated_rows(link: str, shift: float, diagonal: bool) -> None:
    """Acceptance tests 11 and 16: margins beyond 40 on either side of the label."""
    problem = Problem.random(3, link, 6, [2, 4, 9, 14])
    problem.offset = problem.offset + shift * (np.sign(problem.offset) if link == "logit" else 1.0)
    check(problem, diagonal, sparse=False)


def fixture_cases() -> list[tuple[str, Floats, Floats, Floats, Floats, tuple[float, ...], tuple[float, ...]]]:
    """Link, y, w, m, P, θ and the upper triangle of H: the solved rows of section 9."""
    theta0, one = np.array([0.25, 0.75, -1.5]), np.ones(2)
    y = np.array([0.0, 1.0])
    return [
        ("logit", y, one, theta0, np.eye(3), (0.44269839, 0.72487986, -1.16484348),
         (1.11016632, 0.02385809, 0.26804883, 1.01192905, 0.07157428, 1.67924622)),
        ("logit", y, one, 0.8 * theta0, np.eye(3), (0.35098661, 0.56318975, -0.97164728),
         (1.13005573, 0.03410026, 0.32831198, 1.01705013, 0.10230079, 1.86122555)),
        ("logit", y, one, theta0 * 0.8 / 2.8, 2.8 * np.eye(3), (0.07390279, 0.18286651, -0.48646141),
         (3.0029843, 0.07249501, 0.55095861, 2.8362475, 0.21748502, 4.33688727)),
        ("logit", y, np.array([2.0, 3.0]), theta0, np.eye(3), (0.64026977, 0.64103661, -0.93738722),
         (1.37497799, 0.09709037, 0.94413672, 1.04854518, 0.2912711, 3.47081565)),
        ("logit", y, one, np.array([0.25, 0.0, -1.5]), np.diag([1.0, 1.0, 2.0]), (0.47954918, -0.01295172, -1.28340254),
         (1.08770273, 0.01261623, 0.20063792, 1.00630812, 0.03784869, 2.47697322)),
        ("identity", np.array([3.5, -1.0]), one, theta0, np.eye(3), (0.44019139, 1.49043062, 0.36124402),
         (2.25, 0.5, 3.5, 1.25, 1.5, 11.0)),
        ("log", np.array([2.0, 0.0]), one, theta0, np.eye(3), (0.26620555, 1.33754922, -0.29249046),
         (2.40434801, 0.41245078, 3.63359758, 1.20622539, 1.23735235, 10.74189985)),
    ]  # fmt: skip


@pytest.mark.parametrize("case", fixture_cases())
def test_fixture_f(case: tuple) -> None:  # type: ignore[type-arg]
    """Section 9 through the compiled kernels; as diagonal state, the marginals are diag(H)."""
    link, y, w, m, P, theta, H = case
    X, offset, codes = np.array([[1, 0.5, 3], [0.5, 0, 1]]), np.array([-0.25, 1.0]), np.zeros(2, np.int32)
    mean, cov = m[None].copy(), pack(np.linalg.inv(P))[None]
    update_block(codes, LocalDesign.dense(X), y, w, offset, mean, cov, link=by_name(link))
    np.testing.assert_allclose(mean[0], theta, atol=1e-8)
    np.testing.assert_allclose(np.linalg.inv(unpack(cov[0]))[np.triu_indices(3)], H, atol=1e-7)
    mean, cov = m[None].copy(), 1 / np.diag(P)[None]
    update_block(codes, LocalDesign.dense(X), y, w, offset, mean, cov, link=by_name(link))
    np.testing.assert_allclose(mean[0], theta, atol=1e-8)
    np.testing.assert_allclose(1 / cov[0], np.array(H)[[0, 3, 5]], atol=1e-7)


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


def test_dual_and_primal_agree_on_one_problem() -> None:
    """Acceptance test 11: rows split into copies of weight 1/c move a problem from the dual to the primal."""
    for link in LINKS:
        problem = Problem.random(2, link, 9, [2, 3, 5])
        problem.w = np.ones(10)
        many = np.repeat(np.arange(10), 12)
        copied = Problem(problem.X[many], problem.y[many], np.full(120, 1 / 12), problem.offset[many],
                         problem.codes[many], problem.mean, problem.V, link)  # fmt: skip
        assert _minibatch.prefers_dual(5, 9)
        assert not _minibatch.prefers_dual(24, 9)
        dual, primal = problem.state(False), copied.state(False)
        problem.update(*dual)
        copied.update(*primal)
        np.testing.assert_allclose(dual[0], primal[0], atol=1e-8)
        np.testing.assert_allclose(dual[1], primal[1], atol=1e-8)


def test_choice_of_steps_follows_the_flop_rule() -> None:
    """Section 8: 3nd² + n²d + s(n³/3 + 2n²) < s(d³/3 + nd² + 2d²), which is n ≲ 0.9 d."""
    s = 3.5
    for d in range(1, 60):
        for n in range(1, 2 * d + 1):
            rows = 3 * n * d**2 + n**2 * d + s * (n**3 / 3 + 2 * n**2)
            assert _minibatch.prefers_dual(n, d) == (n < d and rows < s * (d**3 / 3 + n * d**2 + 2 * d**2))
        assert not _minibatch.prefers_dual(d, d)
    assert [_minibatch.prefers_dual(n, 31) for n in (2, 8, 16, 27, 31)] == [True, True, True, True, False]


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
    exact, stored = problem.state(diagonal), problem.state(diagonal, "float32")
    # What is solved is the rounded prior, in float64.
    problem.mean = stored[0].astype(np.float64)
    problem.V = unpack(packed_diagonal(stored[1].astype(float)) if diagonal else stored[1].astype(float))
    exact = problem.state(diagonal)
    problem.update(*stored)
    problem.update(*exact)
    np.testing.assert_array_equal(stored[0], exact[0].astype(np.float32))
    np.testing.assert_array_equal(stored[1], exact[1].astype(np.float32))


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


def test_diagonal_update_touches_only_its_dimensions() -> None:
    """Section 8: H ← diag(H) after a joint solve; other dimensions keep every bit, however many there are."""
    d, rng = 100_000, np.random.default_rng(0)
    touched = rng.choice(d, 12, replace=False).astype(np.int32)
    indptr, values, y = np.arange(0, 5 * 6 + 1, 5, dtype=np.int64), rng.normal(size=30), (rng.random(6) < 0.5) * 1.0
    indices = np.concatenate([rng.choice(touched, 5, replace=False) for _ in range(6)])
    mean, cov = rng.normal(size=(2, d)), rng.uniform(0.5, 2.0, (2, d))
    old_mean, old_cov = mean.copy(), cov.copy()
    update_block(np.ones(6, np.int32), LocalDesign(indptr, indices, values), y, np.ones(6), np.zeros(6), mean, cov,
                 link=by_name("logit"))  # fmt: skip
    used = np.unique(indices)
    rest = np.setdiff1d(np.arange(d), used)
    np.testing.assert_array_equal(mean[:, rest], old_mean[:, rest])
    np.testing.assert_array_equal(cov[:, rest], old_cov[:, rest])
    np.testing.assert_array_equal(mean[0], old_mean[0])
    X = np.zeros((6, len(used)))
    np.add.at(X, (np.repeat(np.arange(6), 5), np.searchsorted(used, indices)), values)
    fit = solve_dual(X, y, np.ones(6), np.zeros(6), old_mean[1, used], np.diag(old_cov[1, used]), by_name("logit"))
    np.testing.assert_allclose(mean[1, used], fit.theta, atol=1e-10)
    np.testing.assert_allclose(cov[1, used], 1 / np.diag(np.linalg.inv(fit.V)), atol=1e-10)


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


def test_marginals_come_from_the_inverse() -> None:
    """Defects 8 and 13: the full state's marginal variances are diag(H⁻¹), which 1/H_ii never exceeds."""
    problem = Problem.random(15, "logit", 5, [20])
    mean, cov = problem.state(False)
    problem.update(mean, cov)
    H = problem.oracle(0, False).H
    np.testing.assert_allclose(cov[0, diagonal_indices(5)], np.diag(np.linalg.inv(H)), rtol=1e-8)
    assert (cov[0, diagonal_indices(5)] >= 1 / np.diag(H) - 1e-12).all()


def test_constants_are_the_oracle_s() -> None:
    for name in ("TOLERANCE", "MAX_STEPS", "ARMIJO", "MAX_HALVINGS", "LOG_CAP", "SAFE_CHANGE"):
        assert getattr(_newton, name) == getattr(_solve, name)


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(0, 60), capacity=st.integers(1, 400))
def test_grouping_is_a_stable_partition(seed: int, n: int, capacity: int) -> None:
    """Both ways of grouping: counting where rows are many, sorting where the state is large."""
    codes = np.random.default_rng(seed).integers(-1, capacity, n).astype(np.int32)
    grouping = group(codes, capacity)
    assert grouping.codes.tolist() == sorted(set(codes.tolist()) - {-1})
    for e, code in enumerate(grouping.codes):
        assert grouping.order[grouping.ptr[e] : grouping.ptr[e + 1]].tolist() == np.flatnonzero(codes == code).tolist()
    assert grouping.unassigned.tolist() == np.flatnonzero(codes < 0).tolist()
    times = np.arange(n, dtype=float)
    assert grouping.last(times).tolist() == [times[codes == code].max() for code in grouping.codes]


def test_rows_without_an_entity_are_reported() -> None:
    problem = Problem.random(16, "logit", 3, [4, 4])
    problem.codes = np.where(np.arange(8) % 4 == 0, -1, problem.codes).astype(np.int32)
    result = problem.update(*problem.state(False))
    assert result.grouping.unassigned.tolist() == [0, 4]
    nothing = update_block(np.full(8, -1, np.int32), problem.design(False), problem.y, problem.w, problem.offset,
                           *problem.state(False), link=by_name("logit"))  # fmt: skip
    assert (len(nothing.status), nothing.log_evidence, nothing.failed_rows.tolist()) == (0, 0.0, [])


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
