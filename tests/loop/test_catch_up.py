"""A published fit learns what came since its cut-off before it is served: nothing is lost, nothing counts twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.loop.parts import BASE, CALM, Bench, rows, same_model, trained
from tests.loop.running import happened, predict, turn
from tests.loop.story import SLOW, Story, clean, fit, other

from nearline.join import Policy
from nearline.loop import Pace, audit
from nearline.recalibrate import RecalibrationSettings
from nearline.store import Conflict, Version


def labels(it: Story) -> dict[str, float]:
    """Label held of each prediction, by position: ids begin with a tag of the run."""
    return {name.split("-")[1]: label for name, label in audit(it.folder, CALM).labels.items()}


@pytest.mark.parametrize("mode", ["event", "minibatch"])
def test_a_fit_that_is_published_late_equals_one_that_was_there_from_its_cutoff(
    story: Callable[..., Story], mode: str
) -> None:
    """Spec glmix.md 7, reconciliation 2 and 5: same prior, same boundaries, same bits."""
    late, early = (story(name, model=trained(mode=mode)) for name in ("late", "early"))
    for it in (late, early):
        it.learn(6)
    cutoff = late.loop.storage.examples.end
    fit(early.folder, early.clock, "2.0.0", cutoff, other(mode=mode))
    for it in (late, early):
        it.learn(9)
    assert early.served.startswith("2.0.")
    fit(late.folder, late.clock, "2.0.0", cutoff, other(mode=mode))
    assert late.served.startswith("1.0.")
    for it in (late, early):
        it.learn(5)
    assert late.served.startswith("2.0.")
    assert same_model(late.model, early.model)
    assert same_model(late.loop.live.scorer.model, early.model)
    for it in (late, early):
        clean(it)
    assert labels(late) == labels(early)


def test_the_old_pair_is_served_and_learns_until_the_new_one_has_caught_up(story: Callable[..., Story]) -> None:
    it, twin = story("slow", pace=SLOW), story("quick")
    for each in (it, twin):
        each.learn(8)
        fit(each.folder, each.clock, "2.0.0", 4)
    seen = []
    for _ in range(12):
        it.learn()
        twin.learn()
        seen.append(it.served)
        if it.loop.handover.coming is not None:
            assert str(it.loop.handover.coming) == "2.0.0"
            assert it.loop.status()["versions"]["coming"] == {"version": "2.0.0", "behind": it.loop.handover.behind}
    first = next(i for i, version in enumerate(seen) if version.startswith("2.0."))
    assert first >= 2
    assert all(version.startswith("1.0.") for version in seen[:first])
    assert len(set(seen)) == len(seen)  # it never stopped learning
    assert all(version.startswith("2.0.") for version in seen[first:])
    assert same_model(it.model, twin.model)
    assert it.loop.status()["versions"]["coming"] is None
    clean(it)


def test_versions_move_on_and_the_history_says_what_was_served(story: Callable[..., Story]) -> None:
    it = story("state")
    it.learn(3)
    end = it.loop.storage.examples.end
    fit(it.folder, it.clock, "2.0.0", end)
    it.clock.now += 1.0
    turn(it.loop)
    assert it.served == "2.0.0"
    it.learn(1)
    assert it.served == f"2.0.{it.loop.storage.examples.end}"
    history = [(change["action"], change["version"]) for change in reversed(it.loop.history())]
    assert history == [("publish", "1.0.0"), ("publish", "2.0.0")]
    # what had been learned by then can be gone back to
    assert str(end) in {str(Version.parse(v["version"]).nearline) for v in it.loop.versions()["versions"]}
    clean(it)


def test_a_second_swap_does_not_learn_the_first_ones_examples_twice(story: Callable[..., Story]) -> None:
    it, twin = story("state"), story("twin")
    for each in (it, twin):
        each.learn(5)
    cutoff = it.loop.storage.examples.end
    for each in (it, twin):
        each.learn(3)
    fit(it.folder, it.clock, "2.0.0", 4)
    for each in (it, twin):
        each.learn(3)
    third = other()
    third.partial_fit({"member": [1], "ad": ["ad1"], "price": [3.0], "clicked": [1], "when": [60.0]})
    for each in (it, twin):
        fit(each.folder, each.clock, "3.0.0", cutoff, third)
        each.learn(2)
        assert each.served.startswith("3.0.")
    assert same_model(it.model, twin.model)
    clean(it)


def test_the_new_line_is_calibrated_by_what_it_would_have_served(story: Callable[..., Story]) -> None:
    it = story("state", recalibrate=RecalibrationSettings())
    it.learn(5)
    fit(it.folder, it.clock, "2.0.0", 0)
    it.clock.now += 1.0
    learned = it.loop.learner.calibration.summary()
    turn(it.loop)
    assert it.served.startswith("2.0.")
    found = it.loop.learner.calibration.summary()
    assert learned is not None
    assert found is not None
    assert found["examples"] == learned["examples"] == 15
    assert found["gain"] != learned["gain"]
    it.again(killed=True)
    assert it.loop.learner.calibration.summary() == found


def test_it_comes_nearer_however_small_the_steps(story: Callable[..., Story]) -> None:
    it = story("state", pace=Pace(tick=0.002, follow=0.1, lag=1))
    it.learn(10)
    fit(it.folder, it.clock, "2.0.0", 0)
    it.clock.now += 1.0
    turn(it.loop)
    behind = []
    while it.loop.handover.coming is not None:
        behind.append(it.loop.handover.behind)
        it.learn()
    assert behind == sorted(behind, reverse=True)
    assert len(set(behind)) == len(behind) > 3


def test_predictions_that_go_on_during_the_swap_are_answered(story: Callable[..., Story]) -> None:
    it = story("state")
    it.learn(4)
    fit(it.folder, it.clock, "2.0.0", 4)
    scorer = it.loop.live.scorer
    ids = predict(it.loop, rows([1, 2]))
    it.clock.now += 1.0
    turn(it.loop)
    assert it.loop.live.scorer is not scorer
    with scorer.lock:
        scorer.model.predict_proba({**rows([3]), "when": [0.0]})
    happened(it.loop, ids, [1.0, 0.0])
    turn(it.loop)
    assert it.loop.storage.examples.read(it.loop.storage.examples.end - 2).column("action").to_pylist() == ["learn"] * 2
    clean(it)


def test_an_update_of_an_older_pair_is_refused_and_its_events_count_once_on_the_new_one() -> None:
    """Spec glmix.md 7, reconciliation 3; requirement 13: compare-and-set on the version."""
    bench = Bench(policy=Policy(window=100.0, lateness=10.0, horizon=1_000.0))
    bench.models[Version(2)] = other()
    bench.happened(bench.predict(rows([1, 2, 3])), [1.0, 0.0, 1.0])
    bench.tick()
    slow = bench._learner()
    assert slow.restore()
    caught = bench.learner.catch_up(Version(2), 0, [(0, 0)])
    while caught.step():
        pass
    bench.learner.succeed(caught, 2, bench.now)
    bench.happened(bench.predict(rows([4, 5])), [1.0, 1.0])
    end = bench.storage.examples.end
    with pytest.raises(Conflict, match="computed on another state"):
        slow.tick(bench.now)
    assert slow.restore()
    assert bench.storage.examples.end == end == 6
    tick = slow.tick(bench.now)
    assert tick is not None
    assert str(tick.version) == "2.0.8"
    twin = other()
    table = bench.storage.predictions.read(0)
    given = {name: table.column(name) for name in ("member", "ad", "price")} | {"when": table.column("time")}
    twin.partial_fit({**given, "clicked": [1.0, 0.0, 1.0, 1.0, 1.0]})
    assert same_model(slow.model, twin)
    assert slow.line.base != BASE
