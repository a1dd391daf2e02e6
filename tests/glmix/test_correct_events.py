"""Events to take back: what the posterior does not hold is refused, and columns come back as events."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.glmix.correct_parts import FORGETTING, LINKS, SCHEMA, model, rows, single, table

from nearline import DataError, Fixed, Forgetting, GLMix, Random
from nearline.glmix import LearnedEvents, _learned, _oracle, _undo
from nearline.glmix._correct import REASONS
from nearline.glmix._links import by_name
from nearline.glmix._packed import unpack as dense


@pytest.mark.parametrize("kind", ["full", "diagonal", "lowrank"])
def test_what_the_posterior_does_not_hold_is_refused_and_nothing_moves(kind: str) -> None:
    m = model("logit", kind)
    data = table(7, 30, "logit")
    learned, one = m.partial_fit(data).events, np.array([3])
    events = learned.take(one)
    heavy = LearnedEvents(
        events.label, events.weight * 1e6, events.time, events.margin, 1e-9 + 0 * events.variance, events.discount
    )
    state = [block.cov.tobytes() + block.mean.tobytes() for block in m.blocks]
    found = m.retract(rows(data, one), heavy)
    assert found.reason(0) == "would not stay positive definite"
    bad = LearnedEvents(
        np.array([np.nan]), *(getattr(events, f) for f in ("weight", "time", "margin", "variance", "discount"))
    )
    assert m.retract(rows(data, one), bad).reason(0) == "not finite"
    assert [block.cov.tobytes() + block.mean.tobytes() for block in m.blocks] == state


def test_retraction_never_leaves_less_than_the_prior() -> None:
    # A stream that forgot the event by walking: taking it back may at most restore the prior along its design.
    m = GLMix(SCHEMA, Fixed(intercept=False), [Random("user", on=["x"], forgetting=Forgetting(walk_per_event=0.05))])
    data = table(8, 60, "logit") | {"user": np.zeros(60, int)}
    learned = m.partial_fit(data).events
    for _ in range(4):
        m.retract(data, learned)
    cov, prior = dense(m.blocks[1].cov[0]), np.diag(m.blocks[1].belief.variance0(m.blocks[1].columns))
    assert np.linalg.eigvalsh(cov)[0] > 0
    assert (np.diag(cov) <= np.diag(prior) * (1 + 1e-5)).all()
    assert np.isfinite(m.decision_function(data)).all()


def test_forgetting_per_update_has_no_age() -> None:
    m = single("logit", Forgetting(form="per_update", delta=0.9))
    data = table(9, 10, "logit")
    learned = m.partial_fit(data).events
    found = m.retract(data, learned)
    assert found.applied == 0
    assert found.reason(0) == REASONS[4]


def test_events_and_rows_must_agree() -> None:
    m = single("logit")
    data = table(10, 4, "logit")
    learned = m.partial_fit(data).events
    with pytest.raises(DataError, match="3 learned events for 4 rows"):
        m.retract(data, learned.take(slice(0, 3)))
    with pytest.raises(DataError, match="labels do not suit"):
        m.correct(data, np.full(4, 0.5), learned)
    with pytest.raises(DataError, match="2 labels for 4 rows"):
        m.correct(data, np.ones(2), learned)
    with pytest.raises(DataError, match="variance"):
        LearnedEvents.of(m.design(data, learn=True)[0], {"margin": learned.margin})


def test_events_come_back_from_their_columns() -> None:
    m = single("logit", FORGETTING["stabilised"])
    data = table(11, 20, "logit")
    learned = m.partial_fit(data).events
    again = LearnedEvents.of(m.design(data, learn=True)[0], learned.columns())
    for name in ("label", "weight", "time", "margin", "variance", "discount"):
        np.testing.assert_array_equal(getattr(again, name), getattr(learned, name))


@given(
    link=st.sampled_from(LINKS), y=st.integers(0, 40), sw=st.floats(0, 1e6), z=st.floats(-300, 300),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_the_mode_is_the_root(link: str, y: int, sw: float, z: float) -> None:
    loss, label = by_name(link), float(min(y, 1) if link == "logit" else y)
    eta, g, D = _learned.mode(loss, np.array([label]), np.array([sw]), np.array([z]))
    expected = _oracle.solve(loss, label, sw, z)
    np.testing.assert_allclose(eta[0], expected, atol=1e-9, rtol=1e-12)
    assert np.isfinite([g[0], D[0]]).all()


@given(seed=st.integers(0, 10_000), R=st.integers(1, 6), h=st.floats(0.01, 50))
@settings(max_examples=100, deadline=None)
def test_variance_shares_are_those_before_the_event(seed: int, R: int, h: float) -> None:
    s = np.random.default_rng(seed).exponential(size=R)
    c = h / (1 + h * s.sum())
    found = _undo.variance_shares(c, float(s.sum()), s * (1 - c * s), np.full(R, np.nan))
    np.testing.assert_allclose(found, s, atol=1e-7 * s.sum())
