"""Edge cases of an update: specification, section 4.3."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.glmix.update_parts import (
    KINDS,
    LIMIT,
    close,
    code,
    model,
    one_block,
    precision,
    precision_of,
    state,
    table,
    take,
)

from nearline import Fixed, GLMix, Prior, Random, Schema, StateError
from nearline.glmix import _minibatch_step
from nearline.glmix._lowrank import LowRank, pack
from nearline.glmix._packed import pack as packed
from nearline.glmix._past import Past
from nearline.glmix._state import Block


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
    P = precision_of(block, 0)
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
