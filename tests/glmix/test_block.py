"""The compiled block update against its NumPy oracle: specification, sections 8, 9 and 10; acceptance 11 and 16."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.glmix.block_parts import LINKS, Floats, Problem

from nearline.glmix import _solve
from nearline.glmix._block import LocalDesign, update_block
from nearline.glmix._kernels import _minibatch, _newton
from nearline.glmix._links import by_name
from nearline.glmix._packed import diagonal_indices, pack, unpack
from nearline.glmix._solve import solve_dual


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
