"""Rows that cannot be learned: all blocks refuse them, the others learn, and they may come again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.glmix.minibatch_step_parts import SCHEMA, N, several, state, table, take

from nearline import ConfigError, Fixed, Forgetting, GLMix, Random
from nearline.glmix import _minibatch_step


@pytest.mark.parametrize("link", ["identity", "logit"])
def test_a_failing_entity_is_refused_by_all_blocks_and_the_others_learn(link: str) -> None:
    """Sections 2 and 4.3: a row is learned by every block or by none; rows that failed are named."""
    data = table(link=link)
    bad = np.flatnonzero(data["user"] == 2)
    broken = {**data, "b": data["b"].copy()}
    broken["b"][bad[3]] = 1e200  # its square is no number
    model, without = several(mode="minibatch", link=link), several(mode="minibatch", link=link)
    learned = model.partial_fit(broken)
    np.testing.assert_array_equal(learned.refused, bad)
    assert learned.rows == N - len(bad)
    without.design(data, learn=True)
    without.partial_fit(take(data, data["user"] != 2))
    assert state(model) == state(without)


@pytest.mark.parametrize("mode", ["event", "minibatch"])
@pytest.mark.parametrize("posterior", ["full", "diagonal", "lowrank"])
@pytest.mark.parametrize("forgetting", [None, Forgetting(half_life=5.0), Forgetting(walk_per_event={"*": 0.1})])
def test_a_refused_row_changes_nothing(mode: Any, posterior: Any, forgetting: Forgetting | None) -> None:
    user = Random("user", on=["b"], posterior=posterior, forgetting=forgetting)
    model = GLMix(SCHEMA, Fixed("a"), [user], mode=mode)
    data = table(link="logit")
    model.partial_fit(data)
    before = state(model)
    row = {**take(data, [0]), "a": np.array([1e200]), "t": np.array([500.0])}
    learned = model.partial_fit(row)
    assert (learned.rows, learned.refused.tolist()) == (0, [0])
    assert state(model) == before
    assert model.partial_fit(take(data, [1])).rows == 1


def test_a_batch_that_keeps_failing_is_refused_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_minibatch_step, "MAX_ATTEMPTS", 1)
    data = table(link="logit")
    data["w"][::10] = 0.0
    model = several(link="logit", mode="minibatch")
    model.partial_fit(data)
    before = state(model)
    learned = model.partial_fit({**data, "b": np.where(np.arange(N) == 3, 1e200, data["b"])})
    assert learned.rows == 0
    np.testing.assert_array_equal(learned.refused, np.flatnonzero(data["w"]))
    assert state(model) == before


def test_a_refused_row_may_come_again() -> None:
    data = table(link="logit")
    model, twin = several(link="logit", mode="minibatch"), several(link="logit", mode="minibatch")
    bad = {**take(data, slice(0, 10)), "b": np.r_[1e200, data["b"][1:10]]}
    learned = model.partial_fit(bad)
    twin.design(take(data, slice(0, 10)), learn=True)
    again = take(data, learned.refused)
    rest = take(data, np.setdiff1d(np.arange(10), learned.refused))
    for rows in (rest, again):
        twin.partial_fit(rows)
    model.partial_fit(again)
    assert state(model) == state(twin)


def test_settings_of_partial_fit_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"partial_fit\(mode=...\) is 'event'"):
        several().partial_fit(table(), mode="batch")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"partial_fit\(cycles=...\) must be at least 1"):
        several().partial_fit(table(), mode="minibatch", cycles=0)
    with pytest.raises(ConfigError, match=r"partial_fit\(cycles=...\) needs mode='minibatch'"):
        several().partial_fit(table(), cycles=2)
