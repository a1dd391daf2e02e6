"""Ticks that are learned or refused as a whole, rows that are refused by name (specification, section 8, guards)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nearline import ConfigError, Fixed, Forgetting, GLMix, Loadings, Numeric, Random, Schema
from nearline.features import Design
from nearline.glmix import LearnedEvents, Safety, _safety
from nearline.glmix._links import by_name
from nearline.glmix._try_learn import steps

LINKS = ("logit", "identity", "log")
SCHEMA = Schema(label="y", time="t", weight="w", offset="o", columns={"x": Numeric(0, 1)})
Table = dict[str, Any]


def table(seed: int, n: int, link: str = "logit", rate: float = 0.3, users: int = 6) -> Table:
    rng = np.random.default_rng(seed)
    label = {"logit": rng.random(n) < rate, "identity": rng.normal(size=n), "log": rng.poisson(2.0, n)}[link]
    return {
        "user": rng.integers(0, users, n), "item": rng.integers(0, 4, n), "x": rng.normal(size=n), "w": np.ones(n),
        "y": label.astype(float), "o": np.zeros(n), "t": 1e9 + 1e6 * seed + np.arange(n),
    }  # fmt: skip


def model(link: str = "logit", mode: Any = "event", dtype: Any = "float64", kind: Any = "full") -> GLMix:
    own: dict[str, Any] = {"posterior": kind, "forgetting": Forgetting(half_life=1e6)}
    random = [Random("user", on=["x"], **own), Random("item", on=["x"], **own)]
    if kind == "full":
        random.append(Loadings("item", of="user"))  # type: ignore[arg-type]
    return GLMix(SCHEMA, Fixed("x", **own), random, link=link, mode=mode, dtype=dtype, refresh_every=150)


def bits(m: GLMix) -> list[bytes]:
    """Every bit of every known posterior, the priors and the count that drives their refresh."""
    arrays = [a[: b.entities] for b in m.blocks for a in (b.mean, b.cov, b.last, b.counts)]
    return [a.tobytes() for a in arrays] + [repr((m.events_learned, [b.belief for b in m.blocks])).encode()]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("mode", ["event", "minibatch"])
@pytest.mark.parametrize("link", LINKS)
def test_a_sound_tick_is_learned_as_partial_fit_does(link: str, mode: str, dtype: str) -> None:
    tried, plain = model(link, mode, dtype), model(link, mode, dtype)
    for seed in range(3):
        data = table(seed, 40, link)
        verdicts, learned = tried.try_learn(data), plain.partial_fit(data)
        assert verdicts.accepted, verdicts.rejected
        assert verdicts.learned.all()
        assert bits(tried) == bits(plain)
        if mode == "event":
            np.testing.assert_array_equal(verdicts.margin, learned.margin)
            np.testing.assert_array_equal(verdicts.events.variance, learned.events.variance)


@given(
    seed=st.integers(1, 500), kind=st.sampled_from(["full", "diagonal", "lowrank"]),
    mode=st.sampled_from(["event", "minibatch"]), dtype=st.sampled_from(["float64", "float32"]), new=st.booleans(),
)  # fmt: skip
@settings(max_examples=15, deadline=None)
def test_after_a_rejected_tick_the_model_is_the_same_to_the_bit(
    seed: int, kind: str, mode: str, dtype: str, new: bool
) -> None:
    m = model("logit", mode, dtype, kind)
    assert m.try_learn(table(0, 600, rate=0.05)).accepted
    poisoned = table(seed, 60)
    poisoned |= {"y": np.ones(60), "t": table(0, 60)["t"] + 600}
    if new:
        poisoned["user"] = poisoned["user"] + 3
    # Vocabulary grows either way: what it adds stands at the prior.
    design, _ = m.design(poisoned, learn=True)
    before, scores = bits(m), m.decision_function(table(99, 30))
    verdicts = m.try_learn(design)
    assert not verdicts.accepted
    assert "model expects" in verdicts.rejected or "its steps" in verdicts.rejected
    assert not verdicts.learned.any()
    assert verdicts.status.min() > 1
    assert bits(m) == before
    np.testing.assert_array_equal(m.decision_function(table(99, 30)), scores)


FAULTS: dict[str, tuple[str, float, str]] = {
    "feature": ("values", np.inf, "a feature is not finite"),
    "label": ("label", 0.5, "the label does not suit the link"),
    "no label": ("label", np.nan, "the label does not suit the link"),
    "negative weight": ("weight", -1.0, "the weight is no weight"),
    "endless weight": ("weight", np.inf, "the weight is no weight"),
    "offset": ("offset", np.nan, "the offset or time is not finite"),
    "time": ("time", np.nan, "the offset or time is not finite"),
    "margin": ("offset", 1e3, "the score is beyond the limit"),
    "no weight": ("weight", 0.0, "no weight"),
}


@pytest.mark.parametrize("mode", ["event", "minibatch"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_row_is_refused_by_name_and_the_others_are_learned(fault: str, mode: str) -> None:
    name, value, reason = FAULTS[fault]
    m, without = model(mode=mode), model(mode=mode)
    for other in (m, without):
        assert other.try_learn(table(0, 30)).accepted
    good, _ = m.design(table(1, 20), learn=True)
    without.design(table(1, 20), learn=True)
    column = getattr(good, name).copy()
    column[good.indptr[7] + 1 if name == "values" else 7] = value
    verdicts = m.try_learn(replace(good, **{name: column}))
    assert verdicts.accepted
    assert verdicts.reason(7) == reason
    assert verdicts.learned.sum() == 19
    weight = good.weight.copy()
    weight[7] = 0.0
    without.partial_fit(replace(good, weight=weight))
    assert bits(m) == bits(without)


@pytest.mark.parametrize("mode", ["event", "minibatch"])
def test_a_step_too_long_is_refused_and_not_those_it_led_astray(mode: str) -> None:
    m, without = model("identity", mode), model("identity", mode)
    data = table(0, 40, "identity")
    data["y"][3] = 1e4
    verdicts = m.try_learn(data)
    assert verdicts.accepted, verdicts.rejected
    assert verdicts.reason(3) == "the step is too long"
    clean = table(0, 40, "identity")
    clean["w"] = np.where(verdicts.learned, 1.0, 0.0)
    assert verdicts.learned.sum() == 39
    without.partial_fit(clean)
    assert bits(m) == bits(without)
    assert np.abs(m.decision_function(data)).max() < 10


def test_steps_are_measured_in_posterior_deviations() -> None:
    m = GLMix(SCHEMA, Fixed("x"), link="identity")
    m.partial_fit(table(0, 10, "identity"))
    block, one = m.blocks[0], table(1, 1, "identity")
    mean, cov = block.mean[:1].astype(float), block.cov[:1].astype(float)
    events = m.partial_fit(one).events
    far = steps(block, block.mean[:1] - mean, cov)[0]
    assert not _safety.inspect_steps(Safety(step=far * 1.0001), "identity", events)[0]
    assert _safety.inspect_steps(Safety(step=far * 0.9999), "identity", events)[0]


def test_a_tick_of_mostly_bad_rows_is_rejected() -> None:
    m = model()
    assert m.try_learn(table(0, 30)).accepted
    design, _ = m.design(table(1, 40), learn=True)
    before = bits(m)
    verdicts = m.try_learn(replace(design, offset=np.where(np.arange(40) < 25, np.nan, 0.0)))
    assert verdicts.rejected == "25 of 40 rows were refused"
    assert bits(m) == before


@pytest.mark.parametrize("link", LINKS)
def test_overflow_and_separation_end_in_a_named_status(link: str) -> None:
    """Acceptance test 16: a finite result or a named status, and no change of state on failure."""
    m, n = model(link), 30
    data = table(2, n, link)
    data |= {"y": np.ones(n), "o": np.where(np.arange(n) % 2, 800.0, -800.0), "w": np.full(n, 1e6)}
    verdicts = m.try_learn(data, Safety(margin=1e300, step=1e300, refused=2.0, alpha=1e-300, excess=1e300, shift=1e300))
    assert all(verdicts.reason(i) for i in np.flatnonzero(~verdicts.learned))
    for block in m.blocks:
        assert np.isfinite(block.mean[: block.entities]).all()
        assert np.isfinite(block.cov[: block.entities]).all()
    separated = table(3, 60, link) | {"y": (table(3, 60)["x"] > 0).astype(float)}
    single = table(4, 60, link) | {"y": np.zeros(60)}
    zero = table(5, 60, link) | {"x": np.zeros(60)}
    for tick in (separated, single, zero):
        model(link).try_learn(tick)
        assert np.isfinite(m.decision_function(tick)).all()


@pytest.mark.parametrize("link", LINKS)
def test_a_right_model_is_seldom_surprised(link: str) -> None:
    """P(E ≥ 1/α) ≤ α under the model's own predictions (Ville)."""
    rng, alpha, alarms, ticks = np.random.default_rng(0), 0.05, 0, 2000
    for _ in range(ticks):
        n = int(rng.integers(1, 60))
        z, s = rng.normal(-1.0, 1.0, n), rng.exponential(0.3, n)
        eta = z + np.sqrt(s) * rng.normal(size=n)
        if link == "logit":
            p = by_name("logit").mean(z / np.sqrt(1 + np.pi * s / 8))
            y = (rng.random(n) < p).astype(float)
        else:
            y = eta + rng.normal(size=n) if link == "identity" else rng.poisson(np.exp(eta)).astype(float)
        events = LearnedEvents(y, np.ones(n), np.zeros(n), z, s, np.ones(n))
        alarms += _safety.surprise_of(by_name(link), events).log_evidence > -np.log(alpha)
    assert alarms <= alpha * ticks + 3 * np.sqrt(alpha * ticks)


@pytest.mark.parametrize(("link", "shifted"), [("logit", 1.0), ("identity", 3.0), ("log", 12.0)])
def test_poison_is_noticed_on_every_link(link: str, shifted: float) -> None:
    m, poisoned = model(link), table(9, 400, link) | {"y": np.full(400, shifted), "t": table(0, 400)["t"] + 600}
    assert m.try_learn(table(0, 600, link, rate=0.1)).accepted
    verdicts = m.try_learn(poisoned, Safety(step=100.0))
    assert "model expects" in verdicts.rejected
    assert verdicts.surprise.shift > 0.5


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_rows_that_are_sound_pass_inspection(data: st.DataObject) -> None:
    n = data.draw(st.integers(0, 8))
    values = np.array(data.draw(st.lists(st.floats(), min_size=2 * n, max_size=2 * n)), dtype=float)
    label = np.array(data.draw(st.lists(st.sampled_from([0.0, 1.0, 2.0, np.nan]), min_size=n, max_size=n)), dtype=float)
    one = np.ones(n)
    design = Design(2 * np.arange(n + 1), np.zeros(2 * n, np.int32), values, {}, label, one, 0 * one, 0 * one)
    status = _safety.inspect_rows(design, "logit")
    finite = np.isfinite(values.reshape(n, 2)).all(axis=1)
    np.testing.assert_array_equal(status == 0, finite & np.isin(label, (0.0, 1.0)))
    assert (status[~finite] == _safety.FEATURE).all()


def test_limits_are_checked() -> None:
    for name in ("step", "margin", "alpha", "excess", "shift", "refused"):
        with pytest.raises(ConfigError, match=name):
            Safety(**{name: -1.0})
    with pytest.raises(ConfigError, match="below 1"):
        Safety(alpha=2.0)


def test_margins_have_no_limit_on_the_identity_link() -> None:
    far: NDArray[np.float64] = np.array([1e5, np.nan])
    assert _safety.inspect_margins(Safety(), "identity", far).tolist() == [False, True]
    assert _safety.inspect_margins(Safety(), "logit", far).tolist() == [True, True]
