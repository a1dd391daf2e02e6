"""The NumPy solves: known answers of fixture F, and identities that every solve must keep (sections 2, 8, 9, 10)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize

from nearline.glmix._fold import past_weighted, stabilised
from nearline.glmix._links import by_name
from nearline.glmix._solve import ARMIJO, LOG_CAP, MAX_STEPS, SAFE_CHANGE, solve, solve_dual

Floats = NDArray[np.float64]
LINKS = ("logit", "identity", "log")

F_X = np.array([[1.0, 0.5, 3.0], [0.5, 0.0, 1.0]])
F_OFFSET = np.array([-0.25, 1.0])
F_THETA0 = np.array([0.25, 0.75, -1.5])
ONE = np.ones(2)
I3 = np.eye(3)


def upper(H: Floats) -> Floats:
    """Entries 00, 01, 02, 11, 12, 22, as section 9 lists them."""
    return H[np.triu_indices(3)]


def b_prior() -> tuple[Floats, Floats]:
    return past_weighted(np.array([0.25, np.nan, -1.5]), np.array([0.5, np.nan, 0.25]), omega=0.5, lambda2=2.0)


# Name, link, y, w, prior (m, P), θ, H.
FIXTURE = [
    ("logistic", "logit", (0, 1), (1, 1), (F_THETA0, I3),
     (0.44269839, 0.72487986, -1.16484348), (1.11016632, 0.02385809, 0.26804883, 1.01192905, 0.07157428, 1.67924622)),
    ("forgetting, lambda 1", "logit", (0, 1), (1, 1), stabilised(F_THETA0, I3, 0 * F_THETA0, I3, 0.8),
     (0.35098661, 0.56318975, -0.97164728), (1.13005573, 0.03410026, 0.32831198, 1.01705013, 0.10230079, 1.86122555)),
    ("forgetting, lambda 10", "logit", (0, 1), (1, 1), stabilised(F_THETA0, I3, 0 * F_THETA0, 10 * I3, 0.8),
     (0.07390279, 0.18286651, -0.48646141), (3.0029843, 0.07249501, 0.55095861, 2.8362475, 0.21748502, 4.33688727)),
    ("weights 2 and 3", "logit", (0, 1), (2, 3), (F_THETA0, I3),
     (0.64026977, 0.64103661, -0.93738722), (1.37497799, 0.09709037, 0.94413672, 1.04854518, 0.2912711, 3.47081565)),
    ("weight of the past", "logit", (0, 1), (1, 1), b_prior(),
     (0.47954918, -0.01295172, -1.28340254), (1.08770273, 0.01261623, 0.20063792, 1.00630812, 0.03784869, 2.47697322)),
    ("linear", "identity", (3.5, -1), (1, 1), (F_THETA0, I3),
     (0.44019139, 1.49043062, 0.36124402), (2.25, 0.5, 3.5, 1.25, 1.5, 11.0)),
    ("Poisson", "log", (2, 0), (1, 1), (F_THETA0, I3),
     (0.26620555, 1.33754922, -0.29249046), (2.40434801, 0.41245078, 3.63359758, 1.20622539, 1.23735235, 10.74189985)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("link", "y", "w", "prior", "theta", "H"), [c[1:] for c in FIXTURE], ids=[c[0] for c in FIXTURE]
)
def test_fixture_f(link, y, w, prior, theta, H) -> None:  # type: ignore[no-untyped-def]
    """Section 9, to the eight digits it prints; the dual gives the same with V = P⁻¹."""
    m, P = prior
    y, w = np.array(y, float), np.array(w, float)
    fit = solve(F_X, y, w, F_OFFSET, m, P, by_name(link))
    assert fit.status == "converged"
    np.testing.assert_allclose(fit.theta, theta, atol=1e-8)
    np.testing.assert_allclose(upper(fit.H), H, atol=1e-8)
    dual = solve_dual(F_X, y, w, F_OFFSET, m, np.linalg.inv(P), by_name(link))
    np.testing.assert_allclose(dual.theta, theta, atol=1e-8)
    np.testing.assert_allclose(upper(np.linalg.inv(dual.V)), H, atol=1e-7)


def test_fixture_f_hessian_at_the_prior_mean() -> None:
    """Section 9, first row: H evaluated at θ0, and the marginal variances that 1/H_ii understates."""
    D = by_name("logit").curvature(ONE, F_X @ F_THETA0 + F_OFFSET)
    H = I3 + F_X.T @ (D[:, None] * F_X)
    expected = (1.076006603, 0.007826689, 0.167666585, 1.003913344, 0.023480067, 1.382293306)
    np.testing.assert_allclose(upper(H), expected, atol=1e-9)
    V = np.linalg.inv(H)
    np.testing.assert_allclose(np.diag(V), (0.94728849, 0.99652112, 0.73764081), atol=1e-8)
    np.testing.assert_allclose(1 / np.diag(H), (0.92936233, 0.99610191, 0.72343546), atol=1e-8)
    assert V.sum() == pytest.approx(2.40969182, abs=1e-8)
    assert (1 / np.diag(H)).sum() == pytest.approx(2.64890, abs=1e-5)


def test_square_loss_has_its_own_hessian_with_the_prior() -> None:
    """Defect 4: λI + XᵀWX, here with λ = 10."""
    fit = solve(F_X, np.array([3.5, -1.0]), ONE, F_OFFSET, F_THETA0, 10 * I3, by_name("identity"))
    np.testing.assert_allclose(upper(fit.H), (11.25, 0.5, 3.5, 10.25, 1.5, 20.0), rtol=1e-14)


def problem(
    rng: np.random.Generator, n: int, d: int, name: str
) -> tuple[Floats, Floats, Floats, Floats, Floats, Floats]:
    """X, y, w, offset, m, P of a random problem."""
    X = rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.8)
    y = {"logit": (rng.random(n) < 0.5) * 1.0, "identity": rng.normal(size=n), "log": rng.poisson(1.5, n) * 1.0}[name]
    A = rng.normal(size=(d, d + 2))
    return X, y, rng.uniform(0.2, 3.0, n), rng.normal(size=n), rng.normal(size=d), A @ A.T / d + 0.1 * np.eye(d)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), d=st.integers(1, 9), name=st.sampled_from(LINKS))
def test_primal_equals_dual(seed: int, d: int, name: str) -> None:
    """Acceptance test 11: n from 1 to 2d."""
    rng = np.random.default_rng(seed)
    X, y, w, offset, m, P = problem(rng, int(rng.integers(1, 2 * d + 1)), d, name)
    primal = solve(X, y, w, offset, m, P, by_name(name))
    dual = solve_dual(X, y, w, offset, m, np.linalg.inv(P), by_name(name))
    assert primal.status == dual.status == "converged"
    np.testing.assert_allclose(dual.theta, primal.theta, atol=1e-8)
    np.testing.assert_allclose(dual.V, np.linalg.inv(primal.H), atol=1e-8)
    assert dual.evidence == pytest.approx(primal.evidence, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("name", LINKS)
def test_mode_is_the_minimum_of_the_stated_objective(name: str) -> None:
    """Section 2, against a general optimiser and a vanishing gradient."""
    rng = np.random.default_rng(5)
    X, y, w, offset, m, P = problem(rng, 12, 4, name)
    link = by_name(name)

    def f(theta: Floats) -> float:
        return float(w @ link.loss(y, X @ theta + offset) + 0.5 * (theta - m) @ P @ (theta - m))

    fit = solve(X, y, w, offset, m, P, link)
    found = minimize(f, m, method="BFGS", options={"gtol": 1e-9}).x
    np.testing.assert_allclose(fit.theta, found, atol=1e-5)
    gradient = X.T @ (w * link.gradient(y, X @ fit.theta + offset)) + P @ (fit.theta - m)
    assert np.abs(gradient).max() < 1e-10
    H = P + X.T @ ((w * link.curvature(y, X @ fit.theta + offset))[:, None] * X)
    np.testing.assert_allclose(fit.H, H, rtol=1e-12)


@pytest.mark.parametrize("name", LINKS)
def test_weight_k_is_k_copies_and_weight_0_is_no_row(name: str) -> None:
    """Acceptance test 7, mode and H; defect 2."""
    rng = np.random.default_rng(3)
    X, y, _, offset, m, P = problem(rng, 6, 3, name)
    k = np.array([1, 0, 3, 2, 0, 1])
    r = np.repeat(np.arange(6), k)
    weighted = solve(X, y, k * 1.0, offset, m, P, by_name(name))
    copied = solve(X[r], y[r], np.ones(len(r)), offset[r], m, P, by_name(name))
    np.testing.assert_allclose(weighted.theta, copied.theta, atol=1e-12)
    np.testing.assert_allclose(weighted.H, copied.H, rtol=1e-12)
    hidden = np.where(k[:, None] == 0, np.nan, X)
    assert solve(hidden, y, k * 1.0, offset, m, P, by_name(name)).theta.tolist() == weighted.theta.tolist()


def test_no_rows_is_an_exact_no_op() -> None:
    m, P = np.array([0.3, -0.7]), np.array([[2.0, 0.5], [0.5, 1.0]])
    none = np.zeros(0)
    for fit in (solve(np.zeros((0, 2)), none, none, none, m, P, by_name("logit")),
                solve(np.ones((3, 2)), np.ones(3), np.zeros(3), np.zeros(3), m, P, by_name("log"))):  # fmt: skip
        assert (fit.theta.tolist(), fit.H.tolist(), fit.status) == (m.tolist(), P.tolist(), "converged")
        assert fit.evidence == pytest.approx(0.0, abs=1e-14)


def test_dispersion_is_a_weight() -> None:
    """Section 1: D = 1/φ for the linear loss, which here is a weight of 1/φ."""
    rng = np.random.default_rng(4)
    X, y, _, offset, m, P = problem(rng, 5, 2, "identity")
    fit = solve(X, y, np.full(5, 1 / 4.0), offset, m, P, by_name("identity"))
    np.testing.assert_allclose(fit.H, P + X.T @ X / 4.0, rtol=1e-13)


def test_linear_evidence_is_the_marginal_likelihood() -> None:
    """Laplace is exact for a Gaussian: log N(y; o + Xm, I + X P⁻¹ Xᵀ) without its 2π."""
    X, y, _, offset, m, P = problem(np.random.default_rng(8), 7, 3, "identity")
    fit = solve(X, y, np.ones(7), offset, m, P, by_name("identity"))
    C, r = np.eye(7) + X @ np.linalg.solve(P, X.T), y - offset - X @ m
    expected = -0.5 * r @ np.linalg.solve(C, r) - 0.5 * np.linalg.slogdet(C)[1]
    assert fit.evidence == pytest.approx(expected, rel=1e-12)


def test_unguarded_full_steps_meet_armijo() -> None:
    """With |ℓ'''| ≤ ℓ'' a step that moves no margin by more than c gains at least 1 − (e^c − c − 1)/c² decrements."""
    c = SAFE_CHANGE
    assert 1 - (np.exp(c) - c - 1) / c**2 > ARMIJO


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("scale", [1.0, 40.0, 400.0])
def test_saturated_rows_are_solved(name: str, scale: float) -> None:
    """Acceptance tests 11 and 16: rows with |η| > 40 at the start, right and opposed."""
    rng = np.random.default_rng(11)
    X, y, w, _, m, P = problem(rng, 8, 4, name)
    offset = -scale * np.abs(rng.normal(size=8)) if name == "log" else scale * rng.normal(size=8)
    primal = solve(X, y, w, offset, m, P, by_name(name))
    dual = solve_dual(X, y, w, offset, m, np.linalg.inv(P), by_name(name))
    assert primal.status == dual.status == "converged"
    np.testing.assert_allclose(dual.theta, primal.theta, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(dual.V, np.linalg.inv(primal.H), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("precision", [1e-6, 1e-3, 1.0])
def test_separation_and_a_single_class_have_a_mode(precision: float) -> None:
    """Acceptance test 16: P ≻ 0 guarantees a mode."""
    X = np.column_stack([np.ones(40), np.linspace(-1, 1, 40)])
    for y in ((X[:, 1] > 0) * 1.0, np.ones(40)):
        fit = solve(X, y, np.ones(40), np.zeros(40), np.zeros(2), precision * np.eye(2), by_name("logit"))
        assert fit.status == "converged"
        gradient = X.T @ (by_name("logit").gradient(y, X @ fit.theta)) + precision * fit.theta
        assert np.abs(gradient).max() < 1e-9


def test_failures_are_statuses_and_leave_the_prior() -> None:
    """Defect 9 and acceptance test 16: never an exception, never a half-made state."""
    m, eye, x, one = np.array([0.5]), np.eye(1), np.ones((1, 1)), np.ones(1)
    far = one * -LOG_CAP * (MAX_STEPS - 4)
    cases = {
        "non_finite": [(x * np.nan, one, one, 0 * one, eye, "logit"), (x, one, one, one * 800, eye, "log"),
                       (x, one, -one, 0 * one, eye, "logit"), (x, one, one, one * np.inf, eye, "identity")],
        "not_positive_definite": [(x, one, one, 0 * one, -eye, "logit")],
        "not_converged": [(x, np.exp(30 * one), one, far, eye * 1e-4, "log")],
    }  # fmt: skip
    for status, problems in cases.items():
        for X, y, w, offset, P, name in problems:
            primal = solve(X, y, w, offset, m, P, by_name(name))
            dual = solve_dual(X, y, w, offset, m, np.linalg.inv(P), by_name(name))
            assert (primal.status, primal.theta.tolist(), primal.H.tolist()) == (status, m.tolist(), P.tolist())
            assert (dual.status, dual.theta.tolist()) == (status, m.tolist())
            assert np.isnan(primal.evidence)


def test_posterior_contracts_where_there_is_data() -> None:
    """Defect 1: more data, less variance; the score variance of precision 4 is 0.25."""
    X, y = np.ones((12, 1)), np.zeros(12)
    fit = solve(X, y, np.full(12, 0.25), y, np.zeros(1), np.eye(1), by_name("identity"))
    assert fit.H[0, 0] == pytest.approx(4.0, rel=1e-14)
    assert solve_dual(X, y, np.full(12, 0.25), y, np.zeros(1), np.eye(1), by_name("identity")).V[0, 0] == pytest.approx(
        0.25
    )
