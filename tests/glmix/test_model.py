"""GLMix as a whole: fixture F of section 9, edge cases of section 4.3, defects of section 10, designs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearline import ConfigError, DataError, Fixed, Forgetting, GLMix, Numeric, Prior, Random, Schema
from nearline.glmix import _state
from nearline.glmix._codes import DIAGONAL, FULL, LOWRANK
from nearline.glmix._packed import unpack
from nearline.glmix._replay import seconds, stops

NO_FIXED = Fixed(intercept=False)
F = ("x0", "x1", "x2")
SCHEMA_F = Schema(label="y", weight="w", offset="o", time="t", columns={name: Numeric(0, 1) for name in F})
THETA0 = {"x0": 0.25, "x1": 0.75, "x2": -1.5}
UPPER = np.triu_indices(3)


def fixture(y: Any = (0, 1), w: Any = (1.0, 1.0)) -> dict[str, Any]:
    rows = {"x0": [1.0, 0.5], "x1": [0.5, 0.0], "x2": [3.0, 1.0]}
    return rows | {"user": [7, 7], "y": y, "w": w, "o": [-0.25, 1.0], "t": [1.0, 1.0]}


def one_user(prior: Prior, link: str = "logit", **options: Any) -> GLMix:
    user = Random("user", on=F, intercept=False, prior=prior, posterior="full", **options)
    return GLMix(SCHEMA_F, NO_FIXED, [user], link=link, mode="minibatch")


def solved(model: GLMix) -> tuple[np.ndarray, np.ndarray]:
    """θ and the upper triangle of H, in the order of section 9."""
    block = model.block("user")
    return block.mean[0], np.linalg.inv(unpack(block.cov[0]))[UPPER]


# -- fixture F (section 9) --

CASES: dict[str, tuple[str, Any, Any, list[float], list[float]]] = {
    "logistic": (
        "logit", (0, 1), (1.0, 1.0),
        [0.44269839, 0.72487986, -1.16484348],
        [1.11016632, 0.02385809, 0.26804883, 1.01192905, 0.07157428, 1.67924622],
    ),
    "weighted (defect 2)": (
        "logit", (0, 1), (2.0, 3.0),
        [0.64026977, 0.64103661, -0.93738722],
        [1.37497799, 0.09709037, 0.94413672, 1.04854518, 0.2912711, 3.47081565],
    ),
    "linear (defects 4, 5)": (
        "identity", (3.5, -1.0), (1.0, 1.0),
        [0.44019139, 1.49043062, 0.36124402],
        [2.25, 0.5, 3.5, 1.25, 1.5, 11.0],
    ),
    "Poisson": (
        "log", (2, 0), (1.0, 1.0),
        [0.26620555, 1.33754922, -0.29249046],
        [2.40434801, 0.41245078, 3.63359758, 1.20622539, 1.23735235, 10.74189985],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("link", "y", "w", "theta", "H"), CASES.values(), ids=CASES.keys())
def test_fixture_f(link: str, y: Any, w: Any, theta: list[float], H: list[float]) -> None:
    """Section 9, δ = 1; H0 = I and θ0 come as the prior."""
    model = one_user(Prior(1.0, THETA0), link)
    model.partial_fit(fixture(y, w))
    found = solved(model)
    np.testing.assert_allclose(found[0], theta, atol=1e-8)
    np.testing.assert_allclose(found[1], H, atol=1e-7)
    batch = one_user(Prior(1.0, THETA0), link)
    batch.fit(fixture(y, w))
    np.testing.assert_allclose(solved(batch)[0], theta, atol=1e-8)


@pytest.mark.parametrize(
    ("lam", "theta", "H"),
    [
        (
            1.0,
            [0.35098661, 0.56318975, -0.97164728],
            [1.13005573, 0.03410026, 0.32831198, 1.01705013, 0.10230079, 1.86122555],
        ),
        (
            10.0,
            [0.07390279, 0.18286651, -0.48646141],
            [3.0029843, 0.07249501, 0.55095861, 2.8362475, 0.21748502, 4.33688727],
        ),
    ],
)
def test_fixture_f_with_the_published_forgetting(lam: float, theta: list[float], H: list[float]) -> None:
    """Section 9, δ = 0.8 over a base prior λ I: the last state is folded into (m, P) before the solve."""
    model = one_user(Prior(1 / lam), forgetting=Forgetting(form="per_update", delta=0.8))
    model.design(fixture(), learn=True)
    block = model.block("user")
    block.mean[0], block.cov[0], block.last[0], block.counts[0] = list(THETA0.values()), [1, 0, 1, 0, 0, 1], 0.0, 1
    model.partial_fit(fixture())
    found = solved(model)
    np.testing.assert_allclose(found[0], theta, atol=1e-8)
    np.testing.assert_allclose(found[1], H, atol=1e-7)


def test_fixture_f_with_the_past_weighted() -> None:
    """Section 9, row B: ω = 0.5, v = (0.5, none, 0.25) and λ2 = 2 give P = diag(1, 1, 2)."""
    model = one_user(Prior({"x0": 1.0, "x1": 1.0, "x2": 0.5}, {"x0": 0.25, "x1": 0.0, "x2": -1.5}))
    model.partial_fit(fixture())
    theta, H = solved(model)
    np.testing.assert_allclose(theta, [0.47954918, -0.01295172, -1.28340254], atol=1e-8)
    np.testing.assert_allclose(H, [1.08770273, 0.01261623, 0.20063792, 1.00630812, 0.03784869, 2.47697322], atol=1e-7)


def test_labels_of_minus_one_are_the_negative_class() -> None:
    zero, minus = one_user(Prior(1.0, THETA0)), one_user(Prior(1.0, THETA0))
    zero.partial_fit(fixture((0, 1)))
    minus.partial_fit(fixture((-1, 1)))
    np.testing.assert_array_equal(zero.block("user").mean[0], minus.block("user").mean[0])


def test_the_base_precision_is_in_a_linear_hessian() -> None:
    """Section 10, defect 4: λ I + XᵀX on F with λ = 10."""
    model = one_user(Prior(0.1), "identity")
    model.partial_fit(fixture((3.5, -1.0)))
    np.testing.assert_allclose(solved(model)[1], [11.25, 0.5, 3.5, 10.25, 1.5, 20.0], atol=1e-10)


@pytest.mark.parametrize("mode", ["event", "minibatch"])
@pytest.mark.parametrize("side", [1, -1])
def test_saturated_rows_are_learned(mode: Any, side: int) -> None:
    """Section 10, defect 3: an offset of 800 against the label has gradient 1, not inf."""
    model = GLMix(SCHEMA_F, Fixed(prior=Prior(1.0)), mode=mode)
    row = {"y": [int(side < 0)], "o": [800.0 * side], "w": [1.0], "t": [0.0]}
    assert model.partial_fit(row).refused.size == 0
    assert float(model.block("fixed").mean[0, 0]) == pytest.approx(-side, abs=1e-9)
    assert float(model.block("fixed").cov[0, 0]) == pytest.approx(1.0, abs=1e-9)
    assert float(model.predict_proba({"o": [800.0 * side]})[0]) == (side > 0)


# -- section 4.3, rows that no other file has --


@pytest.mark.parametrize("posterior", ["full", "diagonal"])
def test_a_feature_new_to_an_entity_is_at_its_base_prior(posterior: Any) -> None:
    prior = Prior({"g": 0.6, "*": 1.0}, {"g": 0.2})
    model = GLMix(Schema("y"), NO_FIXED, [Random("user", on=["g"], prior=prior, posterior=posterior)])
    model.partial_fit({"user": [1, 1, 1], "g": ["old", "old", None], "y": [1, 1, 0]})
    before = {c.name: c for c in model.coefficients("user", 1)}
    model.partial_fit({"user": [2], "g": ["new"], "y": [1]})
    after = {c.name: c for c in model.coefficients("user", 1)}
    assert {name: after[name] for name in before} == before
    assert (after["g=new"].mean, after["g=new"].sd) == (0.2, pytest.approx(np.sqrt(0.6)))
    other = {c.name: c for c in model.coefficients("user", 2)}
    assert (other["g=old"].mean, other["g=old"].sd) == (0.2, pytest.approx(np.sqrt(0.6)))
    assert other["g=new"].mean > 0.2


def test_a_new_entity_is_at_the_learned_prior() -> None:
    model = GLMix(Schema("y"), NO_FIXED, [Random("user", prior=Prior(1.0))])
    model.partial_fit({"user": np.arange(100) % 60, "y": np.ones(100, int)})
    belief = model.refresh_priors()["user"]
    assert belief.mean is not None
    assert float(belief.mean[0]) > 0.1
    assert model.decision_function({"user": [999]}).tolist() == belief.mean.tolist()
    model.design({"user": [999], "y": [1]}, learn=True)
    assert model.decision_function({"user": [999]}).tolist() == belief.mean.tolist()


def test_an_intercept_is_penalised_by_choice_offline_and_online_alike() -> None:
    """Section 4.3 and section 10, defect 10: the prior of "(intercept)" is each block's own."""
    rng = np.random.default_rng(0)
    data = {"y": 3.0 + rng.normal(size=50), "x0": rng.normal(size=50)}
    schema = Schema("y", columns={"x0": Numeric(0, 1)})
    means = {}
    for name, variance in {"free": 1e8, "penalised": 0.01}.items():
        fixed = Fixed("x0", prior=Prior({"(intercept)": variance, "*": 1e8}))
        for mode in ("event", "minibatch", "batch"):
            model = GLMix(schema, fixed, link="identity")
            model.fit(data) if mode == "batch" else model.partial_fit(data, mode=mode)  # type: ignore[arg-type]
            means[name, mode] = model.block("fixed").mean[0].copy()
    X = np.column_stack([np.ones(50), data["x0"]])
    for mode in ("event", "minibatch", "batch"):
        np.testing.assert_allclose(means["free", mode], np.linalg.lstsq(X, data["y"])[0], atol=1e-6)
        np.testing.assert_allclose(means["penalised", mode], means["penalised", "batch"], atol=1e-8)
        assert 0.5 < means["penalised", mode][0] < 2.0


@pytest.mark.parametrize("mode", ["event", "minibatch"])
def test_offsets_come_from_the_current_versions_of_the_other_blocks(mode: Any) -> None:
    """Section 4.3: a new fixed effect is at once what users deviate from; no logged score is trusted."""
    fixed, user = Fixed(prior=Prior(1e-12)), Random("user", prior=Prior(1.0))
    model = GLMix(SCHEMA_F, fixed, [user], link="identity", mode=mode)
    rows = {"user": [1], "y": [3.0], "w": [1.0], "o": [0.5], "t": [0.0]}
    model.design(rows, learn=True)
    model.block("fixed").mean[0] = 2.0
    model.partial_fit(rows)
    assert float(model.block("user").mean[0, 0]) == pytest.approx(0.25, abs=1e-9)
    model.block("fixed").mean[0] = 0.0
    model.partial_fit({**rows, "user": [2]})
    assert float(model.block("user").mean[1, 0]) == pytest.approx(1.25, abs=1e-9)


def test_an_intercept_is_not_a_column_of_the_table() -> None:
    """Section 4.3 and section 10, defect 11: an explicit intercept feature would count twice."""
    with pytest.raises(ConfigError, match=r"'\(intercept\)' is no column"):
        Random("user", on=["(intercept)"])


def test_a_score_of_a_missing_value_is_that_of_its_absence() -> None:
    model = GLMix(Schema("y", columns={"x0": Numeric(0, 1)}), Fixed("x0"))
    model.partial_fit({"x0": [1.0, -1.0], "y": [1, 0]})
    z = model.decision_function({"x0": [None, 0.0]})
    assert z[0] == z[1]
    # Once values are missing in what is learned, missing has a coefficient of its own.
    model.partial_fit({"x0": [None, None], "y": [1, 1]})
    assert model.decision_function({"x0": [None]})[0] > model.decision_function({"x0": [0.0]})[0]


# -- designs, tables, errors --

SIMPLE = Schema("y", weight="w", columns={"x0": Numeric(0, 1)})


def simple() -> GLMix:
    return GLMix(SIMPLE, Fixed("x0", "g"), [Random("user")])


def rows_of(n: int = 30, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "user": rng.integers(0, 4, n),
        "x0": rng.normal(size=n),
        "g": [f"g{k}" for k in rng.integers(0, 3, n)],
        "y": rng.integers(0, 2, n),
        "w": np.ones(n),
    }


def test_a_design_serves_for_its_table() -> None:
    by_table, by_design = simple(), simple()
    table = pa.table(rows_of())
    by_table.partial_fit(table)
    design, rejects = by_design.design(table, learn=True)
    assert rejects.rows.size == 0
    assert by_design.partial_fit(design).rows == 30
    np.testing.assert_array_equal(by_table.decision_function(table), by_design.decision_function(design))
    np.testing.assert_array_equal(by_table.predict_proba(table), by_design.predict_proba(design.take(0, 30)))
    by_table.partial_fit(table.slice(7, 5))
    by_design.partial_fit(design.take(7, 12))
    for one, two in zip(by_table.blocks, by_design.blocks):
        assert one.mean.tobytes() == two.mean.tobytes()


def test_a_design_that_does_not_belong_is_refused() -> None:
    """Kernels read by address: an entity or a slot that is not there must not reach them."""
    model, small = simple(), simple()
    design, _ = model.design(rows_of(), learn=True)
    small.design({name: column[:1] for name, column in rows_of().items()}, learn=True)
    for verb in (small.partial_fit, small.decision_function, small.fit, small.sample, small.explain):
        with pytest.raises(DataError, match="made by another model"):
            verb(design)
    with pytest.raises(DataError, match="made by another model"):
        GLMix(SIMPLE, Fixed("x0"), [Random("item")]).decision_function(design)
    scoring, _ = model.design({**rows_of(), "user": np.arange(30)}, learn=False)
    assert model.decision_function(scoring).shape == (30,)
    for learn in (model.partial_fit, model.fit, model.progressive, model.learn_priors):
        with pytest.raises(DataError, match="without a label or an entity"):
            learn(scoring)
    unlabelled, _ = model.design({name: column for name, column in rows_of().items() if name != "y"}, learn=False)
    with pytest.raises(DataError, match="without a label or an entity"):
        model.partial_fit(unlabelled)


def test_a_fork_that_fell_behind_its_vocabulary_learns_designs_of_it() -> None:
    model = simple()
    model.partial_fit(rows_of())
    fork = model.fork()
    design, _ = model.design({**rows_of(seed=1), "user": np.arange(30) + 50, "g": ["later"] * 30}, learn=True)
    assert np.isfinite(fork.decision_function(design)).all()
    assert fork.partial_fit(design).rows == 30
    model.partial_fit(design)
    for one, two in zip(fork.blocks, model.blocks):
        assert one.mean[: one.entities].tobytes() == two.mean[: two.entities].tobytes()


def test_bad_rows_raise_and_nothing_is_learned_or_are_put_aside() -> None:
    model, good = simple(), simple()
    rows = rows_of()
    rows["y"][4] = 3
    rows["x0"][9] = np.inf
    before = model.block("fixed").mean.tobytes()
    with pytest.raises(DataError, match="column 'y', row 4: label is 3"):
        model.partial_fit(rows)
    assert model.block("fixed").mean.tobytes() == before
    assert model.block("user").entities == 0
    learned = model.partial_fit(rows, divert=True)
    assert (learned.rows, learned.rejects.rows.tolist(), learned.margin.shape) == (28, [4, 9], (28,))
    kept = np.delete(np.arange(30), [4, 9])
    good.partial_fit({name: np.asarray(column)[kept] for name, column in rows.items()})
    np.testing.assert_array_equal(good.block("fixed").mean[0], model.block("fixed").mean[0])


def test_what_is_inside() -> None:
    model = simple()
    assert repr(model) == "GLMix(link='logit', fixed: 1 × 1, user: 0 × 1)"
    model.partial_fit(rows_of())
    assert repr(model) == "GLMix(link='logit', fixed: 1 × 5, user: 4 × 1)"
    assert model.nbytes() == 8 * (5 + 15) + 12 + 4 * (8 * 2 + 12)
    assert [block.name for block in model.blocks] == ["fixed", "user"]
    with pytest.raises(ConfigError, match="no effect is named 'item'; this model has"):
        model.block("item")


def test_reset_forgets_what_was_learned() -> None:
    model, fresh = simple(), simple()
    model.partial_fit(rows_of())
    model.reset()
    fresh.design(rows_of(), learn=True)
    assert model.events_learned == 0
    for one, two in zip(model.blocks, fresh.blocks):
        n = one.entities
        assert one.mean[:n].tobytes() == two.mean[:n].tobytes()
        assert one.cov[:n].tobytes() == two.cov[:n].tobytes()
        assert np.isnan(one.last[:n]).all()


def test_wide_effects_keep_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """`posterior="auto"`: full, then low rank, then variances alone; no score moves when the form changes."""
    monkeypatch.setattr(_state, "FULL_RANDOM", 20)
    monkeypatch.setattr(_state, "LOWRANK_MOST", 40)
    model = GLMix(Schema("y"), NO_FIXED, [Random("user", on=["g"])])
    few = {"user": [1] * 20, "g": [f"g{k % 9}" for k in range(20)], "y": [1] * 20}
    model.partial_fit(few)
    block, kinds = model.block("user"), []
    z, known = model.decision_function(few), model.coefficients("user", 1)
    for levels in (10, 20, 30):
        kinds.append((block.kind, block.d))
        model.partial_fit({"user": [2] * levels, "g": [f"h{levels}-{k}" for k in range(levels)], "y": [1] * levels})
        np.testing.assert_allclose(model.decision_function(few), z, rtol=1e-12)
        after = model.coefficients("user", 1)[:10]
        np.testing.assert_allclose([c.sd for c in after], [c.sd for c in known], rtol=1e-9)
    assert [*kinds, (block.kind, block.d)] == [(FULL, 10), (FULL, 20), (LOWRANK, 40), (DIAGONAL, 70)]
    assert block.cov_size == 70


# -- updates between predictions --


@given(n=st.integers(0, 50), every=st.integers(1, 60))
def test_stops_every_so_many_rows(n: int, every: int) -> None:
    ends = stops(np.arange(n, dtype=float), every).tolist()
    assert ends == [*range(every, n, every), *([n] if n else [])]


@given(st.lists(st.floats(0, 1e6), max_size=40).map(sorted), st.sampled_from(["1s", "10min", "6h", "0.5d"]))
def test_stops_at_the_end_of_every_interval(times: list[float], every: str) -> None:
    ends = stops(np.array(times), every).tolist()
    assert ends[-1:] == ([len(times)] if times else [])
    window = [t // seconds(every) for t in times]
    assert ends[:-1] == [k for k in range(1, len(times)) if window[k] != window[k - 1]]


@pytest.mark.parametrize("wrong", ["", "h", "10", "-1h", "0s", "infd", "1 week", "nan h"])
def test_durations_are_checked(wrong: str) -> None:
    with pytest.raises(ConfigError, match="duration"):
        seconds(wrong)
    with pytest.raises(ConfigError, match="must be at least 1 row"):
        stops(np.zeros(3), 0)


def test_between_two_updates_the_model_stands_still() -> None:
    schema = Schema("y", time="t", columns={"x0": Numeric(0, 1)})
    rows = {**rows_of(), "t": np.repeat([0.0, 3600.0, 7300.0], 10)}
    stale, hourly, live = (GLMix(schema, Fixed("x0"), [Random("user")]) for _ in range(3))
    first = stale.progressive(rows, every=30)
    assert not first.margin.any()
    second = hourly.progressive(rows, every="1h")
    third = live.progressive(rows)
    assert not second.margin[:10].any()
    assert second.margin[10:].all()
    assert third.margin[1:].all()
    # All have learned the same rows in the same order.
    for block, other in zip(stale.blocks, live.blocks):
        assert block.mean.tobytes() == other.mean.tobytes()
    empty = live.progressive({name: np.asarray(column)[:0] for name, column in rows.items()})
    assert (empty.margin.size, empty.variance.size, empty.refused.size) == (0, 0, 0)
