"""A catch-up that is not to be: rolled back, of another ledger, or older than what is kept."""

from __future__ import annotations

from collections.abc import Callable

from tests.loop.parts import same_model
from tests.loop.running import turn
from tests.loop.story import SLOW, Story, clean, fit


def test_rolling_back_what_is_not_served_yet_changes_nothing(story: Callable[..., Story]) -> None:
    it, twin = story("state", pace=SLOW), story("twin", pace=SLOW)
    for each in (it, twin):
        each.learn(8)
    fit(it.folder, it.clock, "2.0.0", 4)
    for each in (it, twin):
        each.learn(1)
    assert it.loop.handover.coming is not None
    it.loop.rollback(None, "a mistake", "ann")
    assert it.loop.handover.coming is None
    for each in (it, twin):
        each.learn(2)
    assert it.served == twin.served
    assert same_model(it.model, twin.model)
    clean(it)


def test_rolling_back_after_the_swap_goes_to_what_was_served_before(story: Callable[..., Story]) -> None:
    it = story("state")
    it.learn(4)
    before, model = it.served, it.model.replica()
    fit(it.folder, it.clock, "2.0.0", 4)
    it.clock.now += 1.0
    turn(it.loop)
    assert it.served.startswith("2.0.")
    assert it.loop.rollback(before, "worse", "ann") == before
    assert same_model(it.model, model)
    it.learn(2)
    clean(it)


def test_a_fit_of_another_ledger_is_refused_with_the_reason(story: Callable[..., Story]) -> None:
    it = story("state")
    it.learn(3)
    before = it.served
    fit(it.folder, it.clock, "2.0.0", 10_000)
    it.clock.now += 1.0
    turn(it.loop)
    assert it.served == before
    newest = it.loop.history()[0]
    assert (newest["action"], newest["who"]) == ("rollback", "learner")
    assert "made from another ledger" in newest["why"]
    it.learn(1)
    it.again()
    assert it.served == f"1.0.{it.loop.storage.examples.end}"
    clean(it)


def test_what_retention_has_taken_cannot_be_caught_up_with(story: Callable[..., Story]) -> None:
    it = story("state")
    it.learn(4)
    before = it.served
    log = it.loop.storage.predictions
    log.seal(active=True)
    it.learn(2)
    assert log.retain(log.end - 8) > 0
    fit(it.folder, it.clock, "2.0.0", 0)
    it.clock.now += 1.0
    turn(it.loop)
    assert it.served != "2.0.0"
    assert it.served > before
    assert "are no longer kept" in it.loop.history()[0]["why"]
