"""Minibatch and event mode against closed forms: specification, sections 2, 4.2, 5.3 and acceptance 3, 8, 15 and 16."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from nearline import ConfigError, Fixed, Forgetting, GLMix, Numeric, Prior, Random, Schema
from nearline.glmix import _minibatch_step
from nearline.glmix._packed import unpack
from nearline.glmix._state import Block

SCHEMA = Schema(label="y", time="t", weight="w", offset="o", columns={c: Numeric(0, 1) for c in ("a", "b", "c")})
NO_FIXED = Fixed(intercept=False)
N = 90


def table(seed: int = 0, n: int = N, users: int = 4, link: str = "identity") -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    y = {"identity": rng.normal(size=n), "logit": rng.integers(0, 2, n), "log": rng.poisson(1.0, n)}[link]
    columns = {name: rng.normal(size=n) for name in ("a", "b", "c")}
    times = {"t": np.sort(rng.uniform(0, 100.0, n)), "w": rng.uniform(0.5, 2.0, n), "o": rng.normal(size=n)}
    return {"user": rng.integers(0, users, n), "item": rng.integers(0, 5, n), **columns, "y": y, **times}


def take(data: dict[str, Any], rows: Any) -> dict[str, Any]:
    return {name: np.asarray(column)[rows] for name, column in data.items()}


def posterior(block: Block, code: int) -> tuple[np.ndarray, np.ndarray]:
    return block.mean[code].copy(), unpack(block.cov[code])


def close(one: GLMix, two: GLMix, tolerance: float) -> None:
    for a, b in zip(one.blocks, two.blocks):
        n = a.entities
        np.testing.assert_allclose(a.mean[:n], b.mean[:n], rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(a.cov[:n], b.cov[:n], rtol=tolerance, atol=tolerance)


def state(model: GLMix) -> list[bytes]:
    return [a[: b.entities].tobytes() for b in model.blocks for a in (b.mean, b.cov, b.last, b.counts)]


# -- one block -------------------------------------------------------------------------------------------------------


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


# -- several blocks --------------------------------------------------------------------------------------------------

USER = Random("user", on=["b"], prior=Prior(0.5), posterior="full")
ITEM = Random("item", on=["c"], prior=Prior(0.25), posterior="full")


def several(**options: Any) -> GLMix:
    return GLMix(
        SCHEMA, Fixed("a", prior=Prior(2.0), posterior="full"), [USER, ITEM], **{"link": "identity", **options}
    )


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


# -- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", ["identity", "logit"])
def test_a_failing_entity_is_refused_by_all_blocks_and_the_others_learn(link: str) -> None:
    """Sections 2 and 4.3: a row is learned by every block or by none; rows that failed are named."""
    data = table(link=link)
    bad = np.flatnonzero(data["user"] == 2)
    broken = {**data, "b": data["b"].copy()}
    broken["b"][bad[3]] = 1e200  # its square is no number
    model, without = several(mode="minibatch", link=link), several(mode="minibatch", link=link)
    learned = model.partial_fit(broken)
    np.testing.assert_array_equal(learned.refused, bad)
    assert learned.rows == N - len(bad)
    without.design(data, learn=True)
    without.partial_fit(take(data, data["user"] != 2))
    assert state(model) == state(without)


@pytest.mark.parametrize("mode", ["event", "minibatch"])
@pytest.mark.parametrize("posterior", ["full", "diagonal", "lowrank"])
@pytest.mark.parametrize("forgetting", [None, Forgetting(half_life=5.0), Forgetting(walk_per_event={"*": 0.1})])
def test_a_refused_row_changes_nothing(mode: Any, posterior: Any, forgetting: Forgetting | None) -> None:
    user = Random("user", on=["b"], posterior=posterior, forgetting=forgetting)
    model = GLMix(SCHEMA, Fixed("a"), [user], mode=mode)
    data = table(link="logit")
    model.partial_fit(data)
    before = state(model)
    row = {**take(data, [0]), "a": np.array([1e200]), "t": np.array([500.0])}
    learned = model.partial_fit(row)
    assert (learned.rows, learned.refused.tolist()) == (0, [0])
    assert state(model) == before
    assert model.partial_fit(take(data, [1])).rows == 1


def test_a_batch_that_keeps_failing_is_refused_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_minibatch_step, "MAX_ATTEMPTS", 1)
    data = table(link="logit")
    data["w"][::10] = 0.0
    model = several(link="logit", mode="minibatch")
    model.partial_fit(data)
    before = state(model)
    learned = model.partial_fit({**data, "b": np.where(np.arange(N) == 3, 1e200, data["b"])})
    assert learned.rows == 0
    np.testing.assert_array_equal(learned.refused, np.flatnonzero(data["w"]))
    assert state(model) == before


def test_a_refused_row_may_come_again() -> None:
    data = table(link="logit")
    model, twin = several(link="logit", mode="minibatch"), several(link="logit", mode="minibatch")
    bad = {**take(data, slice(0, 10)), "b": np.r_[1e200, data["b"][1:10]]}
    learned = model.partial_fit(bad)
    twin.design(take(data, slice(0, 10)), learn=True)
    again = take(data, learned.refused)
    rest = take(data, np.setdiff1d(np.arange(10), learned.refused))
    for rows in (rest, again):
        twin.partial_fit(rows)
    model.partial_fit(again)
    assert state(model) == state(twin)


def test_settings_of_partial_fit_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"partial_fit\(mode=...\) is 'event'"):
        several().partial_fit(table(), mode="batch")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"partial_fit\(cycles=...\) must be at least 1"):
        several().partial_fit(table(), mode="minibatch", cycles=0)
    with pytest.raises(ConfigError, match=r"partial_fit\(cycles=...\) needs mode='minibatch'"):
        several().partial_fit(table(), cycles=2)


# -- time ------------------------------------------------------------------------------------------------------------

HALF_LIFE = Forgetting(half_life=30.0, form="stabilised")


def forgetful(mode: Any, link: str = "identity", forgetting: Forgetting = HALF_LIFE) -> GLMix:
    prior = Prior({"(intercept)": 2.0, "*": 0.5}, {"a": 0.3})
    user = Random("user", on=["a", "b"], prior=prior, posterior="full", forgetting=forgetting)
    return GLMix(SCHEMA, NO_FIXED, [user], link=link, mode=mode)


def test_forgetting_weighs_every_row_by_its_age() -> None:
    """Section 5.3: H = Λ0 + Σ_n w_n 2^(−age_n/τ) x_n x_nᵀ, ages counted back from the entity's newest row."""
    data = table(users=1)
    for mode in ("event", "minibatch"):
        model = forgetful(mode)
        model.partial_fit(data)
        weight = data["w"] * 2.0 ** ((data["t"] - data["t"].max()) / 30.0)
        X = np.column_stack([np.ones(N), data["a"], data["b"]])
        P = np.diag(1 / np.array([2.0, 0.5, 0.5])) + X.T @ (weight[:, None] * X)
        mu = np.linalg.solve(P, [0.0, 0.3 / 0.5, 0.0] + X.T @ (weight * (data["y"] - data["o"])))
        theta, V = posterior(model.blocks[1], 0)
        np.testing.assert_allclose(theta, mu, atol=1e-10)
        np.testing.assert_allclose(V, np.linalg.inv(P), atol=1e-10)


@settings(max_examples=15, deadline=None)
@given(
    order=st.permutations(range(24)),
    cuts=st.lists(st.integers(0, 24), max_size=4),
    mode=st.sampled_from(["event", "minibatch"]),
)
def test_late_rows_may_come_in_any_order(order: list[int], cuts: list[int], mode: Any) -> None:
    """Acceptance 8: linear loss, any arrival order and any batches, the same state to 1e-10."""
    data = table(n=24, users=2)
    straight, mixed = forgetful(mode), forgetful(mode)
    for model in (straight, mixed):
        model.design(data, learn=True)
    straight.partial_fit(data)
    shuffled = take(data, order)
    for start, stop in pairwise([0, *sorted(cuts), 24]):
        mixed.partial_fit(take(shuffled, slice(start, stop)))
    close(straight, mixed, 1e-10)
    np.testing.assert_array_equal(straight.blocks[1].last[:2], mixed.blocks[1].last[:2])


@pytest.mark.parametrize("form", ["reverting", "stabilised"])
def test_splitting_a_minibatch_at_equal_times_changes_nothing(form: Any) -> None:
    """Acceptance 8, linear: 1e-10."""
    data = table()
    data["t"] = np.repeat([0.0, 40.0, 90.0], N // 3)
    forgetting = Forgetting(half_life=30.0, form=form)
    whole, split = (forgetful("minibatch", forgetting=forgetting) for _ in range(2))
    for model in (whole, split):
        model.design(data, learn=True)
    for start in (0, 30, 60):
        whole.partial_fit(take(data, slice(start, start + 30)))
        for part in (slice(start, start + 11), slice(start + 11, start + 12), slice(start + 12, start + 30)):
            split.partial_fit(take(data, part))
    close(whole, split, 1e-10)


def test_splitting_a_logistic_minibatch_moves_the_mode_little() -> None:
    """Acceptance 8, logistic: 20 rows on a 20-row posterior, d = 10; median change at most 0.1 posterior sd."""
    columns = [f"x{j}" for j in range(9)]
    schema = Schema(label="y", time="t", columns={column: Numeric(0, 1) for column in columns})
    user = Random("user", on=columns, prior=Prior(1.0), forgetting=HALF_LIFE)
    changes = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        whole, split = (GLMix(schema, NO_FIXED, [user], mode="minibatch") for _ in range(2))
        rows: dict[str, Any] = {column: rng.normal(size=40) for column in columns}
        rows |= {"user": np.zeros(40, int), "y": rng.integers(0, 2, 40), "t": np.repeat([0.0, 10.0], 20)}
        for model in (whole, split):
            model.partial_fit(take(rows, slice(0, 20)))
        whole.partial_fit(take(rows, slice(20, 40)))
        split.partial_fit(take(rows, slice(20, 30)))
        split.partial_fit(take(rows, slice(30, 40)))
        theta, V = posterior(whole.blocks[1], 0)
        changes.append(np.abs(split.blocks[1].mean[0] - theta) / np.sqrt(np.diag(V)))
    assert 1e-6 < np.median(changes) <= 0.1


@pytest.mark.parametrize("form", ["reverting", "stabilised"])
@pytest.mark.parametrize("mode", ["event", "minibatch"])
def test_only_differences_of_time_matter(mode: Any, form: Any) -> None:
    """Events before 1970 are as good as any: an entity that was never updated has no time to be late against."""
    data = table()
    now, then = (forgetful(mode, forgetting=Forgetting(half_life=30.0, form=form)) for _ in range(2))
    now.partial_fit(data)
    then.partial_fit({**data, "t": data["t"] - 4096.0})
    close(now, then, 1e-9)


@pytest.mark.parametrize("form", ["reverting", "stabilised"])
def test_every_cycle_starts_from_the_relaxed_prior(form: Any) -> None:
    """One block: a second cycle solves the same problem again."""
    data = table()
    once, often = (forgetful("minibatch", forgetting=Forgetting(half_life=30.0, form=form)) for _ in range(2))
    for start in (0, 45):
        part = take(data, slice(start, start + 45))
        once.partial_fit(part)
        often.partial_fit(part, cycles=3)
    assert state(once) == state(often)


@pytest.mark.parametrize("form", ["reverting", "stabilised"])
def test_offsets_are_scores_as_of_now(form: Any) -> None:
    """Section 4.3: what another block knew has relaxed by the time of the batch, even before that block is solved."""
    forgetting = Forgetting(half_life=1.0, form=form)
    first, second = Random("user", prior=Prior(1.0)), Random("item", prior=Prior(1.0), forgetting=forgetting)
    model = GLMix(SCHEMA, NO_FIXED, [first, second], link="identity", mode="minibatch")
    rows = {"user": [1, 1], "item": [1, 2], "y": [3.0, 3.0], "t": [0.0, 0.0], "w": [1e6, 1e6], "o": [0.0, 0.0]}
    model.partial_fit(rows)
    model.blocks[1].mean[0], model.blocks[2].mean[0] = 0.0, 3.0
    # A thousand half-lives later item 1 is as good as new: a new user alone explains 2 of 2/(1 + 1), its offset is 0.
    model.partial_fit({"user": [2], "item": [1], "y": [2.0], "t": [1000.0], "w": [1.0], "o": [0.0]})
    assert float(model.blocks[1].mean[1, 0]) == pytest.approx(1.0, abs=1e-9)
    assert float(model.blocks[2].mean[0, 0]) == pytest.approx(0.5, abs=1e-9)


def test_an_entity_without_new_rows_is_not_touched() -> None:
    """Section 4.3: decay is applied lazily, at the next touch."""
    for mode in ("event", "minibatch"):
        model = forgetful(mode)
        data = table(users=2)
        model.partial_fit(data)
        mean, cov = (array[0].tobytes() for array in (model.blocks[1].mean, model.blocks[1].cov))
        later = take(data, data["user"] == 1 - data["user"][0])
        model.partial_fit({**later, "t": later["t"] + 1e6})
        assert model.blocks[1].mean[0].tobytes() == mean
        assert model.blocks[1].cov[0].tobytes() == cov


@pytest.mark.parametrize("mode", ["event", "minibatch"])
def test_random_walk_noise_is_added_up_to_the_prior(mode: Any) -> None:
    """docs/architecture.md: variance per event and per day, never above the prior's."""
    forgetting = Forgetting(walk_per_event={"(intercept)": 0.01}, walk_per_day={"*": 0.864})
    intercept = Random("user", prior=Prior(1.0), forgetting=forgetting)
    model = GLMix(SCHEMA, NO_FIXED, [intercept], link="identity", mode=mode)
    row = {"user": [1], "y": [0.0], "t": [0.0], "w": [9.0], "o": [0.0]}
    model.partial_fit(row)
    assert float(model.blocks[1].cov[0, 0]) == pytest.approx(0.1)
    # per_column: "(intercept)" has no walk per day of its own, so "*" holds: 0.864 a day is 0.00001 a second.
    model.partial_fit({**row, "t": [1000.0]})
    prior = 0.1 + 0.01 + 0.01
    assert float(model.blocks[1].cov[0, 0]) == pytest.approx(1 / (1 / prior + 9.0))
    model.partial_fit({**row, "t": [1e9]})
    assert float(model.blocks[1].cov[0, 0]) == pytest.approx(0.1)


@pytest.mark.parametrize("mode", ["event", "minibatch"])
def test_a_published_delta_forgets_per_update(mode: Any) -> None:
    """Section 4.3's numbers for a vanished feature: h = 100, λ = 1, δ = 0.8, θ = 1, five updates without it."""
    forgetting = Forgetting(form="per_update", delta=0.8)
    user = Random("user", on=["a", "b"], intercept=False, prior=Prior(1.0), posterior="full", forgetting=forgetting)
    model = GLMix(SCHEMA, NO_FIXED, [user], link="identity", mode=mode)
    row = {"user": [1], "a": [0.0], "b": [1.0], "y": [1.0], "t": [0.0], "w": [1.0], "o": [0.0]}
    model.partial_fit(row)
    block = model.blocks[1]
    block.mean[0], block.cov[0] = [1.0, 0.0], [0.01, 0.0, 1.0]
    found = []
    for _ in range(5):
        model.partial_fit(row)
        found.append((float(block.mean[0, 0]), 1 / float(block.cov[0, 0])))
    np.testing.assert_allclose([theta for theta, _ in found], [0.9975, 0.9944, 0.9906, 0.9858, 0.9799], atol=5e-5)
    np.testing.assert_allclose([h for _, h in found], [80.20, 64.36, 51.69, 41.55, 33.44], atol=5e-3)
