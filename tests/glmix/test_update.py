"""The update of every block from a slice: specification, sections 2, 4.2, 4.3 and 9; acceptance 3, 4, 7, 15 and 17."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline import ConfigError, DataError, Fixed, Forgetting, GLMix, Numeric, Prior, Random, Schema, StateError
from nearline.glmix import _minibatch_step
from nearline.glmix._lowrank import LowRank, pack
from nearline.glmix._lowrank import unpack as unpack_row
from nearline.glmix._packed import pack as packed
from nearline.glmix._packed import unpack
from nearline.glmix._past import Past
from nearline.glmix._state import Block

SCHEMA = Schema(label="y", weight="w", offset="o", columns={c: Numeric(0, 1) for c in ("a", "b", "c")})
LIMIT = {"cycles": 500, "tolerance": 1e-13}
KINDS = ("full", "diagonal", "lowrank")


def table(seed: int = 0, n: int = 60, users: int = 4, link: str = "logit") -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    y = {"identity": rng.normal(size=n), "logit": rng.integers(0, 2, n), "log": rng.poisson(1.0, n)}[link]
    columns = {name: rng.normal(size=n) for name in ("a", "b", "c")}
    keys = {"user": rng.integers(0, users, n), "item": rng.integers(0, 5, n)}
    return {**keys, **columns, "y": y, "w": rng.uniform(0.5, 2.0, n), "o": rng.normal(size=n)}


def take(data: dict[str, Any], rows: Any) -> dict[str, Any]:
    return {name: np.asarray(column)[rows] for name, column in data.items()}


def model(posterior: Any = "full", link: str = "logit", **options: Any) -> GLMix:
    """A fixed effect and two random ones that compete with it."""
    fixed = Fixed("a", "b", prior=Prior(2.0), posterior=posterior)
    prior = Prior({"(intercept)": 1.0, "*": 0.5}, {"a": 0.3})
    user = Random("user", on=["a"], prior=prior, posterior=posterior)
    return GLMix(SCHEMA, fixed, [user, Random("item", prior=Prior(0.7), posterior=posterior)], link=link, **options)


def one_block(posterior: Any = "full", link: str = "logit", prior: Prior | None = None) -> GLMix:
    user = Random("user", on=["a", "b", "c"], intercept=False, prior=prior or Prior(0.5), posterior=posterior)
    return GLMix(SCHEMA, Fixed(intercept=False), [user], link=link)


def state(of: GLMix) -> list[bytes]:
    return [x[: b.entities].tobytes() for b in of.blocks for x in (b.mean, b.cov, b.last, b.counts)]


def close(one: GLMix, two: GLMix, tolerance: float) -> None:
    for a, b in zip(one.blocks, two.blocks):
        n = a.entities
        np.testing.assert_allclose(a.mean[:n], b.mean[:n], rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(a.cov[:n], b.cov[:n], rtol=tolerance, atol=tolerance)


def code(of: GLMix, key: str, entity: Any) -> int:
    return int(of.encoder.entity_codes(key)[entity])


def precision(block: Block, entity: int) -> np.ndarray:
    return np.asarray(np.linalg.inv(unpack(block.cov[entity].astype(np.float64))))


# -- known answers ---------------------------------------------------------------------------------------------------


def test_row_b_of_fixture_f() -> None:
    """Section 9: μ = (.25, 0, −1.5), v = (.5, none, .25), λ2 = 2, ω = .5, as published (no base prior put back)."""
    rows = {"a": [1.0, 0.5], "b": [0.5, 0.0], "c": [3.0, 1.0], "y": [0, 1], "w": [1.0, 1.0], "o": [-0.25, 1.0]}
    rows["user"] = [7, 7]
    learner = one_block(prior=Prior(0.5))
    learner.design(rows, learn=True)
    block = learner.block("user")
    block.mean[0], block.counts[0] = [0.25, 0.0, -1.5], 5
    block.cov[0] = packed(np.diag([0.5, np.nan, 0.25]))
    learner.update(rows, past_weight=0.5, stabilise=False, **LIMIT)
    np.testing.assert_allclose(block.mean[0], [0.47954918, -0.01295172, -1.28340254], atol=1e-7)
    H = precision(block, 0)[np.triu_indices(3)]
    expected = [1.08770273, 0.01261623, 0.20063792, 1.00630812, 0.03784869, 2.47697322]
    np.testing.assert_allclose(H, expected, atol=1e-7)


@pytest.mark.parametrize("posterior", ["full", "lowrank"])
def test_one_linear_block_streamed_is_the_batch(posterior: str) -> None:
    """Acceptance 3."""
    data = table(link="identity")
    stream, batch = (one_block(posterior, "identity") for _ in range(2))
    for start in range(0, 60, 6):
        stream.update(take(data, slice(start, start + 6)))
    batch.update(data)
    close(stream, batch, 1e-8)
    fitted = one_block("full", "identity")
    fitted.fit(data)
    np.testing.assert_allclose(stream.blocks[1].mean[:4], fitted.blocks[1].mean[:4], atol=1e-8)


@pytest.mark.parametrize("link", ["logit", "identity", "log"])
def test_one_slice_from_the_priors_is_the_batch_fit_of_all_blocks(link: str) -> None:
    """The slice's descent solves the batch's objective, and H is that of every block at the joint mode."""
    data = table(link=link)
    once, batch = model(link=link), model(link=link)
    assert once.update(data, **LIMIT).converged
    batch.fit(data, cycles=2_000, tolerance=0.0)
    close(once, batch, 1e-5)


@pytest.mark.parametrize("posterior", KINDS)
@pytest.mark.parametrize("link", ["logit", "identity", "log"])
def test_the_precision_is_the_prior_s_and_the_curvature_where_all_blocks_rest(posterior: str, link: str) -> None:
    """H = P + Xᵀ W X, evaluated once: with one cycle it is not what each block's own solve saw."""
    first, second = table(1, link=link), table(2, link=link)
    learner = model(posterior, link)
    learner.update(first)
    before = learner.fork()
    learner.update(second, cycles=1)
    eta = learner.decision_function(second) if link != "log" else np.log(learner.predict(second))
    D = {"logit": lambda: (p := 1 / (1 + np.exp(-eta))) * (1 - p), "identity": lambda: 1.0, "log": lambda: np.exp(eta)}
    W = second["w"] * D[link]()
    for entity in range(4):
        mine = second["user"] == entity
        X = np.column_stack([np.ones(mine.sum()), second["a"][mine]])
        added = X.T @ (W[mine, None] * X)
        at = code(learner, "user", entity)
        P, H = (_precision_of(m.block("user"), at) for m in (before, learner))
        added = np.diag(np.diagonal(added)) if posterior == "diagonal" else added
        np.testing.assert_allclose(H, P + added, rtol=1e-8)


def _precision_of(block: Block, at: int) -> np.ndarray:
    row = block.cov[at]
    if block.effect.posterior == "lowrank":
        return unpack_row(row, block.d, block.kmax).precision()
    return np.diag(1.0 / row) if block.effect.posterior == "diagonal" else precision(block, at)


@pytest.mark.parametrize("posterior", KINDS)
def test_weight_k_is_k_copies(posterior: str) -> None:
    """Acceptance 7 and the row on sample weights: in the mean and in H; a weight of 0 is no row."""
    data = table()
    data["w"] = np.repeat([1.0, 2.0, 3.0, 0.0], 15)
    copies = take(data, np.repeat(np.arange(60), data["w"].astype(int)))
    copies["w"] = np.ones(len(copies["y"]))
    weighted, copied = model(posterior), model(posterior)
    weighted.update(data, **LIMIT)
    copied.design(data, learn=True)
    copied.update(copies, **LIMIT)
    for a, b in zip(weighted.blocks, copied.blocks):
        np.testing.assert_allclose(a.mean[: a.entities], b.mean[: b.entities], atol=1e-9)
        for at in range(a.entities):
            np.testing.assert_allclose(_precision_of(a, at), _precision_of(b, at), rtol=1e-8, atol=1e-9)


# -- the past --------------------------------------------------------------------------------------------------------


@given(omega=st.sampled_from([0.0, 0.3, 0.8, 1.0, 2.5]), posterior=st.sampled_from(KINDS))
@settings(max_examples=15, deadline=None)
def test_the_past_is_weighed_as_what_the_data_said(omega: float, posterior: str) -> None:
    """P = Λ0 + ω (H − Λ0),  P m = ω H θ + (1 − ω) Λ0 μ0."""
    learner = model(posterior)
    learner.update(table())
    block = learner.block("user")
    old = block.mean[:4].copy(), [_precision_of(block, at) for at in range(4)]
    Past(omega).weigh(block, np.arange(4))
    base, mu0 = np.diag([1.0, 2.0]), np.array([0.3 * 0, 0.3])
    for at in range(4):
        H, P = old[1][at], _precision_of(block, at)
        np.testing.assert_allclose(P, base + omega * (H - base), rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(P @ block.mean[at], omega * H @ old[0][at] + (1 - omega) * base @ mu0, atol=1e-8)


@pytest.mark.parametrize("posterior", KINDS)
@pytest.mark.parametrize("omega", [0.5, 2.0])
def test_as_published_the_precision_is_multiplied(posterior: str, omega: float) -> None:
    learner = model(posterior)
    learner.update(table())
    block = learner.block("user")
    old = block.mean[:4].copy(), [_precision_of(block, at) for at in range(4)]
    Past(omega, stabilise=False).weigh(block, np.arange(4))
    np.testing.assert_array_equal(block.mean[:4], old[0])
    for at in range(4):
        np.testing.assert_allclose(_precision_of(block, at), omega * old[1][at], rtol=1e-9)


def test_nothing_winds_up_or_down_however_often_the_past_is_weighed() -> None:
    """H ⪰ Λ0 for ever and forgotten coefficients go back to the base prior; as published their precision goes to 0."""
    kept, published = one_block(), one_block()
    first, later = table(users=1), table(1, users=1)
    later["c"] = np.zeros(60)
    for learner, stabilise in ((kept, True), (published, False)):
        learner.update(first)
        for _ in range(60):
            learner.update(take(later, slice(0, 3)), past_weight=0.5, stabilise=stabilise)
    H = precision(kept.block("user"), 0)
    assert np.linalg.eigvalsh(H - np.eye(3) / 0.5).min() > -1e-9
    assert H[2, 2] == pytest.approx(2.0)
    assert kept.block("user").mean[0, 2] == pytest.approx(0.0, abs=1e-9)
    assert precision(published.block("user"), 0)[2, 2] < 1e-9


def test_more_than_the_past_leaves_unseen_features_at_the_prior() -> None:
    learner = one_block()
    data = table(users=1)
    data["c"] = np.zeros(60)
    for start in range(0, 60, 10):
        learner.update(take(data, slice(start, start + 10)), past_weight=1.5)
    H = precision(learner.block("user"), 0)
    assert H[2, 2] == pytest.approx(2.0)
    assert H[0, 0] > 10.0


def test_each_block_has_its_own_weight() -> None:
    one, two, none = model(), model(), model()
    for learner in (one, two, none):
        learner.update(table(1))
    one.update(table(2), past_weight={"fixed": 0.2}, cycles=1)
    two.update(table(2), past_weight={"user": 0.2, "*": 1.0}, cycles=1)
    none.update(table(2), cycles=1)
    H = [[precision(m.block(name), 0)[0, 0] for name in ("fixed", "user")] for m in (one, two, none)]
    assert H[0][0] < 0.9 * H[2][0]
    assert H[1][1] < 0.9 * H[2][1]
    assert H[0][1] == pytest.approx(H[2][1], rel=0.05)


def test_priors_are_frozen_for_the_slice_and_the_blocks_share_no_residual() -> None:
    """Acceptance 15: the joint objective of the slice never rises from one cycle to the next."""
    learner = model()
    learner.update(table(1))
    found = []
    for cycles in (1, 2, 3, 5, 9, 40):
        after = learner.fork()
        after.update(table(2), cycles=cycles, tolerance=0.0)
        found.append(_objective(learner, after, table(2)))
    assert (np.diff(found) <= 1e-12).all()
    assert found[0] - found[-1] > 1e-4


def _objective(before: GLMix, after: GLMix, data: dict[str, Any]) -> float:
    eta = after.decision_function(data)
    total = float(data["w"] @ (np.logaddexp(0.0, eta) - data["y"] * eta))
    for old, new in zip(before.blocks, after.blocks):
        for at in range(old.entities):
            move = new.mean[at] - old.mean[at]
            total += 0.5 * float(move @ precision(old, at) @ move)
    return total


def test_evidence_weighs_the_past_by_whether_the_world_has_changed() -> None:
    """ω = 1 where the slice is what the past said, and the new truth is followed where it is not."""
    rng, n = np.random.default_rng(5), 400
    x = rng.normal(size=(4, n))
    u = rng.random((4, n))

    def slice_(k: int, slope: float) -> dict[str, Any]:
        y = (u[k] < 1 / (1 + np.exp(-slope * x[k]))).astype(int)
        return {"user": np.arange(n) % 5, "a": x[k], "b": x[k], "c": x[k], "y": y, "w": np.ones(n), "o": np.zeros(n)}

    learner = GLMix(SCHEMA, Fixed("a", prior=Prior(4.0)), [Random("user", prior=Prior(0.2))])
    learner.update(slice_(0, 1.5))
    same, changed, kept = learner.fork(), learner.fork(), learner.fork()
    assert same.update(slice_(1, 1.5), past_weight="auto").past_weight == 1.0
    done = changed.update(slice_(1, -1.5), past_weight="auto")
    assert isinstance(done.past_weight, float)
    assert done.past_weight < 0.5
    kept.update(slice_(1, -1.5))
    test = slice_(2, -1.5)
    losses = [np.logaddexp(0, z := m.decision_function(test)) - test["y"] * z for m in (changed, kept)]
    assert losses[0].mean() < losses[1].mean() - 0.05
    given = learner.fork()
    given.update(slice_(1, -1.5), past_weight=done.past_weight)
    assert state(given) == state(changed)


def test_the_evidence_of_a_linear_slice_is_its_marginal_likelihood() -> None:
    """One block, identity link: log N(y; o + X m, I/w + X P⁻¹ Xᵀ) up to the constant that every ω shares."""
    learner = one_block(link="identity", prior=Prior(0.5))
    learner.update(table(1, users=1, link="identity"))
    data = table(2, n=7, users=1, link="identity")
    design = learner.design(data, learn=True)[0]
    X, r = np.column_stack([data[c] for c in "abc"]), data["y"] - data["o"]
    found = []
    for omega in (1.0, 0.5, 0.1):
        descent = _minibatch_step.Descent(2, 0.0, Past(omega))
        ours = _minibatch_step.log_evidence(
            learner.blocks, learner.encoder.n_slots, design, "identity", descent, 1, frozenset()
        )
        twin = learner.fork()
        Past(omega).weigh(twin.block("user"), np.array([0]))
        block = twin.block("user")
        C = np.diag(1 / data["w"]) + X @ unpack(block.cov[0]) @ X.T
        e = r - X @ block.mean[0]
        exact = -0.5 * float(e @ np.linalg.solve(C, e)) - 0.5 * np.linalg.slogdet(C)[1]
        found.append(ours - exact)
    np.testing.assert_allclose(found, found[0], atol=1e-9)


# -- edge cases, section 4.3 -----------------------------------------------------------------------------------------


def levels(**columns: Any) -> dict[str, Any]:
    n = len(columns["user"])
    return {"y": [1, 0] * (n // 2), **columns}


def with_levels(prior: Prior | None = None) -> GLMix:
    given_prior = prior or Prior({"*": 0.5}, {"g": 0.2})
    return GLMix(Schema(label="y"), Fixed("g"), [Random("user", on=["g"], prior=given_prior)])


def test_a_feature_new_to_an_entity_starts_from_the_base_prior() -> None:
    learner = with_levels()
    learner.update(levels(user=[1, 1], g=["x", "x"]))
    learner.update(levels(user=[2, 2], g=["z", "z"]), past_weight={"*": 0.5})
    block = learner.block("user")
    assert block.mean[0, 2] == 0.2
    assert precision(block, 0)[2, 2] == pytest.approx(2.0)
    learner.update(levels(user=[1, 1], g=["z", "z"]), past_weight={"*": 0.5})
    assert precision(block, 0)[2, 2] > 2.0


def test_a_new_entity_starts_from_the_base_prior_and_is_scored_with_it() -> None:
    learner = with_levels()
    learner.update(levels(user=[1, 1], g=["x", "x"]), past_weight=0.5)
    fixed = learner.block("fixed").mean[0]
    assert learner.decision_function({"user": [9], "g": ["x"]})[0] == pytest.approx(fixed.sum() + 0.2)
    other = learner.fork()
    learner.update(levels(user=[9, 9], g=["x", "x"]), past_weight={"user": 0.5})
    other.update(levels(user=[9, 9], g=["x", "x"]))
    close(learner, other, 1e-9)


def test_a_vanished_feature_keeps_what_it_learned_unless_forgotten() -> None:
    learner = with_levels(Prior(1.0))
    learner.update(levels(user=[1] * 4, g=["x"] * 4), cycles=1)
    H = precision(learner.block("fixed"), 0)[1, 1]
    kept, half = learner.fork(), learner.fork()
    kept.update(levels(user=[1] * 4, g=["z"] * 4))
    half.update(levels(user=[1] * 4, g=["z"] * 4), past_weight=0.5)
    assert precision(kept.block("fixed"), 0)[1, 1] == pytest.approx(H)
    assert precision(half.block("fixed"), 0)[1, 1] == pytest.approx(0.5 * H + 0.5)


def test_an_intercept_takes_part_as_any_other_coefficient() -> None:
    """Free only in a batch fit: from there on its posterior is its prior, and all labels equal have a mode."""
    learner = GLMix(Schema(label="y"), Fixed(), [Random("user")])
    learner.fit({"user": [1, 1, 2], "y": [1, 0, 1]})
    before = learner.block("fixed").cov[0, 0]
    done = learner.update({"user": [1, 2, 3], "y": [1, 1, 1]})
    assert done.rows == 3
    assert learner.block("fixed").cov[0, 0] < before
    assert np.isfinite(learner.block("fixed").mean[0]).all()


def test_all_labels_equal_and_nothing_known_has_a_mode() -> None:
    learner = GLMix(Schema(label="y"), Fixed(), [Random("user")])
    done = learner.update({"user": [1] * 500, "y": [1] * 500})
    assert done.rows == 500
    assert 0.0 < learner.block("fixed").mean[0, 0] < 10.0


def test_offsets_are_made_of_the_other_blocks_as_they_are_now() -> None:
    """At the mode of the slice every block's own gradient vanishes with the others where they are."""
    data, learner = table(), model()
    learner.update(table(3))
    before = learner.fork()
    learner.update(data, **LIMIT)
    g = data["w"] * (learner.predict_proba(data) - data["y"])
    block, old = learner.block("user"), before.block("user")
    for entity in range(4):
        at, mine = code(learner, "user", entity), data["user"] == entity
        X = np.column_stack([np.ones(mine.sum()), data["a"][mine]])
        pull = precision(old, at) @ (block.mean[at] - old.mean[at])
        np.testing.assert_allclose(X.T @ g[mine] + pull, 0.0, atol=1e-8)


def test_an_entity_without_new_rows_is_untouched() -> None:
    learner = model()
    learner.update(table())
    absent = code(learner, "user", 3)
    before = [x[absent].tobytes() for b in [learner.block("user")] for x in (b.mean, b.cov, b.last, b.counts)]
    data = table(1, users=3)
    data["w"][data["user"] == 2] = 0.0
    weightless = [
        x[code(learner, "user", 2)].tobytes() for x in (learner.block("user").mean, learner.block("user").cov)
    ]
    learner.update(data, past_weight=0.5)
    block = learner.block("user")
    assert [x[absent].tobytes() for x in (block.mean, block.cov, block.last, block.counts)] == before
    assert [x[code(learner, "user", 2)].tobytes() for x in (block.mean, block.cov)] == weightless


def test_an_empty_slice_is_nothing() -> None:
    learner = model()
    learner.update(table())
    before = state(learner)
    done = learner.update(take(table(), slice(0, 0)), past_weight=0.1)
    assert (done.rows, done.moved, done.converged) == (0, (), False)
    assert state(learner) == before


@pytest.mark.parametrize("missing", [0.0, np.nan])
@pytest.mark.parametrize("posterior", KINDS)
def test_a_variance_that_is_not_stored_is_the_prior_s(missing: float, posterior: str) -> None:
    def spoilt(block: Block) -> None:
        if posterior == "lowrank":
            kept = LowRank(np.array([4.0, 2.0, 8.0]), np.ones((3, 1)))
            row = pack(kept, block.kmax)
            head = 1 + block.kmax * (block.kmax + 1)
            row[head + (block.kmax + 1) + block.kmax] = missing
            block.cov[0] = row
        else:
            V = np.array([[0.25, 0.1, 0.05], [0.1, missing, 0.02], [0.05, 0.02, 0.125]])
            block.cov[0] = packed(V) if posterior == "full" else np.diagonal(V)

    learner = one_block(posterior)
    data = table(users=1)
    learner.design(data, learn=True)
    block = learner.block("user")
    spoilt(block)
    Past().weigh(block, np.array([0]))
    P = _precision_of(block, 0)
    assert P[1, 1] == pytest.approx(2.0)
    assert np.abs(P[1, [0, 2]]).max() == 0.0
    spoilt(block)
    assert learner.update(data).rows == 60


@pytest.mark.parametrize("wrong", [-1.0, np.inf])
def test_a_variance_that_cannot_be_is_refused_by_the_block_s_name(wrong: float) -> None:
    learner = model()
    learner.update(table())
    learner.block("item").cov[0, 0] = wrong
    before = state(learner)
    with pytest.raises(StateError, match="'item' holds a negative or infinite variance"):
        learner.update(table(1), past_weight=0.5)
    assert state(learner) == before


@pytest.mark.parametrize("name", ["fixed", "user"])
def test_every_block_must_carry_a_precision(name: str) -> None:
    learner = model()
    learner.update(table())
    learner.block(name).cov[:] = np.nan
    before = state(learner)
    with pytest.raises(StateError, match=f"'{name}' carries no precision"):
        learner.update(table(1))
    assert state(learner) == before
    assert learner.update(table(1), locked=[name]).rows == 60


def test_a_solve_that_fails_gives_its_rows_back_and_changes_nothing_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An offset that no finite step can meet: the rows are named, and the other rows are learned without them."""
    learner, clean = one_block(link="log"), one_block(link="log")
    data = table(link="log")
    bad = data["user"] == 2
    data["o"] = np.where(bad, 800.0, data["o"])
    done = learner.update(data)
    assert done.refused.tolist() == np.flatnonzero(bad).tolist()
    clean.design(data, learn=True)
    clean.update(take(data, ~bad))
    close(learner, clean, 1e-9)
    monkeypatch.setattr(_minibatch_step, "MAX_ATTEMPTS", 1)
    before = state(learner)
    assert len(learner.update(data).refused) == 60
    assert state(learner) == before


# -- the verb --------------------------------------------------------------------------------------------------------


def test_cycles_stop_when_the_scores_stand_still() -> None:
    done = model().update(table(), cycles=50, tolerance=1e-4)
    assert done.converged
    assert 2 < len(done.moved) < 50
    assert done.moved[-1] <= 1e-4 < done.moved[-2]
    short = model().update(table(), cycles=2, tolerance=1e-4)
    assert (len(short.moved), short.converged) == (2, False)


def test_locked_blocks_count_with_their_means_and_stay() -> None:
    learner = model()
    learner.update(table())
    before = learner.block("fixed").mean[0].tobytes(), learner.block("fixed").cov[0].tobytes()
    learner.update(table(1), locked=["fixed"], past_weight=0.5)
    assert (learner.block("fixed").mean[0].tobytes(), learner.block("fixed").cov[0].tobytes()) == before


def test_time_forgets_besides() -> None:
    forgetting = Forgetting(half_life=10.0, form="stabilised")
    schema = Schema(label="y", time="t")
    learner = GLMix(schema, Fixed(intercept=False), [Random("user", forgetting=forgetting, prior=Prior(1.0))])
    learner.update({"user": [1, 1], "y": [1, 0], "t": [0.0, 0.0]})
    H = precision(learner.block("user"), 0)[0, 0]
    learner.update({"user": [1], "y": [1], "t": [10.0]}, past_weight=0.5)
    p = learner.predict_proba({"user": [1], "t": [10.0]})[0]
    assert precision(learner.block("user"), 0)[0, 0] == pytest.approx(1.0 + 0.25 * (H - 1.0) + p * (1 - p))


def test_the_same_bits_for_any_number_of_threads() -> None:
    one, four = model(), model(threads=4)
    for learner in (one, four):
        learner.update(table())
        learner.update(table(1), past_weight=0.7)
    assert state(one) == state(four)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"past_weight": "most"}, "past_weight is a number, a mapping by effect or 'auto', got 'most'"),
        ({"past_weight": -0.1}, "past_weight of 'fixed' must be >= 0"),
        ({"past_weight": {"users": 1.0}}, "past_weight names 'users'"),
        ({"past_weight": 0.0, "stabilise": False}, "leaves no prior at all"),
        ({"cycles": 0}, r"update\(cycles=...\) must be at least 1"),
        ({"tolerance": -1.0}, r"update\(tolerance=...\) must be >= 0"),
        ({"locked": ["users"]}, "no effect is named 'users'"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        model().update(table(), **options)


def test_a_bad_row_is_refused_by_name_or_put_aside() -> None:
    data = table()
    data["y"] = np.where(np.arange(60) == 4, 2, data["y"])
    learner = model()
    with pytest.raises(DataError, match="y"):
        learner.update(data)
    done = learner.update(data, divert=True)
    assert (done.rows, done.rejects.rows.tolist()) == (59, [4])
