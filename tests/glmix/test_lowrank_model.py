"""Low-rank posteriors through the whole model are exact while nothing is compressed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.glmix.lowrank_model_parts import FORGETTING, SCHEMA, model, table

from nearline import Fixed, Forgetting, GLMix
from nearline.glmix._codes import FULL, LOWRANK

LINKS = ("logit", "identity", "log")


def both(forgetting: Forgetting | None = None, **options: Any) -> tuple[GLMix, GLMix]:
    return model("full", forgetting=forgetting, **options), model("lowrank", forgetting=forgetting, **options)


def assert_alike(full: GLMix, wide: GLMix, data: pa.Table, tolerance: float) -> None:
    """Margins, their variances, coefficients and explanations agree."""
    assert {block.kind for block in full.blocks} == {FULL}
    assert {block.kind for block in wide.blocks} == {LOWRANK}
    for a, b in zip(full._score(data, variances=True), wide._score(data, variances=True)):
        np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance)
    for effect, entity in (("fixed", None), ("user", 1)):
        for p, q in zip(full.coefficients(effect, entity), wide.coefficients(effect, entity)):
            assert (q.mean, q.sd) == pytest.approx((p.mean, p.sd), rel=tolerance, abs=tolerance)
    for mine, theirs in zip(full.explain(data.slice(0, 3)), wide.explain(data.slice(0, 3))):
        terms = {(c.effect, c.feature): (c.contribution, c.sd) for c in theirs}
        for c in mine:
            assert terms[c.effect, c.feature] == pytest.approx((c.contribution, c.sd), rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("form", FORGETTING)
@pytest.mark.parametrize("mode", ["event", "minibatch"])
def test_with_room_for_every_event_it_is_the_full_posterior(mode: Any, form: str) -> None:
    """Growth in the middle of the stream and every form of forgetting included; `sample` below, by its moments."""
    full, wide = both(FORGETTING[form], mode=mode)
    for seed, levels in enumerate((10, 20, 30)):
        data = table(seed, levels=levels)
        a, b = full.partial_fit(data), wide.partial_fit(data)
        np.testing.assert_allclose(b.margin, a.margin, atol=1e-9)
    # The last levels, and user 3, were never seen; the rows come an hour to days later.
    assert_alike(full, wide, table(30, n=20, levels=40, users=4), 1e-8)


@pytest.mark.parametrize("link", LINKS)
def test_weight_k_equals_k_copies_in_a_minibatch(link: str) -> None:
    """Section 4.3, as long as nothing is compressed."""
    data, weight = table(1, link=link).to_pydict(), np.random.default_rng(3).integers(1, 4, 60)
    once, copies = model("lowrank", link=link, mode="minibatch"), model("lowrank", link=link, mode="minibatch")
    once.partial_fit({**data, "w": weight.astype(float)})
    copies.partial_fit(pa.table({**data, "w": np.ones(60)}).take(np.repeat(np.arange(60), weight)))
    later = table(2, link=link)
    np.testing.assert_allclose(once._score(later, variances=True), copies._score(later, variances=True), rtol=1e-7)


@pytest.mark.parametrize("link", LINKS)
def test_every_link(link: str) -> None:
    full, wide = both(link=link)
    for mode in ("event", "minibatch"):
        for each in (full, wide):
            each.partial_fit(table(1, link=link), mode=mode)
    assert_alike(full, wide, table(9, n=20), 1e-7)


def test_a_fit_of_history_reaches_the_full_posterior() -> None:
    full, wide = both(Forgetting(half_life=86_400.0))
    data = table(1, n=200)
    a, b = (each.fit(data, cycles=400, tolerance=1e-13) for each in (full, wide))
    assert b.unsolved == {"fixed": 0, "user": 0}
    assert b.objective[-1] == pytest.approx(a.objective[-1], rel=1e-9)
    assert b.log_evidence == pytest.approx(a.log_evidence, rel=1e-6)
    assert_alike(full, wide, table(9, n=20), 1e-5)


def test_a_fit_in_pieces_stays_exact_for_the_identity_link() -> None:
    """600 rows of one entity are learned as three minibatches, which for Gaussian rows is the same posterior."""
    data = table(1, n=600, users=1, link="identity")
    # An intercept of variance 1e6 would cost some of the digits compared here.
    fixed = (
        Fixed("x", "tags", posterior="full", free_intercept=False),
        Fixed("x", "tags", posterior="lowrank", rank=700, free_intercept=False),
    )
    full, wide = (GLMix(SCHEMA, effect, link="identity") for effect in fixed)
    for each in (full, wide):
        each.fit(data)
    z, s = full._score(data, variances=True)
    np.testing.assert_allclose(wide._score(data, variances=True), [z, s], rtol=1e-7, atol=1e-9)


def test_refreshed_priors_are_the_full_posteriors_variances() -> None:
    full, wide = both()
    for each in (full, wide):
        each.partial_fit(table(1))
        each.refresh_priors(least=1)
    a, b = full.block("user").belief, wide.block("user").belief
    assert a.covariance is not None
    assert b.covariance is not None
    assert a.mean is not None
    assert b.mean is not None
    np.testing.assert_allclose(b.mean, a.mean, atol=1e-9)
    np.testing.assert_allclose(np.diagonal(b.covariance), np.diagonal(a.covariance), rtol=1e-9)
    assert np.isfinite(wide.partial_fit(table(2)).margin).all()
