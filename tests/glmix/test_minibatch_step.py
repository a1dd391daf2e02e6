"""Minibatch and event mode against closed forms: specification, sections 2 and 5.3; acceptance 3, 15 and 16."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from tests.glmix.minibatch_step_parts import NO_FIXED, SCHEMA, N, close, posterior, several, table, take

from nearline import Fixed, GLMix, Prior, Random


def one_block(**options: Any) -> GLMix:
    user = Random("user", on=["a", "b"], prior=Prior({"(intercept)": 2.0, "*": 0.5}, {"a": 0.3}), posterior="full")
    return GLMix(SCHEMA, NO_FIXED, [user], **{"link": "identity", **options})


def test_events_minibatches_and_the_batch_agree_under_the_identity_link() -> None:
    """Acceptance 3: one block, fixed offsets, δ = 1; and all three are the normal equations."""
    data = table()
    event, minibatch, batch = one_block(mode="event"), one_block(mode="minibatch"), one_block()
    event.partial_fit(data)
    for start, stop in pairwise([0, 1, 7, 40, 41, N]):
        minibatch.partial_fit(take(data, slice(start, stop)))
    assert batch.fit(data).converged
    close(event, minibatch, 1e-8)
    close(event, batch, 1e-8)
    block = event.blocks[1]
    for user in range(4):
        rows = take(data, data["user"] == user)
        X = np.column_stack([np.ones(len(rows["y"])), rows["a"], rows["b"]])
        P = np.diag(1 / np.array([2.0, 0.5, 0.5])) + X.T @ (rows["w"][:, None] * X)
        mu = np.linalg.solve(P, [0.0, 0.3 / 0.5, 0.0] + X.T @ (rows["w"] * (rows["y"] - rows["o"])))
        theta, V = posterior(block, event.encoder.entity_codes("user")[user])
        np.testing.assert_allclose(theta, mu, atol=1e-10)
        np.testing.assert_allclose(V, np.linalg.inv(P), atol=1e-10)


def test_a_known_dispersion_divides_the_weights() -> None:
    data = table()
    noisy, light = one_block(dispersion=4.0), one_block()
    noisy.partial_fit(data)
    light.partial_fit({**data, "w": data["w"] / 4.0})
    close(noisy, light, 1e-12)


@pytest.mark.parametrize("link", ["logit", "log"])
def test_one_minibatch_is_the_batch_for_every_link(link: str) -> None:
    data = table(link=link)
    minibatch, batch = one_block(link=link, mode="minibatch"), one_block(link=link)
    minibatch.partial_fit(data)
    assert batch.fit(data).converged
    close(minibatch, batch, 1e-8)


@pytest.mark.parametrize("link", ["logit", "log"])
def test_one_event_is_a_minibatch_of_one_row(link: str) -> None:
    """The mode on the line μ + a S x is the mode: equation of docs/architecture.md against Newton in d dimensions."""
    data = table(link=link, n=12)
    event, minibatch = one_block(link=link, mode="event"), one_block(link=link, mode="minibatch")
    for row in range(12):
        event.partial_fit(take(data, [row]))
        minibatch.partial_fit(take(data, [row]))
    close(event, minibatch, 1e-7)


def joint_design(model: GLMix, data: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """All blocks' coefficients side by side: X (n, D) and the prior variances (D)."""
    users, items = model.encoder.entity_codes("user"), model.encoder.entity_codes("item")
    n, U = len(data["y"]), len(users)
    X, rows = np.zeros((n, 2 + 2 * U + 2 * len(items))), np.arange(n)
    u = 2 + 2 * np.array([users[user] for user in data["user"].tolist()])
    i = 2 + 2 * U + 2 * np.array([items[item] for item in data["item"].tolist()])
    X[:, 0], X[:, 1] = 1.0, data["a"]
    X[rows, u], X[rows, u + 1], X[rows, i], X[rows, i + 1] = 1.0, data["b"], 1.0, data["c"]
    return X, np.repeat([2.0, 0.5, 0.25], [2, 2 * U, 2 * len(items)])


def stacked(model: GLMix) -> np.ndarray:
    return np.concatenate([block.mean[: block.entities].ravel() for block in model.blocks])


def test_one_event_updates_all_blocks_as_their_joint_posterior_does() -> None:
    """docs/architecture.md: means are exact, each block's covariance is the joint one's diagonal block."""
    data = table()
    model = several()
    model.partial_fit(data)
    row = take(data, [5])
    X, _ = joint_design(model, row)
    S = np.zeros((X.shape[1], X.shape[1]))
    place = 0
    for block in model.blocks:
        for code in range(block.entities):
            S[place : place + 2, place : place + 2] = posterior(block, code)[1]
            place += 2
    x, w = X[0], float(row["w"][0])
    v = S @ x
    gain = w / (1 + w * x @ v)
    expected = stacked(model) + gain * (row["y"][0] - row["o"][0] - x @ stacked(model)) * v
    after = S - gain * np.outer(v, v)
    model.partial_fit(row)
    np.testing.assert_allclose(stacked(model), expected, atol=1e-12)
    place = 0
    for block in model.blocks:
        for code in range(block.entities):
            np.testing.assert_allclose(
                posterior(block, code)[1], after[place : place + 2, place : place + 2], atol=1e-13
            )
            place += 2


def test_many_cycles_over_one_minibatch_reach_the_joint_mode() -> None:
    data = table()
    model = several(mode="minibatch")
    model.partial_fit(data, cycles=400)
    X, variance = joint_design(model, data)
    W = data["w"]
    mode = np.linalg.solve(np.diag(1 / variance) + X.T @ (W[:, None] * X), X.T @ (W * (data["y"] - data["o"])))
    np.testing.assert_allclose(stacked(model), mode, atol=1e-8)


def test_many_cycles_over_one_minibatch_reach_the_joint_mode_of_a_logistic_loss() -> None:
    data = table(link="logit")
    model = several(mode="minibatch", link="logit")
    model.partial_fit(data, cycles=400)
    X, variance = joint_design(model, data)
    sign = 2.0 * data["y"] - 1.0

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (X @ theta + data["o"])
        value = data["w"] @ np.logaddexp(0.0, -margin) + 0.5 * theta @ (theta / variance)
        slope = -data["w"] * sign / (1.0 + np.exp(margin))
        return float(value), X.T @ slope + theta / variance

    found = minimize(
        objective, np.zeros(X.shape[1]), jac=True, method="L-BFGS-B", options={"ftol": 1e-16, "gtol": 1e-9}
    )
    np.testing.assert_allclose(stacked(model), found.x, atol=1e-6)


def test_a_stream_equals_the_batch_only_with_a_joint_precision() -> None:
    """Acceptance 3 and section 4.2, rule 2: with entities as levels of one block it is exact, else it is not."""
    data = table()
    one = Fixed("a", "user_level", "item_level", prior=Prior(0.5), posterior="full")
    levels = {**data, "user_level": [f"u{u}" for u in data["user"]], "item_level": [f"i{i}" for i in data["item"]]}
    stream, batch = (GLMix(SCHEMA, one, link="identity") for _ in range(2))
    stream.partial_fit(levels)
    batch.fit(levels)
    close(stream, batch, 1e-8)
    stream, batch = several(), several()
    stream.partial_fit(data)
    batch.fit(data, cycles=200, tolerance=0.0)
    assert 1e-4 < np.abs(stacked(stream) - stacked(batch)).max() < 1.0


def test_gauss_seidel_never_jacobi() -> None:
    """Section 4.2, rule 1: two intercepts of variance 1 and one row y = 1 give 1/2 and then half of what is left."""
    first, second = (Random(key, prior=Prior(1.0)) for key in ("user", "item"))
    row = {name: [value] for name, value in {"user": 1, "item": 1, "y": 1.0, "t": 0.0, "w": 1.0, "o": 0.0}.items()}
    model = GLMix(SCHEMA, NO_FIXED, [first, second], link="identity", mode="minibatch")
    model.partial_fit(row)
    assert [float(block.mean[0, 0]) for block in model.blocks[1:]] == pytest.approx([0.5, 0.25], abs=1e-15)
    batch = GLMix(SCHEMA, NO_FIXED, [second, first], link="identity")
    batch.fit(row, cycles=1)
    assert [float(block.mean[0, 0]) for block in batch.blocks[1:]] == pytest.approx([0.5, 0.25], abs=1e-15)
    assert [block.name for block in batch.blocks[1:]] == ["item", "user"]
    # Event mode is joint: both intercepts are alike.
    event = GLMix(SCHEMA, NO_FIXED, [first, second], link="identity")
    event.partial_fit(row)
    assert [float(block.mean[0, 0]) for block in event.blocks[1:]] == pytest.approx([1 / 3, 1 / 3], abs=1e-15)
