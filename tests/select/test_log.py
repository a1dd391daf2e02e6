"""A logged window replays to the bit (specification, sections 1.2 and 12)."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nearline import StateError, select
from nearline.select import Policy, Scores, SelectorState, by_name


def window(seed: int, n: int = 300) -> Scores:
    rng = np.random.default_rng(seed)
    return Scores(
        loss=rng.exponential(size=n),
        score=rng.exponential(size=n),
        error=rng.normal(size=n),
        label=rng.random(n) < 0.1,
        irreducible=rng.random(n),
        sketch=rng.normal(size=(n, 4)),
        held=rng.random(n) < 0.02,
        lag=np.zeros(n),
    )


@pytest.mark.parametrize("name", sorted(set(select.names()) - {"milp"}))
def test_every_rule_replays_from_its_log_with_its_memory(name: str) -> None:
    rule, state, rows = by_name(name), SelectorState(), []
    for t in range(3):
        chosen, row = select.choose(rule, window(t), 30, window=t, seed=11, state=state)
        state = rule.learn(chosen.state, chosen, window(t).score[chosen.index])
        rows.append(row)
    for t, row in enumerate(select.log_table(rows).to_pylist()):
        again = select.replay(row, window(t))
        assert again.index.tolist() == row["index"]
        assert again.weight.tolist() == row["weight"]
    json.dumps(rows)


def test_a_policy_replays_with_its_conditions() -> None:
    policy = Policy(
        by_name("pps", sampler="cube", balance=("loss", "label")), task="regression", trim="mad", cut=2.0, max_trim=0.2
    )
    chosen, row = select.choose(policy, window(0), 0.1, window=3, seed=1)
    assert row["trimmed"] > 0
    assert row["held"] > 0
    again = select.replay(json.loads(json.dumps(row)), window(0))
    np.testing.assert_array_equal(again.prob, chosen.prob)
    np.testing.assert_array_equal(again.trimmed, chosen.trimmed)


def test_other_scores_are_noticed() -> None:
    _, row = select.choose(by_name("pps"), window(0), 30, window=0, seed=1)
    with pytest.raises(StateError, match="window 0 comes out differently"):
        select.replay(row, window(1))


def test_windows_and_seeds_have_draws_of_their_own_and_settings_a_key() -> None:
    sets = {
        tuple(select.choose(by_name("uniform"), window(0), 30, window=w, seed=s)[1]["index"])
        for w, s in ((0, 0), (1, 0), (0, 1))
    }
    assert len(sets) == 3
    assert by_name("pps").key != by_name("pps", floor=0.1).key != Policy(by_name("pps", floor=0.1)).key
