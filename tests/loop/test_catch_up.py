"""A published fit learns what came since its cut-off before it is served: nothing is lost, nothing counts twice."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.loop.parts import BASE, CALM, Bench, rows, same_model, trained
from tests.loop.running import PACE, Clock, happened, opened, predict, published, turn

from nearline import GLMix, StateError
from nearline.join import Policy
from nearline.loop import Loop, Pace, audit, replay
from nearline.recalibrate import RecalibrationSettings
from nearline.store import Conflict, Registry, Version

SLOW = Pace(tick=0.002, snapshot=600.0, follow=0.1, lag=3)
"""Learns three examples anew per turn."""


def other(**options: Any) -> GLMix:
    """A fit that differs from the first one in every number."""
    model = trained(**options)
    rng = np.random.default_rng(5)
    model.partial_fit({
        "member": rng.integers(0, 10, 50), "ad": [f"ad{i}" for i in rng.integers(2, 9, 50)],
        "price": rng.normal(10, 5, 50), "clicked": rng.integers(0, 2, 50), "when": np.arange(50.0),
    })  # fmt: skip
    return model


def fit(
    folder: Path, clock: Clock, version: str, cutoff: int, model: GLMix | None = None, *, publish: bool = True
) -> None:
    """Register a fit that has consumed the examples before its cut-off, as `nearline fit --on ledger` does."""
    registry = Registry(folder, clock=clock)
    staged = (model or other()).save(registry.stage())
    number = Version.parse(version)
    registry.register(staged, number, who="fit", why="test", positions={"start": 0, "examples": cutoff})
    if publish:
        registry.publish(number, who="fit", why="test")
    registry.close()


def give_out(folder: Path, clock: Clock, version: str) -> None:
    registry = Registry(folder, clock=clock)
    registry.publish(Version.parse(version), who="fit", why="test")
    registry.close()


class Story:
    """The same events, told to services that differ only in when a fit was published."""

    def __init__(self, folder: Path, model: GLMix | None = None, **options: Any) -> None:
        self.clock, self.folder, self.options = Clock(), folder, options
        published(folder, model, clock=self.clock)
        self.ids: list[str] = []
        self.rng = np.random.default_rng(3)
        self.loop: Loop = opened(folder, self.clock, **options)

    def learn(self, ticks: int = 1) -> None:
        """Predictions, and outcomes of some of them a tick later; corrections and retractions of older ones."""
        for _ in range(ticks):
            rng = self.rng
            ids = predict(self.loop, rows(rng.integers(0, 14, 4).tolist(), int(rng.integers(1_000))))
            happened(self.loop, ids[:3], rng.integers(0, 2, 3).astype(float))
            if len(self.ids) > 8:
                happened(self.loop, self.ids[-6:-5], [float(rng.integers(2))], "correct")
                happened(self.loop, self.ids[-8:-7], None, "retract")
            self.ids += ids[:3]
            self.clock.now += 20.0
            turn(self.loop)

    def again(self, *, killed: bool = False) -> None:
        """Start anew after an orderly stop, or from what is on disk at this moment."""
        if killed:
            copy = self.folder.parent / f"{self.folder.name}-"
            shutil.copytree(self.folder, copy)
            self.loop.close()
            self.folder = copy
        else:
            self.loop.close()
        self.loop = opened(self.folder, self.clock, **self.options)

    @property
    def model(self) -> GLMix:
        return self.loop.learner.model

    @property
    def served(self) -> str:
        return self.loop.live.scorer.version

    def settle(self) -> None:
        """Turns until nothing catches up."""
        for _ in range(200):
            self.clock.now += 0.2
            turn(self.loop)
            if self.loop.handover.coming is None:
                return
        raise AssertionError("it never caught up")


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Callable[..., Story]]:
    told: list[Story] = []

    def tell(name: str, **options: Any) -> Story:
        told.append(Story(tmp_path / name, **options))
        return told[-1]

    yield tell
    for it in told:
        if it.loop.error != "stopping":
            it.loop.close()


def clean(it: Story) -> None:
    it.loop.close()
    found = audit(it.folder, CALM)
    assert (found.doubled, found.posteriors_differ) == (0, 0)
    assert same_model(replay(it.folder, CALM), found.committed)
    assert same_model(found.committed, it.model)


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


SEAMS = ("begun", "written", "committed")


@pytest.mark.parametrize("seam", SEAMS)
def test_killed_at_a_seam_it_starts_with_the_old_pair_or_the_new_one(
    story: Callable[..., Story], seam: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half way through the replay, with the examples written but not committed, and right after the commit."""
    it, twin = story("killed", pace=SLOW if seam == "begun" else PACE), story("whole")
    for each in (it, twin):
        each.learn(8)
        fit(each.folder, each.clock, "2.0.0", 5, publish=False)
    twin.clock.now = it.clock.now
    copy = it.folder.parent / "copy"
    learner = it.loop.learner
    commit = learner._commit

    def dying(*given: Any) -> None:
        if seam == "committed":
            commit(*given)
        shutil.copytree(it.folder, copy)
        raise StateError("killed")

    give_out(it.folder, it.clock, "2.0.0")
    it.clock.now += 1.0
    if seam == "begun":
        turn(it.loop)
        assert it.loop.handover.coming is not None
        shutil.copytree(it.folder, copy)
    else:
        monkeypatch.setattr(learner, "_commit", dying)
        with pytest.raises(StateError, match="killed"):
            turn(it.loop)
        monkeypatch.undo()
    it.loop.close()
    it.folder = copy
    it.loop = opened(copy, it.clock, pace=PACE)
    # The constructor catches up with what is at most `lag` behind.
    assert it.served.startswith("2.0.")
    give_out(twin.folder, twin.clock, "2.0.0")
    twin.clock.now += 1.0
    turn(twin.loop)
    for each in (it, twin):
        each.learn(2)
    assert same_model(it.model, twin.model)
    clean(it)
    clean(twin)


def test_a_restart_half_way_serves_the_old_pair_and_begins_again(story: Callable[..., Story]) -> None:
    it, twin = story("state", pace=SLOW), story("twin")
    for each in (it, twin):
        each.learn(10)
        fit(each.folder, each.clock, "2.0.0", 4)
        each.learn(1)
    for killed in (False, True):
        it.again(killed=killed)
        assert it.served.startswith("1.0.")
        assert it.loop.handover.coming == Version(2)
    it.settle()
    assert it.served.startswith("2.0.")
    assert same_model(it.model, twin.model)
    assert it.loop.versions()["live"] == it.served
    clean(it)


def test_a_full_disk_at_the_swap_leaves_the_old_pair_and_is_tried_again(
    story: Callable[..., Story], monkeypatch: pytest.MonkeyPatch
) -> None:
    it, twin = story("state"), story("twin")
    for each in (it, twin):
        each.learn(5)
        fit(each.folder, each.clock, "2.0.0", 3)
        each.clock.now += 1.0
    before = it.served

    def full(*given: Any) -> None:
        raise StateError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(type(it.loop.storage.state), "commit", full)
        with pytest.raises(StateError):
            turn(it.loop)
    assert it.served == before
    for each in (it, twin):
        each.clock.now += 1.0
        turn(each.loop)
        each.learn(2)
    assert it.served.startswith("2.0.")
    assert same_model(it.model, twin.model)
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
