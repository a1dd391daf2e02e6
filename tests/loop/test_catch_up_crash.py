"""A catch-up that is cut short: killed at a seam, stopped half-way, or swapped on a full disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.loop.parts import same_model
from tests.loop.running import PACE, Clock, opened, turn
from tests.loop.story import SLOW, Story, clean, fit

from nearline import StateError
from nearline.store import Registry, Version


def give_out(folder: Path, clock: Clock, version: str) -> None:
    registry = Registry(folder, clock=clock)
    registry.publish(Version.parse(version), who="fit", why="test")
    registry.close()


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
