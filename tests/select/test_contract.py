"""Every rule keeps the same contract (specification, section 12)."""

from __future__ import annotations

import json
import pickle
import warnings

import numpy as np
import pytest

from nearline import ConfigError, DataError, NearlineWarning, select
from nearline.select import Scores, Selection, SelectorState

N, B = 60, 13
RULES = select.names()
FIXED = [name for name in RULES if select.rule_class(name).fixed]
VARIANTS = [(name, {}) for name in RULES] + [
    ("pps", {"by": "loss"}),
    ("pps", {"sampler": "pivotal"}),
    ("pps", {"sampler": "cube", "balance": ("loss", "label", "slice", "sketch")}),
    ("pps", {"order": "signed_error", "mix": "after_cap", "normalise": "hajek"}),
    ("pps", {"trust": "cells", "floor": 0.1}),
    ("pps", {"floor": 0.0}),
    ("pps", {"sampler": "poisson"}),
    ("min_k_sgd", {"k": 4}),
    ("label_balanced", {"weighted": False}),
    ("cube", {"balance": ("sketch", "label")}),
    ("importance", {"presample": 30, "paid": True}),
    ("gradmatch", {"per": "label"}),
    ("selective_backprop", {"beta": 2.0}),
    ("policy", {}),
]
KEYS = [name + "".join(f"-{v}" for v in parameters.values()) for name, parameters in VARIANTS]
every = pytest.mark.parametrize(("name", "parameters"), VARIANTS, ids=KEYS)
every_fixed = pytest.mark.parametrize("name", FIXED)


def window(n: int = N, seed: int = 0) -> Scores:
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < 0.3).astype(float)
    p = rng.uniform(0.02, 0.98, n)
    return Scores(
        loss=-np.log(np.where(label > 0, p, 1 - p)),
        error=p - label,
        score=np.abs(p - label),
        label=label,
        lag=np.zeros(n),
        age=rng.exponential(60.0, n),
        sketch=(p - label)[:, None] * rng.normal(size=(n, 4)),
        slice=rng.integers(3, size=n),
        irreducible=rng.exponential(0.2, n),
    )


def changed(scores: Scores, **columns: object) -> Scores:
    return Scores(**{**{k: v for k, v in vars(scores).items() if v is not None}, **columns})


def select_by(name: str, **parameters: object) -> select.Selector:
    if name != "policy":
        return select.by_name(name, **parameters)
    return select.Policy(select.by_name("pps"), task="binary", clip=0.995, max_age=300.0, max_version_lag=2.0)


def rule_class(name: str) -> type[select.Rule]:
    return select.rule_class("pps" if name == "policy" else name)


def choose(name: str, scores: Scores, budget: int | float = B, seed: int = 1, **parameters: object) -> Selection:
    return select_by(name, **parameters)(scores, budget, np.random.default_rng(seed), SelectorState())


@every
def test_indices_are_ascending_in_range_and_as_many_as_asked(name: str, parameters: dict[str, object]) -> None:
    chosen = choose(name, window(), **parameters)
    assert chosen.index.dtype == np.int64
    assert ((chosen.index >= 0) & (chosen.index < N)).all()
    assert (np.diff(chosen.index) >= 0).all()
    assert len(chosen.weight) == len(chosen.index) == chosen.report.b
    assert (chosen.weight >= 0).all()
    if rule_class(name).fixed and parameters.get("sampler") != "poisson":
        assert len(set(chosen.index.tolist())) == B


@every
def test_the_same_seed_gives_the_same_set_and_another_one_mostly_another(
    name: str, parameters: dict[str, object]
) -> None:
    first, again = choose(name, window(), **parameters), choose(name, window(), **parameters)
    np.testing.assert_array_equal(first.index, again.index)
    np.testing.assert_array_equal(first.weight, again.weight)


@every
def test_nothing_asked_nothing_chosen(name: str, parameters: dict[str, object]) -> None:
    chosen = choose(name, window(), 0, **parameters)
    assert len(chosen) == len(chosen.weight) == 0


@every
def test_an_empty_window_is_no_error_and_leaves_the_memory_alone(name: str, parameters: dict[str, object]) -> None:
    columns = ("loss", "error", "score", "label", "irreducible", "sketch", "age", "lag", "slice")
    state = SelectorState().put(tau=[2.0])
    nothing = Scores(**dict.fromkeys(columns, ()))
    chosen = select_by(name, **parameters)(nothing, 0.1, np.random.default_rng(0), state)
    assert len(chosen) == 0
    assert chosen.state == state


@every_fixed
def test_everything_asked_everything_chosen_with_weight_one(name: str) -> None:
    chosen = choose(name, window(), 1.0)
    np.testing.assert_array_equal(chosen.index, np.arange(N))
    np.testing.assert_allclose(chosen.weight, 1.0)


@every_fixed
@pytest.mark.parametrize("level", [0.0, 0.7])
def test_equal_rows_are_chosen_alike(name: str, level: float) -> None:
    n = 30
    same = Scores(
        **dict.fromkeys(("loss", "error", "score", "label", "irreducible"), np.full(n, level)),
        sketch=np.full((n, 4), level),
    )
    times = np.bincount(np.concatenate([choose(name, same, 6, seed).index for seed in range(400)]), minlength=n)
    share = 6 / n
    assert np.abs(times - 400 * share).max() < 5 * np.sqrt(400 * share * (1 - share))


@every
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_unknown_values_stand_at_the_mean_and_are_counted(name: str, parameters: dict[str, object], bad: float) -> None:
    scores = window()
    columns = {c: getattr(scores, c).copy() for c in ("loss", "error", "score", "label", "irreducible", "sketch")}
    for values in columns.values():
        values[::7] = bad
    chosen = choose(name, changed(scores, **columns), **parameters)
    assert np.isfinite(chosen.weight).all()
    if rule_class(name).fixed and parameters.get("sampler") != "poisson":
        assert len(set(chosen.index.tolist())) == B
    if rule_class(name).column is not None:
        assert chosen.report.unknown == len(range(0, N, 7))


@every
def test_all_unknown_is_still_a_choice(name: str, parameters: dict[str, object]) -> None:
    scores = window()
    nothing = {c: np.full_like(getattr(scores, c), np.nan) for c in ("loss", "error", "score", "label", "sketch")}
    chosen = choose(name, changed(scores, **nothing), **parameters)
    if rule_class(name).fixed and parameters.get("sampler") != "poisson":
        assert len(set(chosen.index.tolist())) == B


@every
def test_huge_and_tiny_values_do_no_harm(name: str, parameters: dict[str, object]) -> None:
    for size in (1e300, 1e-300):
        scores = window()
        scaled = changed(scores, loss=scores.loss * size, score=scores.score * size, irreducible=np.zeros(N))
        chosen = choose(name, scaled, **parameters)
        assert np.isfinite(chosen.weight).all()


@every
def test_resuming_from_what_was_written_equals_going_on(name: str, parameters: dict[str, object]) -> None:
    rule = select_by(name, **parameters)

    def run(stop: bool) -> list[list[int]]:
        state, rng, chosen = SelectorState(), np.random.default_rng(5), []
        for t in range(6):
            scores = window(seed=t)
            answer = rule(scores, B, rng, state)
            state = rule.learn(answer.state, answer, scores.score[answer.index] * 1.1)
            chosen.append(answer.index.tolist())
            if stop:
                state = SelectorState.from_json(state.to_json())
                rng, state = pickle.loads(pickle.dumps((rng, state)))
        return chosen

    assert run(stop=False) == run(stop=True)


@every
def test_inputs_are_left_as_they_were(name: str, parameters: dict[str, object]) -> None:
    scores, before = window(), window()
    choose(name, scores, **parameters)
    for column, value in vars(before).items():
        if value is not None:
            np.testing.assert_array_equal(getattr(scores, column), value)


@every
def test_settings_build_the_same_rule(name: str, parameters: dict[str, object]) -> None:
    rule = select_by(name, **parameters)
    assert select.from_settings(json.loads(json.dumps(rule.settings()))) == rule
    assert pickle.loads(pickle.dumps(rule)) == rule
    assert len(rule.key) == 16


@every
def test_maturity_multiplies_the_weights(name: str, parameters: dict[str, object]) -> None:
    half, whole = (choose(name, changed(window(), maturity=np.full(N, a)), **parameters) for a in (0.5, 1.0))
    np.testing.assert_array_equal(half.index, whole.index)
    np.testing.assert_allclose(half.weight, 0.5 * whole.weight)


def stale(name: str) -> bool:
    return "max_staleness" in select.by_name(name).settings()


@pytest.mark.parametrize("name", [name for name in RULES if stale(name)])
def test_rank_rules_draw_uniformly_from_old_records_and_say_so(name: str) -> None:
    old = changed(window(), lag=np.full(N, 3.0))
    with pytest.warns(NearlineWarning, match="older than 2 versions"):
        chosen = choose(name, old)
    assert len(set(chosen.index.tolist())) == B
    assert chosen.report.stale == N
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NearlineWarning)
        seen = np.bincount(np.concatenate([choose(name, old, 6, seed).index for seed in range(400)]), minlength=N)
    assert np.abs(seen - 40).max() < 5 * np.sqrt(400 * 0.1 * 0.9)


@pytest.mark.parametrize("name", [name for name in RULES if stale(name)])
def test_old_and_fresh_rows_share_the_budget_by_their_numbers(name: str) -> None:
    rows = changed(window(), lag=np.where(np.arange(N) < 24, 3.0, 2.0))
    with pytest.warns(NearlineWarning, match="24 of 60 rows"):
        chosen = choose(name, rows, 20)
    assert len(set(chosen.index.tolist())) == 20
    assert (chosen.index < 24).sum() == 8


def test_unknown_names_and_parameters_are_refused_with_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"no rule is called .*; there are .*pps"):
        select.by_name("psp")
    with pytest.raises(ConfigError, match=r"no parameter 'flor'; it has .*floor"):
        select.by_name("pps", flor=0.1)
    with pytest.raises(ConfigError, match="lambda_0"):
        select.by_name("pps", floor=1.5)
    with pytest.raises(ConfigError, match="balances nothing"):
        select.by_name("pps", balance=("loss",))
    with pytest.raises(ConfigError, match="at least one row"):
        select.by_name("min_k_sgd", k=0)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(DataError, match=r"'score'.*rule 'pps'"):
        choose("pps", Scores(loss=np.ones(5)), 2)
    with pytest.raises(DataError, match="lengths"):
        Scores(loss=[1.0], score=[1.0, 2.0])


def test_a_budget_in_cost_units_pays_for_forward_and_backward_passes() -> None:
    assert len(choose("uniform", window(), select.Cost(30.0))) == 10
    assert len(choose("uniform", window(), select.Cost(1e9))) == N


@pytest.mark.parametrize("budget", [-1, 1.5, -0.1])
def test_senseless_budgets_are_refused(budget: float) -> None:
    with pytest.raises(ConfigError, match="budget"):
        choose("uniform", window(), budget)
