"""The fixed effect of a batch fit against scipy and scikit-learn: penalties, bounds, normalisation, variances."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from nearline import ConfigError, Fixed, GLMix, Numeric, Prior, Schema
from nearline.glmix import FixedFit, _links
from nearline.glmix._packed import unpack

COLUMNS = ("a", "b", "c", "d")
# As a table has them: one far from zero, one in small units.
CENTRES, SPREADS = np.array([0.0, 2000.0, 0.0, 1.0]), np.array([1.0, 8.0, 0.003, 2.0])
SCHEMA = Schema(label="y", weight="w", columns={c: Numeric(0, 1) for c in COLUMNS})
HOW = ("none", "unit_sd", "max_magnitude", "standardise")


def table(seed: int = 0, link: str = "logit", n: int = 200, far: bool = False) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, 4))
    Z[:, 3] += 0.8 * Z[:, 0]
    eta = Z @ np.array([1.0, -0.4, 0.05, 0.0]) + 0.3
    y = {
        "logit": lambda: (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float),
        "identity": lambda: eta + rng.normal(size=n),
        "log": lambda: rng.poisson(np.exp(np.minimum(eta, 3.0))).astype(float),
    }[link]()
    X = CENTRES + SPREADS * Z if far else Z
    return {**dict(zip(COLUMNS, X.T)), "y": y, "w": rng.uniform(0.5, 2.0, n)}


def matrix(data: dict[str, Any]) -> np.ndarray:
    return np.column_stack([np.ones(len(data["y"])), *(data[c] for c in COLUMNS)])


def fitted(data: dict[str, Any], fit: FixedFit, link: str = "logit", prior: Any = None, **options: Any) -> GLMix:
    fixed = Fixed(*COLUMNS, prior=prior or Prior(2.0, {"a": 0.2, "*": 0.0}), fit=fit, **options)
    model = GLMix(SCHEMA, fixed, link=link)
    report = model.fit(data, cycles=2)
    assert report.unsolved == {"fixed": 0}
    return model


def found(model: GLMix) -> np.ndarray:
    return model.block("fixed").mean[0].astype(float)


class Objective:
    """The loss, the prior N(m, v) and λ |b| with b = p − q, p, q >= 0, written down for a general optimiser."""

    def __init__(self, data: dict[str, Any], link: str, m: np.ndarray, v: np.ndarray, l1: np.ndarray) -> None:
        self.X, self.y, self.w, self.link = matrix(data), data["y"], data["w"], _links.by_name(link)
        self.m, self.v, self.l1 = m, v, l1

    def smooth(self, b: np.ndarray) -> tuple[float, np.ndarray]:
        eta = self.X @ b
        pull = (b - self.m) / self.v
        value = self.w @ self.link.loss(self.y, eta) + 0.5 * pull @ (b - self.m)
        return float(value), self.X.T @ (self.w * self.link.gradient(self.y, eta)) + pull

    def value(self, b: np.ndarray) -> float:
        return self.smooth(b)[0] + float(self.l1 @ np.abs(b))

    def hessian(self, b: np.ndarray) -> np.ndarray:
        D = self.w * self.link.curvature(self.y, self.X @ b)
        return np.asarray(np.diag(1 / self.v) + self.X.T @ (D[:, None] * self.X))

    def minimum(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        d = len(self.m)

        def split(x: np.ndarray) -> tuple[float, np.ndarray]:
            f, g = self.smooth(x[:d] - x[d:])
            return f + float(self.l1 @ (x[:d] + x[d:])), np.concatenate([g + self.l1, self.l1 - g])

        box = [(max(a, 0.0), max(b, 0.0)) for a, b in zip(low, high)]
        box += [(max(-b, 0.0), max(-a, 0.0)) for a, b in zip(low, high)]
        best = minimize(split, np.zeros(2 * d), jac=True, method="L-BFGS-B", bounds=box,
                        options={"ftol": 1e-16, "gtol": 1e-11, "maxiter": 10_000, "maxfun": 100_000})  # fmt: skip
        return np.asarray(best.x[:d] - best.x[d:])


def objective(data: dict[str, Any], link: str = "logit", l1: float = 0.0) -> Objective:
    penalties = np.array([0.0, l1, l1, l1, l1])
    return Objective(data, link, np.array([0.0, 0.2, 0.0, 0.0, 0.0]), np.full(5, 2.0), penalties)


EVERYWHERE = (np.full(5, -np.inf), np.full(5, np.inf))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1_000), link=st.sampled_from(["logit", "identity", "log"]),
    how=st.sampled_from(HOW), l1=st.sampled_from([0.0, 3.0, 20.0, 500.0]), boxed=st.booleans(),
)  # fmt: skip
def test_elastic_net_and_bounds_have_the_optimum_of_scipy(
    seed: int, link: str, how: Any, l1: float, boxed: bool
) -> None:
    data, (low, high) = table(seed, link), EVERYWHERE
    bounds = {"a": (-0.1, 0.3), "d": (0.05, 2.0)} if boxed else {}
    if boxed:
        low, high = np.array([-np.inf, -0.1, -np.inf, -np.inf, 0.05]), np.array([np.inf, 0.3, np.inf, np.inf, 2.0])
    b = found(fitted(data, FixedFit(l1=l1, bounds=bounds, normalise=how), link))
    problem = objective(data, link, l1)
    expected = problem.minimum(low, high)
    np.testing.assert_allclose(b, expected, atol=2e-5)
    assert problem.value(b) <= problem.value(expected) + 1e-9 * abs(problem.value(expected))
    assert (b >= low).all()
    assert (b <= high).all()


def test_l2_is_logistic_regression() -> None:
    """scikit-learn: C = 1 on the features, the intercept free."""
    data = table()
    b = found(fitted(data, FixedFit(), prior=Prior(1.0), free_intercept=True))
    rival = LogisticRegression(C=1.0, tol=1e-10, max_iter=1_000)
    rival.fit(matrix(data)[:, 1:], data["y"], sample_weight=data["w"])
    np.testing.assert_allclose(b, np.r_[rival.intercept_, rival.coef_[0]], atol=1e-5)


def test_l1_is_lasso() -> None:
    """scikit-learn's liblinear penalises the intercept too; so does `l1` where it is named."""
    data = table(n=300)
    data["w"] = np.ones(300)
    model = fitted(data, FixedFit(l1={"(intercept)": 5.0, "*": 5.0}), prior=Prior(1e8))
    rival = LogisticRegression(l1_ratio=1.0, C=0.2, solver="liblinear", tol=1e-10, max_iter=10_000)
    rival.fit(matrix(data)[:, 1:], data["y"])
    expected = np.r_[rival.intercept_, rival.coef_[0]]
    np.testing.assert_allclose(found(model), expected, atol=1e-4)
    assert (found(model) == 0.0).tolist() == (expected == 0.0).tolist()


@pytest.mark.parametrize("how", HOW)
def test_neither_scores_nor_variances_depend_on_normalisation(how: Any) -> None:
    """Section 10, defect 13: diag(H⁻¹) of the raw coefficients, under any normalisation; priors are mapped along."""
    data = table(far=True)
    model = fitted(data, FixedFit(normalise=how))
    problem, plain = objective(data), fitted(data, FixedFit())
    b = found(model)
    np.testing.assert_allclose(model.decision_function(data), plain.decision_function(data), atol=1e-7)
    scale = np.sqrt(np.diagonal(np.linalg.inv(problem.hessian(b))))
    assert (np.abs(problem.smooth(b)[1]) * scale < 1e-6).all()
    V = unpack(model.block("fixed").cov[0])
    np.testing.assert_allclose(np.sqrt(np.diagonal(V)), scale, rtol=1e-6)
    wrong = 1 / np.sqrt(np.diagonal(problem.hessian(b)))
    assert (wrong < 0.5 * scale).any()  # what photon-ml reports is far too small here


def test_the_posterior_says_what_it_keeps() -> None:
    data = table()
    full, labels = {}, {}
    for kind, variances in [("full", "auto"), ("diagonal", "auto"), ("diagonal", "exact"), ("lowrank", "auto"),
                            ("full", "diagonal"), ("diagonal", "none")]:  # fmt: skip
        fixed = Fixed(*COLUMNS, prior=Prior(2.0), posterior=kind, rank=2, fit=FixedFit(variances=variances))
        model = GLMix(SCHEMA, fixed)
        labels[kind, variances] = model.fit(data).blocks[-1].variances
        full[kind, variances] = np.array([c.sd**2 for c in model.coefficients("fixed")])
        H = Objective(data, "logit", np.zeros(5), np.full(5, 2.0), np.zeros(5)).hessian(found(model))
    exact, bound = np.diagonal(np.linalg.inv(H)), 1 / np.diagonal(H)
    for key in (("full", "auto"), ("diagonal", "exact"), ("lowrank", "auto")):
        np.testing.assert_allclose(full[key], exact, rtol=1e-6)
        assert "exact" in labels[key]
    for key in (("diagonal", "auto"), ("full", "diagonal")):
        np.testing.assert_allclose(full[key], bound, rtol=1e-6)
        assert (full[key] <= exact).all()
        assert labels[key] == "diagonal (a lower bound)"
    np.testing.assert_allclose(full["diagonal", "none"], 2.0, rtol=1e-14)
    assert labels["diagonal", "none"] == "none (the prior's)"


def test_the_evidence_is_laplace() -> None:
    data = table()
    model = fitted(data, FixedFit(normalise="unit_sd"))
    problem, b = objective(data), found(model)
    expected = -problem.smooth(b)[0] + 0.5 * 5 * np.log(0.5) - 0.5 * np.linalg.slogdet(problem.hessian(b))[1]
    report = model.fit(data)
    assert report.log_evidence["fixed"] == pytest.approx(expected, rel=1e-9)
    assert report.joint_log_evidence == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"l1": -1.0}, r"FixedFit\(l1=...\) must be >= 0"),
        ({"bounds": {"a": (1.0, 0.0)}}, r"bounds=...\) of 'a' is \(1.0, 0.0\); low must be <= high"),
        ({"normalise": "sd"}, "one of 'none', 'unit_sd', 'max_magnitude', 'standardise', got 'sd'"),
        ({"variances": "all"}, "one of 'auto', 'none', 'diagonal', 'exact', got 'all'"),
        ({"negatives": 0.0}, "a share in"),
        ({"tolerance": 0.0}, "must be > 0"),
        ({"l1": {"z": 1.0}}, "Fixed has a setting for 'z'"),
    ],
)
def test_settings_that_cannot_be_meant(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Fixed("a", fit=FixedFit(**settings))


def test_centring_needs_an_intercept_that_is_free_to_move() -> None:
    data = table()
    for fixed in (
        Fixed("a", intercept=False, fit=FixedFit(normalise="standardise")),
        Fixed("a", fit=FixedFit(normalise="standardise", bounds={"(intercept)": (0.0, 1.0)})),
    ):
        with pytest.raises(ConfigError, match="standardise"):
            GLMix(SCHEMA, fixed).fit(data)


def test_settings_survive_a_save(tmp_path: Any) -> None:
    fit = FixedFit(l1={"a": 2.0}, bounds={"b": (-1.0, float("inf"))}, normalise="unit_sd", negatives=0.5, seed=3)
    model = fitted(table(), fit)
    again = GLMix.load(model.save(tmp_path / "model"))
    assert again.fixed.fit == fit
