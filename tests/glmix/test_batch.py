"""The batch layer against the joint objective Φ of section 3: its minimum, its descent, locked blocks, half-lives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from nearline import ConfigError, Fixed, Forgetting, GLMix, NearlineWarning, Numeric, Prior, Random, Schema
from nearline.glmix import _links
from nearline.glmix._packed import unpack

SCHEMA = Schema(label="y", time="t", weight="w", offset="o", columns={c: Numeric(0, 1) for c in ("a", "b", "c")})
LINKS = ("logit", "identity", "log")
N = 120


def table(seed: int = 0, link: str = "logit", n: int = N, users: int = 5) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    y = {"identity": rng.normal(size=n), "logit": rng.integers(0, 2, n), "log": rng.poisson(1.0, n)}[link]
    columns = {name: rng.normal(size=n) for name in ("a", "b", "c")}
    roles = {"t": np.sort(rng.uniform(0, 100.0, n)), "w": rng.uniform(0.5, 2.0, n), "o": 0.3 * rng.normal(size=n)}
    return {"user": rng.integers(0, users, n), "item": rng.integers(0, 6, n), **columns, "y": y, **roles}


def rows_of(data: dict[str, Any], rows: Any) -> dict[str, Any]:
    return {name: np.asarray(column)[rows] for name, column in data.items()}


def several(link: str, posterior: Any = "full", **options: Any) -> GLMix:
    user = Random("user", on=["b"], prior=Prior({"(intercept)": 1.0, "*": 0.5}, {"b": 0.2}), posterior=posterior)
    item = Random("item", on=["c"], prior=Prior(0.25), posterior=posterior)
    return GLMix(SCHEMA, Fixed("a", prior=Prior(2.0, 0.1), posterior=posterior), [user, item], link=link, **options)


def stacked(model: GLMix) -> np.ndarray:
    return np.concatenate([block.mean[: block.entities].ravel() for block in model.blocks])


class Joint:
    """Φ over all coefficients side by side, written down independently of the model's own objective."""

    def __init__(self, model: GLMix, data: dict[str, Any]) -> None:
        users, items = model.encoder.entity_codes("user"), model.encoder.entity_codes("item")
        n, U, P = len(data["y"]), len(users), len(items)
        self.X, rows = np.zeros((n, 2 + 2 * U + 2 * P)), np.arange(n)
        u = 2 + 2 * np.array([users[user] for user in data["user"].tolist()])
        i = 2 + 2 * U + 2 * np.array([items[item] for item in data["item"].tolist()])
        self.X[:, 0], self.X[:, 1] = 1.0, data["a"]
        self.X[rows, u], self.X[rows, u + 1], self.X[rows, i], self.X[rows, i + 1] = 1.0, data["b"], 1.0, data["c"]
        self.variance = np.concatenate([[2.0, 2.0], np.tile([1.0, 0.5], U), np.full(2 * P, 0.25)])
        self.mean = np.concatenate([[0.1, 0.1], np.tile([0.0, 0.2], U), np.zeros(2 * P)])
        self.data, self.link = data, model.link

    def __call__(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        y, w, eta = self.data["y"], self.data["w"], self.X @ theta + self.data["o"]
        loss, slope = {
            "logit": lambda: (np.logaddexp(0.0, eta) - y * eta, 1.0 / (1.0 + np.exp(-eta)) - y),
            "identity": lambda: (0.5 * (y - eta) ** 2, eta - y),
            "log": lambda: (np.exp(eta) - y * eta, np.exp(eta) - y),
        }[self.link]()
        pull = (theta - self.mean) / self.variance
        return float(w @ loss + 0.5 * pull @ (theta - self.mean)), self.X.T @ (w * slope) + pull

    def minimum(self) -> tuple[np.ndarray, float]:
        found = minimize(self, self.mean, jac=True, method="L-BFGS-B", options={"ftol": 1e-16, "gtol": 1e-10})
        return found.x, float(found.fun)


@pytest.mark.parametrize("posterior", ["full", "diagonal", "lowrank"])
@pytest.mark.parametrize("link", LINKS)
def test_the_fit_is_the_joint_mode(link: str, posterior: str) -> None:
    """Section 3: Φ is convex, so descent over blocks reaches the mode that a general optimiser finds."""
    data = table(link=link)
    model = several(link, posterior)
    fitted = model.fit(data, cycles=1000, tolerance=0.0)
    assert fitted.converged
    mode, least = Joint(model, data).minimum()
    np.testing.assert_allclose(stacked(model), mode, atol=1e-6)
    assert fitted.objective[-1] == pytest.approx(least, rel=1e-10)
    assert fitted.unsolved == {"fixed": 0, "user": 0, "item": 0}


@pytest.mark.parametrize("link", LINKS)
def test_covariances_are_conditional_on_the_other_blocks(link: str) -> None:
    """Sections 2 and 4.2: V_e = (Λ0 + Xᵀ W X)⁻¹ at the mode, a block at a time."""
    data = table(link=link)
    model = several(link)
    model.fit(data, cycles=1000, tolerance=0.0)
    joint = Joint(model, data)
    D = _links.by_name(link).curvature(data["y"], joint.X @ stacked(model) + data["o"])
    H = np.diag(1 / joint.variance) + joint.X.T @ ((data["w"] * D)[:, None] * joint.X)
    place = 0
    for block in model.blocks:
        for code in range(block.entities):
            own = slice(place, place + block.d)
            np.testing.assert_allclose(unpack(block.cov[code]), np.linalg.inv(H[own, own]), rtol=1e-5)
            place += block.d


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    link=st.sampled_from(LINKS),
    posterior=st.sampled_from(["full", "diagonal", "lowrank"]),
    users=st.integers(1, 40),
)
def test_the_objective_never_increases(seed: int, link: str, posterior: Any, users: int) -> None:
    """Acceptance 15; what never increases with loadings is the free energy (`test_products`)."""
    model = several(link, posterior)
    history = np.array(model.fit(table(seed, link, users=users), cycles=8, tolerance=-1.0).objective)
    assert len(history) == 8
    assert (np.diff(history) <= 1e-9 * np.abs(history[1:])).all()


def test_convergence_is_reported() -> None:
    data = table()
    assert not several("logit").fit(data, cycles=1).converged
    short = several("logit").fit(data, cycles=3, tolerance=0.0)
    assert (len(short.objective), short.converged) == (3, False)
    enough = several("logit").fit(data, cycles=100, tolerance=1e-6)
    assert enough.converged
    assert len(enough.objective) < 100
    assert enough.objective[-2] - enough.objective[-1] <= 1e-6 * enough.objective[-1]
    with pytest.raises(ConfigError, match=r"fit\(cycles=...\) must be at least 1"):
        several("logit").fit(data, cycles=0)


def test_a_fit_starts_from_the_priors_whatever_was_learned() -> None:
    data = table()
    fresh, used = several("logit"), several("logit")
    used.partial_fit(table(seed=1, users=9))
    fresh.design(table(seed=1, users=9), learn=True)
    fresh.fit(data)
    used.fit(data)
    for one, two in zip(fresh.blocks, used.blocks):
        assert one.mean[: one.entities].tobytes() == two.mean[: two.entities].tobytes()
        assert one.cov[: one.entities].tobytes() == two.cov[: two.entities].tobytes()
        np.testing.assert_array_equal(one.counts[: one.entities], two.counts[: two.entities])
        np.testing.assert_array_equal(one.last[: one.entities], two.last[: two.entities])


def test_locked_effects_are_scored_and_not_solved() -> None:
    """Section 3, partial retraining: to the others a locked effect is an offset."""
    data = table()
    model = several("logit")
    model.fit(data, cycles=50)
    kept = model.block("user").mean.tobytes(), model.block("user").cov.tobytes()
    later = {**table(seed=1), "t": data["t"] + 200.0}
    fitted = model.fit(later, cycles=200, tolerance=0.0, locked=["user"])
    assert (model.block("user").mean.tobytes(), model.block("user").cov.tobytes()) == kept
    assert "user" not in fitted.unsolved
    share = np.zeros(N)
    codes = [model.encoder.entity_codes("user")[user] for user in later["user"].tolist()]
    share += model.block("user").mean[codes, 0] + model.block("user").mean[codes, 1] * later["b"]
    item = Random("item", on=["c"], prior=Prior(0.25))
    alone = GLMix(SCHEMA, Fixed("a", prior=Prior(2.0, 0.1)), [item])
    alone.fit({**later, "o": later["o"] + share}, cycles=200, tolerance=0.0)
    np.testing.assert_allclose(alone.block("fixed").mean[0], model.block("fixed").mean[0], atol=1e-6)
    with pytest.raises(ConfigError, match="no effect is named 'ad'"):
        model.fit(later, locked=["ad"])


def one_block(forgetting: Forgetting | None = None, **options: Any) -> GLMix:
    user = Random("user", on=["a", "b"], prior=Prior(0.5), posterior="full", forgetting=forgetting)
    return GLMix(SCHEMA, Fixed(intercept=False), [user], **{"link": "identity", **options})


def test_a_half_life_weighs_history_as_the_stream_does() -> None:
    """Section 5.3, linear loss, one block: fit equals stream, and a stream goes on from a fit as if it had been one."""
    data = table(link="identity")
    forgetting = Forgetting(half_life=20.0, form="stabilised")
    stream, batch, both = (one_block(forgetting) for _ in range(3))
    for model in (stream, batch, both):
        model.design(data, learn=True)
    stream.partial_fit(data)
    batch.fit(data)
    both.fit(rows_of(data, slice(0, 70)))
    both.partial_fit(rows_of(data, slice(70, N)))
    one = stream.blocks[1]
    for two in (batch.blocks[1], both.blocks[1]):
        np.testing.assert_allclose(two.mean[:5], one.mean[:5], atol=1e-8)
        np.testing.assert_allclose(two.cov[:5], one.cov[:5], atol=1e-8)
        np.testing.assert_array_equal(two.last[:5], one.last[:5])
        np.testing.assert_array_equal(two.counts[:5], one.counts[:5])


def test_rows_of_weight_zero_are_no_rows() -> None:
    data = table()
    ghosts = {**rows_of(data, slice(0, 40)), "w": np.zeros(40), "t": np.full(40, 1e6)}
    both = {name: np.concatenate([np.asarray(data[name]), np.asarray(ghosts[name])]) for name in data}
    plain, haunted = several("logit"), several("logit")
    assert plain.fit(data).objective == pytest.approx(haunted.fit(both).objective, rel=1e-14)
    np.testing.assert_array_equal(stacked(plain), stacked(haunted))
    np.testing.assert_array_equal(plain.block("user").last[:5], haunted.block("user").last[:5])


def test_an_entity_that_cannot_be_solved_is_counted_and_keeps_its_prior() -> None:
    data = table()
    row = np.flatnonzero(data["user"] == 3)[0]
    data["b"][row], data["y"][row] = 1e200, 0
    model = several("logit")
    fitted = model.fit(data, cycles=2)
    assert fitted.unsolved == {"fixed": 0, "user": 1, "item": 0}
    user = model.block("user")
    code = model.encoder.entity_codes("user")[3]
    np.testing.assert_array_equal(user.mean[code], [0.0, 0.2])
    np.testing.assert_array_equal(user.cov[code], [1.0, 0.0, 0.5])
    assert (int(user.counts[code]), bool(np.isnan(user.last[code]))) == (0, True)


@pytest.mark.parametrize("label", [0, 1])
def test_labels_that_are_all_equal_have_a_mode(label: int) -> None:
    """Section 4.3: a nearly unpenalised intercept (precision 1e-6) under labels of one class."""
    model = GLMix(Schema(label="y"), Fixed(prior=Prior({"(intercept)": 1e6})))
    with pytest.warns(NearlineWarning, match="all 50 labels"):
        model.fit({"y": [label] * 50})
    b = float(model.block("fixed").mean[0, 0])
    assert np.sign(b) == 2 * label - 1
    p = 1.0 / (1.0 + np.exp(-b))
    assert 50.0 * (p - label) + 1e-6 * b == pytest.approx(0.0, abs=1e-9)
    assert 5.0 < abs(b) < 30.0


def test_separable_rows_have_a_mode() -> None:
    """Acceptance 16: the prior guarantees it."""
    x = np.r_[np.linspace(-3, -1, 30), np.linspace(1, 3, 30)]
    model = GLMix(Schema("y", columns={"x": Numeric(0, 1)}), Fixed("x", prior=Prior(100.0)))
    fitted = model.fit({"x": x, "y": (x > 0).astype(int)})
    assert fitted.unsolved == {"fixed": 0}
    assert 1.0 < float(model.block("fixed").mean[0, 1]) < 30.0


def test_an_empty_history_leaves_the_priors() -> None:
    model = several("logit")
    model.fit(table())
    fitted = model.fit(rows_of(table(), slice(0, 0)))
    assert (fitted.objective, fitted.converged) == ((), True)
    np.testing.assert_array_equal(model.block("item").mean[: model.block("item").entities], 0.0)


def test_log_evidence_is_the_marginal_likelihood_of_a_linear_block() -> None:
    """Section 2, exact for the identity link: −½ rᵀ(W⁻¹ + X V0 Xᵀ)⁻¹ r − ½ log|I + V0 XᵀWX|, without constants."""
    data = table(link="identity")
    model = one_block()
    found = model.fit(data).log_evidence["user"]
    expected = 0.0
    for user in range(5):
        rows = rows_of(data, data["user"] == user)
        X, r = np.column_stack([np.ones(len(rows["y"])), rows["a"], rows["b"]]), rows["y"] - rows["o"]
        expected -= 0.5 * r @ np.linalg.solve(np.diag(1 / rows["w"]) + 0.5 * X @ X.T, r)
        expected -= 0.5 * np.linalg.slogdet(np.eye(3) + 0.5 * X.T @ (rows["w"][:, None] * X))[1]
    assert found == pytest.approx(expected, rel=1e-10)
