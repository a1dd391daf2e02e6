"""The update of every block from a slice: specification, sections 2 and 9; acceptance 3, 4, 7 and 17."""

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

from nearline import ConfigError, DataError, Fixed, Forgetting, GLMix, Prior, Random, Schema
from nearline.glmix._packed import pack as packed


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
        P, H = (precision_of(m.block("user"), at) for m in (before, learner))
        added = np.diag(np.diagonal(added)) if posterior == "diagonal" else added
        np.testing.assert_allclose(H, P + added, rtol=1e-8)


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
            np.testing.assert_allclose(precision_of(a, at), precision_of(b, at), rtol=1e-8, atol=1e-9)


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
