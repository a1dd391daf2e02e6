"""Weighted designs: inclusion probabilities, unbiasedness, bounds (specification, sections 4 and 12)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline import select
from nearline.select import Scores
from nearline.select._kernels import duel, fly

DRAWS = 10_000


def skewed(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).exponential(size=n) ** 2


DESIGNS = [
    ("pps", {}),
    ("pps", {"mix": "after_cap"}),
    ("pps", {"order": "signed_error"}),
    ("pps", {"sampler": "pivotal"}),
    ("pps", {"sampler": "cube", "balance": ("loss", "error")}),
    ("pps", {"order": "slice"}),
    ("pps", {"sampler": "cube", "order": "slice", "balance": ("slice_error", "loss"), "leverage": True}),
    ("stride", {}),
    ("stratified", {}),
    ("uniform", {}),
    ("label_balanced", {}),
]
KEYS = ["-".join([name, *map(str, p.values())]) for name, p in DESIGNS]


@pytest.mark.parametrize(("name", "parameters"), DESIGNS, ids=KEYS)
def test_inclusion_frequencies_are_pi_and_weighted_means_unbiased(name: str, parameters: dict[str, object]) -> None:
    n, b, rng = 24, 7, np.random.default_rng(3)
    g = rng.normal(size=n) + skewed(n)
    scores = Scores(
        loss=skewed(n), score=skewed(n, 1), error=g, label=rng.random(n) < 0.2, slice=rng.integers(0, 4, n),
        leverage=1 + skewed(n, 2),
    )  # fmt: skip
    rule = select.by_name(name, **parameters)
    times, pi = np.zeros(n), np.zeros(n)
    means, totals = np.empty(DRAWS), np.empty(DRAWS)
    for t in range(DRAWS):
        chosen = rule(scores, b, rng)
        times[chosen.index] += 1
        pi[chosen.index] = chosen.prob
        means[t], totals[t] = np.mean(chosen.weight * g[chosen.index]), chosen.weight.mean()
    assert abs(pi.sum() - b) < 1e-9
    error = np.sqrt(np.maximum(pi * (1 - pi), 1e-12) / DRAWS)
    assert (np.abs(times / DRAWS - pi) <= 4 * error + 1e-9).all()
    assert abs(means.mean() - g.mean()) < 4 * means.std() / np.sqrt(DRAWS)
    assert abs(totals.mean() - 1) <= 4 * totals.std() / np.sqrt(DRAWS) + 1e-9


@given(
    s=st.lists(st.floats(0, 1e6), min_size=2, max_size=60),
    part=st.floats(0, 1),
    floor=st.sampled_from([0.0, 0.05, 0.2, 1.0]),
    mix=st.sampled_from(["before_cap", "after_cap"]),
)
@settings(max_examples=200, deadline=None)
def test_probabilities_sum_to_b_and_keep_the_floor(s: list[float], part: float, floor: float, mix: str) -> None:
    n = len(s)
    b = round(part * n)
    pi = select.mixed(np.array(s), b, floor, mix)
    assert abs(pi.sum() - b) <= 1e-9
    assert ((pi >= min(1, floor * b / n) - 1e-12) & (pi <= 1)).all()


def test_water_filling_is_the_capped_proportional_design_found_by_capping_again_and_again() -> None:
    for seed in range(50):
        q, b = skewed(40, seed) ** 2, 1 + seed % 39
        capped = np.zeros(40, bool)
        while True:
            c = (b - capped.sum()) / q[~capped].sum()
            more = ~capped & (c * q > 1)
            if not more.any():
                break
            capped |= more
        np.testing.assert_allclose(select.water_fill(q, b), np.where(capped, 1, c * q), rtol=1e-12)


def test_second_moment_stays_within_both_bounds_of_the_mixture() -> None:
    # Section 4.1: at most 1/lambda of uniform's; mixed after the cap also 1/(1 - lambda) of the ideal's.
    n, b, floor = 500, 60, 0.2
    for seed in range(20):
        s = skewed(n, seed)
        ideal = np.sum(s**2 / select.water_fill(s, b))
        for mix in ("before_cap", "after_cap"):
            moment = np.sum(s**2 / select.mixed(s, b, floor, mix))
            assert moment <= np.sum(s**2) * n / b / floor * (1 + 1e-9)
            if mix == "after_cap":
                assert moment <= ideal / (1 - floor) * (1 + 1e-9)


def test_cube_balances_four_auxiliaries_four_times_better_than_systematic() -> None:
    n, b, draws = 1000, 100, 400
    rng = np.random.default_rng(0)
    score = skewed(n)
    columns = rng.normal(size=(n, 4)) + score[:, None] * rng.normal(size=4)
    scores = Scores(score=score, sketch=columns)

    def gaps(**parameters: object) -> np.ndarray:
        rule, out = select.by_name("pps", **parameters), np.empty((draws, 4))
        for t in range(draws):
            chosen = rule(scores, b, rng)
            assert len(chosen) == b
            out[t] = np.mean(chosen.weight[:, None] * columns[chosen.index], axis=0) - columns.mean(axis=0)
        return np.sqrt(np.mean(out**2, axis=0))

    assert (4 * gaps(sampler="cube", balance=("sketch",)) <= gaps()).all()


def test_cube_with_slices_has_the_expected_number_of_each() -> None:
    n, b, rng = 300, 30, np.random.default_rng(1)
    scores = Scores(score=np.ones(n), slice=np.arange(n) % 3)
    rule = select.by_name("pps", sampler="cube", balance=("slice",))
    for _ in range(20):
        count = np.bincount(rule(scores, b, rng).index % 3, minlength=3)
        assert np.abs(count - 10).max() <= 1


def test_compiled_draws_are_those_of_their_python_source() -> None:
    rng = np.random.default_rng(0)
    for b in (5, 20, 39):
        pi, u = select.water_fill(skewed(40, b), b), rng.random(41)
        np.testing.assert_array_equal(duel(pi, u[:40]), duel.py_func(pi, u[:40]))
        rows = np.column_stack([np.ones(40), rng.normal(size=(40, 3))])
        np.testing.assert_array_equal(fly(pi, rows, u), fly.py_func(pi, rows, u))


@pytest.mark.parametrize("draw", [select.systematic, select.pivotal])
def test_samples_keep_their_size_with_a_million_rows_and_certain_ones(draw: object) -> None:
    n, b = 100_000, 10_000
    pi = select.water_fill(skewed(n) ** 2, b)
    assert (pi == 1).sum() > 10
    chosen = draw(pi, np.random.default_rng(0))
    assert len(set(chosen.tolist())) == len(chosen) == b
    assert set(np.flatnonzero(pi == 1)) <= set(chosen)


def test_signed_error_order_spreads_the_draw_over_the_errors() -> None:
    n, b, rng = 1000, 100, np.random.default_rng(0)
    error = rng.normal(size=n)
    scores = Scores(score=np.ones(n), error=error)

    def spread(order: str) -> float:
        rule = select.by_name("pps", order=order)
        return float(np.std([error[rule(scores, b, rng).index].mean() for _ in range(200)]))

    assert spread("signed_error") < 0.3 * spread("random")


def test_label_rates_are_undone_exactly() -> None:
    # Keeping all positives and a tenth of the negatives turns odds 1:9 into 10:9.
    kept = np.log((0.1 * 1.0) / (0.9 * 0.1))
    assert np.isclose(select.undo_label_rates(kept, 1.0, 0.1), np.log(0.1 / 0.9))
