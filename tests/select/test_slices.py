"""Draws that go along slices: every entity gets its share, and its errors add up."""

from __future__ import annotations

import numpy as np
import pytest

from nearline import DataError, select
from nearline.select import Scores
from nearline.select._auxiliaries import SLICES, auxiliaries, by_slice

N, B = 1_000, 100


def bursts(seed: int) -> Scores:
    """Twelve entities with twenty to two hundred rows, each with errors of its own level."""
    rng = np.random.default_rng(seed)
    entity = np.sort(rng.choice(12, N, p=rng.dirichlet(np.full(12, 3.0))))
    error = rng.normal(size=12)[entity] + rng.normal(size=N)
    return Scores(error=error, score=np.abs(error), loss=error**2, slice=entity)


def gap_of_slices(rule: select.Rule, scores: Scores, draws: int = 40) -> float:
    """Root mean square over draws and slices of sum_S w_i e_i - sum e_i."""
    rng, found = np.random.default_rng(0), []
    total = np.bincount(scores.slice, scores.error)
    for _ in range(draws):
        chosen = rule(scores, B, rng)
        part = chosen.weight * scores.error[chosen.index] * N / B
        found.append(np.bincount(scores.slice[chosen.index], part, len(total)) - total)
    return float(np.sqrt(np.mean(np.square(found))))


def test_along_slices_each_gets_its_share_to_within_a_row_or_two() -> None:
    scores, rng = bursts(0), np.random.default_rng(1)
    expected = np.bincount(scores.slice) * B / N
    for _ in range(50):
        chosen = select.by_name("pps", floor=1.0, order="slice")(scores, B, rng)
        assert (np.abs(np.bincount(scores.slice[chosen.index], minlength=12) - expected) <= 2).all()


def test_order_by_slice_is_a_permutation_that_keeps_slices_together_and_sorts_errors_in_them() -> None:
    scores = bursts(1)
    order = by_slice(scores.slice, scores.error, np.random.default_rng(0))
    assert np.array_equal(np.sort(order), np.arange(N))
    group, error = scores.slice[order], scores.error[order]
    assert np.count_nonzero(np.diff(group)) == len(np.unique(group)) - 1
    for name in np.unique(group):
        steps = np.diff(error[group == name])
        assert (steps >= 0).all() or (steps <= 0).all()


def test_errors_of_every_slice_are_matched_better_along_slices_and_best_where_they_are_balanced() -> None:
    plain, along, balanced = (
        select.by_name("pps", **how)
        for how in ({}, {"order": "slice"}, {"sampler": "cube", "order": "slice", "balance": ("slice_error",)})
    )
    for seed in range(3):
        scores = bursts(seed)
        gaps = [gap_of_slices(rule, scores) for rule in (plain, along, balanced)]
        assert gaps[0] > 1.5 * gaps[1] > 1.5 * gaps[2]


def test_only_the_slices_with_most_error_are_balanced() -> None:
    rng = np.random.default_rng(0)
    code, error = rng.integers(0, 3 * SLICES, N), rng.normal(size=N)
    columns = auxiliaries(Scores(error=error, slice=code), ("slice_error",))
    assert columns.shape == (N, SLICES)
    sums = np.sort(np.bincount(code, np.abs(error)))[::-1]
    np.testing.assert_allclose(np.sort(np.abs(columns).sum(axis=0))[::-1], sums[:SLICES])


def test_leverage_multiplies_the_size_by_its_root() -> None:
    rng = np.random.default_rng(0)
    score, leverage = rng.exponential(size=N), 1 + rng.exponential(size=N)
    chosen = select.by_name("pps", leverage=True)(Scores(score=score, leverage=leverage), B, rng)
    s = score / score.mean() * np.sqrt(leverage)
    np.testing.assert_allclose(chosen.prob, select.mixed(s, B, 0.2)[chosen.index])


def test_only_the_most_frequent_slices_are_balanced_one_by_one_and_the_others_together() -> None:
    """Ties go to the lower value; thousands of values cost no more columns than fifty."""
    rng = np.random.default_rng(7)
    code = rng.permutation(np.r_[np.repeat(np.arange(SLICES - 1) * 50, 30), np.arange(10_000, 15_000)])
    columns = auxiliaries(Scores(slice=code), ("slice",))
    assert columns.shape == (len(code), SLICES + 1)
    own = [*(np.arange(SLICES - 1) * 50), 10_000]
    np.testing.assert_array_equal(columns[:, :-1], code[:, None] == np.array(own))
    np.testing.assert_array_equal(columns.sum(axis=1), 1)
    assert columns[:, -1].sum() == 4_999


@pytest.mark.parametrize("few", [1, 3, SLICES, SLICES + 1])
def test_few_slices_have_an_indicator_each(few: int) -> None:
    code = np.random.default_rng(8).permutation(np.arange(4 * few) // 4 * 3)
    columns = auxiliaries(Scores(slice=code), ("slice",))
    np.testing.assert_array_equal(columns, code[:, None] == np.unique(code))


def test_a_draw_from_thousands_of_slices_has_the_expected_number_of_the_frequent_and_of_the_others() -> None:
    rng = np.random.default_rng(9)
    code = np.r_[np.repeat([3, 5], 1_000), np.arange(10, 2_010)]
    rule = select.by_name("cube", balance=("slice",))
    for _ in range(5):
        chosen = code[rule(Scores(slice=code), 400, rng).index]
        counts = [np.count_nonzero(chosen == 3), np.count_nonzero(chosen == 5), np.count_nonzero(chosen >= 10)]
        assert np.abs(np.array(counts) - [100, 100, 200]).max() <= 3


@pytest.mark.parametrize(
    ("how", "column"),
    [({"leverage": True}, "leverage"), ({"order": "slice"}, "slice"),
     ({"sampler": "cube", "balance": ("slice_error",)}, "slice")],
)  # fmt: skip
def test_what_is_missing_is_named(how: dict[str, object], column: str) -> None:
    scores = Scores(score=np.ones(50), error=np.ones(50), loss=np.ones(50))
    with pytest.raises(DataError, match=column):
        select.by_name("pps", **how)(scores, 5, np.random.default_rng(0))
