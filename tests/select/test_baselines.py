"""What each baseline prefers, by known answers (specification, section 6)."""

from __future__ import annotations

import numpy as np
import pytest

from nearline import select
from nearline.select import Scores, SelectorState

N, B, DRAWS = 20, 5, 4000


def frequencies(name: str, scores: Scores, state: SelectorState | None = None, **parameters: object) -> np.ndarray:
    rule, rng = select.by_name(name, **parameters), np.random.default_rng(0)
    rows = [rule(scores, B, rng, state).index for _ in range(DRAWS)]
    return np.bincount(np.concatenate(rows), minlength=len(scores)) / DRAWS


def test_extreme_rules_take_the_extremes() -> None:
    scores, rng = Scores(loss=np.arange(10.0), irreducible=np.r_[np.zeros(9), 9.0]), np.random.default_rng(0)
    assert select.by_name("biggest_k")(scores, 3, rng).index.tolist() == [7, 8, 9]
    assert select.by_name("smallest_k")(scores, 3, rng).index.tolist() == [0, 1, 2]
    assert select.by_name("rho_loss")(scores, 3, rng).index.tolist() == [6, 7, 8]
    assert set(select.by_name("nearest")(scores, 2, rng).index.tolist()) == {4, 5}


def test_min_k_sgd_takes_the_lower_of_two() -> None:
    # Of 2 disjoint of 20 the row of rank k (0 = least) wins with probability (19 - k)/19, and 10 of 20 rows are drawn.
    expected = 0.5 * (19 - np.arange(20)) / 19
    found = frequencies("min_k_sgd", Scores(loss=np.arange(20.0)))
    assert np.abs(found - expected).max() < 4 * 0.5 / np.sqrt(DRAWS)


def test_selective_backprop_keeps_by_the_power_of_the_cdf() -> None:
    # All losses above the history are kept alike, all below never while others are there.
    state = SelectorState().put(losses=np.linspace(0, 1, 1000))
    loss = np.r_[np.full(10, 2.0), np.full(10, -1.0)]
    found = frequencies("selective_backprop", Scores(loss=loss), state)
    assert np.abs(found[:10] - 0.5).max() < 4 * 0.5 / np.sqrt(DRAWS)
    assert found[10:].max() == 0


def test_selective_backprop_is_the_round_after_round_queue() -> None:
    # Its geometric rounds against a queue written as published, for one loss that is kept half of the time.
    state = SelectorState().put(losses=np.linspace(0, 1, 1001))
    loss = np.linspace(0.05, 0.95, N)
    found = frequencies("selective_backprop", Scores(loss=loss), state, beta=3.0)
    rng, times = np.random.default_rng(1), np.zeros(N)
    for _ in range(DRAWS):
        queue: list[int] = []
        while len(queue) < B:
            for i in rng.permutation(N):
                if i not in queue and len(queue) < B and rng.random() < loss[i] ** 3:
                    queue.append(i)
        times[queue] += 1
    assert np.abs(found - times / DRAWS).max() < 5 * np.sqrt(2 * 0.25 / DRAWS)


def test_stale_selective_backprop_uses_the_first_pass_for_two_and_then_looks_again() -> None:
    rule, rng, state = select.by_name("stale_selective_backprop", beta=50.0), np.random.default_rng(0), SelectorState()
    up, down = Scores(loss=np.arange(20.0)), Scores(loss=np.arange(20.0)[::-1])
    for scores in (up, up):
        state = rule(scores, B, rng, state).state
    assert state.get("cached")[0] == 0
    state = rule(down, B, rng, state).state
    assert state.get("cached")[0] == 19
    assert rule(up, B, rng, state).index.max() < 10


@pytest.mark.parametrize("name", ["rank_power", "rank_exponential"])
def test_rank_rules_draw_one_row_with_the_published_probabilities(name: str) -> None:
    n, rng, rule = 20, np.random.default_rng(0), select.by_name(name)
    loss = rng.exponential(size=n)
    first = np.bincount([rule(Scores(loss=loss), 1, rng).index[0] for _ in range(20_000)], minlength=n) / 20_000
    rank = np.argsort(np.argsort(loss)) + 1.0
    p = (rank / n) ** (n - 1) if name == "rank_power" else np.exp(-np.log(100.0) * (n - rank) / n)
    p /= p.sum()
    assert (np.abs(first - p) <= 4 * np.sqrt(p * (1 - p) / 20_000) + 1e-4).all()


def test_importance_is_unbiased_with_and_without_a_presample() -> None:
    rng = np.random.default_rng(0)
    g, s = rng.normal(size=200), rng.exponential(size=200)
    for presample in (None, 60):
        rule = select.by_name("importance", presample=presample)
        means = []
        for _ in range(4000):
            chosen = rule(Scores(score=s), 20, rng)
            means.append(np.mean(chosen.weight * g[chosen.index]))
        assert abs(np.mean(means) - g.mean()) < 4 * np.std(means) / np.sqrt(len(means))


def test_importance_pays_for_scores_only_when_they_are_uneven_enough() -> None:
    # tau = 2 is the break-even at n = 3b; even scores have tau = 1, one score in 16 has tau = 4.
    even, uneven = Scores(score=np.linspace(0.9, 1.1, 48)), Scores(score=np.arange(48.0) % 16 == 0)
    rule = select.by_name("importance", paid=True)
    assert len(set(rule(even, 16, np.random.default_rng(0)).index.tolist())) == 16
    assert set(rule(uneven, 16, np.random.default_rng(0)).index.tolist()) <= {0, 16, 32}
    state = rule(uneven, 16, np.random.default_rng(0), rule(even, 16, np.random.default_rng(0), SelectorState()).state)
    assert state.state.get("tau")[0] == pytest.approx(0.9 * 1.0 + 0.1 * 4.0, rel=0.01)


def test_ada_selection_moves_to_what_gains() -> None:
    # Large losses fall from window to window, small ones stay: the family of large losses gets the larger share.
    rule, rng, state = select.by_name("ada_selection"), np.random.default_rng(0), SelectorState()
    for t in range(30):
        loss = np.r_[np.full(10, 5.0 * 0.9**t), np.full(10, 0.5)]
        state = rule(Scores(loss=loss, score=np.ones(20)), B, rng, state).state
    uniform, big, small, _ = state.get("mixture")
    assert big > uniform > small


def test_gradmatch_matches_the_mean_sketch_far_better_than_a_uniform_draw() -> None:
    rng = np.random.default_rng(0)
    sketch = rng.normal(size=(400, 8)) * rng.exponential(size=(400, 1)) + 0.3
    scores, mean = Scores(sketch=sketch, label=np.arange(400) % 2), sketch.mean(axis=0)

    def error(name: str, **parameters: object) -> float:
        chosen = select.by_name(name, **parameters)(scores, 40, rng)
        return float(np.linalg.norm((chosen.weight[:, None] * sketch[chosen.index]).mean(axis=0) - mean))

    plain = np.median([error("uniform") for _ in range(50)])
    assert error("gradmatch") < 0.1 * plain
    assert error("gradmatch", per="label") < 0.2 * plain


def test_label_balanced_gives_labels_equal_shares_as_far_as_they_reach() -> None:
    rng = np.random.default_rng(0)
    label = np.r_[np.ones(5), np.zeros(95)]
    chosen = select.by_name("label_balanced")(Scores(label=label), 20, rng)
    assert label[chosen.index].sum() == 5
    np.testing.assert_allclose(chosen.weight[label[chosen.index] == 1], 20 / 100)
