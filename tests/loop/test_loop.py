"""The loop in one process: what is served, kept, followed and rolled back; nothing is learned twice or lost."""

from __future__ import annotations

import json
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.loop.parts import CALM, rows, same_model, trained
from tests.loop.running import Clock, happened, opened, predict, published, turn

from nearline import ConfigError, GLMix, StateError
from nearline.gate import GuardSettings
from nearline.loop import Loop, Pace, audit, replay
from nearline.store import Registry, Version


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path, clock: Clock) -> Path:
    published(tmp_path / "state", clock=clock)
    return tmp_path / "state"


@pytest.fixture
def loop(folder: Path, clock: Clock) -> Iterator[Loop]:
    made = opened(folder, clock)
    yield made
    made.close()


def until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)


def learn(loop: Loop, members: list[int], labels: Any, seed: int = 0) -> list[str]:
    ids = predict(loop, rows(members, seed))
    happened(loop, ids, labels)
    turn(loop)
    return ids


def history(loop: Loop) -> list[tuple[str, str]]:
    return [(change["action"], change["version"]) for change in reversed(loop.history())]


def same_as_replay(folder: Path) -> bool:
    found = audit(folder, CALM)
    return (found.doubled, found.posteriors_differ) == (0, 0) and same_model(replay(folder, CALM), found.replayed)


def test_the_learner_thread_learns_what_is_acknowledged(folder: Path, clock: Clock) -> None:
    with opened(folder, clock) as loop:
        assert loop.unready is None
        assert loop.live.scorer.version == "1.0.0"
        ids = predict(loop, rows([1, 2, 3]))
        happened(loop, ids, 1.0)
        until(lambda: loop.live.scorer.version == "1.0.3")
        assert same_model(loop.live.scorer.model, loop.learner.model)
        status = loop.status()
        assert json.loads(json.dumps(status))["joins"]["learned"] == 3
        assert status["error"] is None
    assert loop.unready == "stopping"
    assert same_as_replay(folder)
    again = opened(folder, clock)
    assert again.live.scorer.version == "1.0.3"
    assert history(again) == [("publish", "1.0.0"), ("publish", "1.0.3")]
    again.close()


def test_what_was_acknowledged_when_it_closes_is_learned(folder: Path, clock: Clock) -> None:
    loop = opened(folder, clock)
    happened(loop, predict(loop, rows([1, 2])), 1.0)
    loop.close()
    again = opened(folder, clock)
    assert (again.live.scorer.version, again.learner.waiting) == ("1.0.2", 0)
    again.close()


def test_an_id_of_another_start_is_known(folder: Path, clock: Clock) -> None:
    loop = opened(folder, clock)
    ids = predict(loop, rows([1]))
    loop.close()
    again = opened(folder, clock)
    happened(again, ids, 1.0)
    turn(again)
    assert again.live.scorer.version == "1.0.1"
    again.close()


def test_a_directory_has_one_process(folder: Path, clock: Clock) -> None:
    loop = opened(folder, clock)
    with pytest.raises(StateError, match="another process"):
        opened(folder, clock)
    learn(loop, [1], 1.0)
    loop.close()
    opened(folder, clock).close()


def test_a_start_that_fails_gives_the_directory_back(folder: Path, clock: Clock) -> None:
    away = folder.parent / "away"
    shutil.move(folder / "versions" / "1.0.0", away)
    with pytest.raises(StateError, match=r"1\.0\.0 is missing .*restore it from a copy"):
        opened(folder, clock)
    shutil.move(away, folder / "versions" / "1.0.0")
    opened(folder, clock).close()


def test_without_a_published_version_it_says_how_to_make_one(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(StateError, match="nearline fit"):
        opened(tmp_path, clock)


def test_a_version_published_elsewhere_is_followed(loop: Loop, folder: Path, clock: Clock) -> None:
    learn(loop, [1, 2], 1.0)
    clock.now += 1.0
    other = trained()
    other.partial_fit({"member": [1], "ad": ["ad1"], "price": [3.0], "clicked": [1], "when": [0.0]})
    published(folder, other, "2.0.0", clock)
    turn(loop)
    assert loop.live.scorer.version == "2.0.0"
    assert same_model(loop.live.scorer.model, other)
    learn(loop, [3], 1.0)
    assert loop.live.scorer.version == "2.0.3"
    # what had been learned can be gone back to
    assert loop.rollback("1.0.2", "it was better", "ann") == "1.0.2"
    assert history(loop)[-2:] == [("publish", "2.0.3"), ("rollback", "1.0.2")]


def test_rolling_back_by_default_goes_to_what_was_live_before(loop: Loop) -> None:
    base = loop.live.scorer.model.replica()
    learn(loop, [1, 2], 1.0)
    assert loop.rollback(None, "worse", "ann") == "1.0.0"
    assert same_model(loop.live.scorer.model, base)
    learn(loop, [1, 2, 3], 1.0)
    assert loop.live.scorer.version == "1.1.5"
    assert history(loop) == [("publish", "1.0.0"), ("publish", "1.0.2"), ("rollback", "1.0.0")]


def test_rolling_back_to_the_live_version_drops_what_was_learned_on_it(loop: Loop) -> None:
    base = loop.live.scorer.model.replica()
    learn(loop, [1, 2], 1.0)
    assert loop.rollback("1.0.0", "worse", "ann") == "1.0.0"
    assert same_model(loop.live.scorer.model, base)
    assert loop.rollback("1.0.0", "again", "ann") == "1.0.0"
    assert loop.publish("1.0.2", "it was good", "ann").version == "1.0.2"
    with pytest.raises(ConfigError, match=r"there is no version 7\.0\.0"):
        loop.rollback("7.0.0", "no such", "ann")
    assert loop.live.scorer.version == "1.0.2"


def test_a_roll_back_made_elsewhere_is_followed_though_the_version_stays_the_same(
    loop: Loop, folder: Path, clock: Clock
) -> None:
    base = loop.live.scorer.model.replica()
    learn(loop, [1, 2], 1.0)
    registry = Registry(folder, clock=clock)
    registry.rollback(Version(1), who="ann", why="what was learned is to go")
    clock.now += 1.0
    turn(loop)
    assert loop.live.scorer.version == "1.0.0"
    assert same_model(loop.live.scorer.model, base)
    assert Version.parse("1.0.2") in {record.version for record in registry.versions()}
    registry.close()


def test_versions_are_kept_every_so_often_and_named_in_order(loop: Loop, folder: Path, clock: Clock) -> None:
    times = []
    for _ in range(2):
        learn(loop, [1, 2], 1.0)
        clock.now += 601.0
        turn(loop)
        times.append(clock.now)
        clock.now += 1.0
    turn(loop)  # nothing was learned since: no version
    loop.rollback(None, "worse", "ann")
    clock.now += 1.0
    learn(loop, [3], 1.0)
    clock.now += 601.0
    turn(loop)
    kept = history(loop)
    assert [version for action, version in kept if action == "publish"][1:3] == ["1.0.2", "1.0.4"]
    assert kept[-1][0] == "publish"
    assert kept[-1][1].startswith("1.1.")
    assert len({version for action, version in kept if action == "publish"}) == len(
        [version for action, version in kept if action == "publish"]
    )
    registry = Registry(folder, clock=clock)
    for moment, version in zip(times, ["1.0.2", "1.0.4"]):
        found = registry.live_at(moment + 0.5)
        assert found is not None
        assert str(found.version) == version
    registry.close()


def test_corrections_after_going_back_undo_what_that_version_holds(folder: Path, clock: Clock) -> None:
    loop = opened(folder, clock)
    ids = learn(loop, [1, 2], [1.0, 1.0])
    loop.rollback("1.0.0", "look", "ann")
    learn(loop, [5], 1.0)
    loop.publish("1.0.2", "back", "ann")
    happened(loop, ids[:1], 0.0, "correct")
    turn(loop)
    table = loop.storage.examples.read(loop.storage.examples.end - 1)
    assert table.column("previous").to_pylist() == [1.0]
    loop.close()
    assert same_as_replay(folder)


def test_a_poisoned_stream_is_rolled_back_by_itself(folder: Path, clock: Clock) -> None:
    loop = opened(folder, clock, guard=GuardSettings(minimum=50))
    stale, rng = loop.live.scorer.model.replica(), np.random.default_rng(0)
    late: list[str] = []
    for number in range(60):
        given = rows(rng.integers(0, 10, 20).tolist(), number)
        good = stale.predict_proba({**given, "when": [clock.now] * 20}) > 0.5
        ids = predict(loop, given)
        late += predict(loop, given) if number == 14 else []
        happened(loop, ids, (good if number >= 15 else ~good).astype(float))
        clock.now += 1.0
        turn(loop)
        if loop.rolled_back:
            break
    shown = loop.status()["guard"]
    assert (shown["state"], shown["reason"]) == ("rolled_back", loop.rolled_back)
    assert "live is worse than stale" in loop.rolled_back
    assert history(loop)[-1] == ("rollback", "1.0.0")
    assert loop.history()[0]["who"] == "guard"
    # what the poisoned model predicted before comes in now: it is not held against the new line
    happened(loop, late, 0.0)
    happened(loop, late, 1.0)
    turn(loop)
    assert history(loop)[-1] == ("rollback", "1.0.0")
    assert loop.learner.line.batch == 1
    loop.close()


@contextmanager
def full_disk() -> Iterator[None]:
    """No file can grow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_stops_learning_until_there_is_room(folder: Path, clock: Clock) -> None:
    loop = opened(folder, clock)
    happened(loop, predict(loop, rows([1, 2, 3])), 1.0)
    with full_disk():
        loop.start()
        until(lambda: loop.error is not None)
        assert loop.status()["error"] == loop.error
        assert loop.unready is None
        assert (loop.live.scorer.version, loop.learner.waiting) == ("1.0.0", 3)
        loop.live.scorer.model.predict_proba({**rows([1]), "when": [0.0]})
    until(lambda: loop.live.scorer.version == "1.0.3")
    until(lambda: loop.error is None)
    loop.close()
    assert same_as_replay(folder)


def test_a_failed_tick_is_undone_before_a_version_is_kept(folder: Path, clock: Clock) -> None:
    loop = opened(folder, clock)
    happened(loop, predict(loop, rows([1, 2, 3])), 1.0)
    with full_disk(), pytest.raises(StateError):
        turn(loop)
    assert loop.rollback("1.0.0", "an admin is quicker than the learner", "ann") == "1.0.0"
    assert history(loop) == [("publish", "1.0.0"), ("rollback", "1.0.0")]
    turn(loop)
    assert loop.live.scorer.version == "1.1.3"
    loop.close()
    assert same_as_replay(folder)


class Fragile(GLMix):
    """Raises what nobody foresaw when a row has price 666."""

    def fork(self) -> GLMix:
        twin = super().fork()
        twin.__class__ = Fragile
        return twin

    def try_learn(self, table: Any, *args: Any, **options: Any) -> Any:
        if (np.abs(table.values - (666.0 - 10.0) / 5.0) < 1e-9).any():
            raise ZeroDivisionError("a bug in the learner")
        return super().try_learn(table, *args, **options)


def fragile(loop: Loop) -> None:
    """Let the learner's models be fragile ones from its next restore on."""
    load = loop.learner._load

    def loaded(version: Version) -> GLMix:
        model = load(version)
        model.__class__ = Fragile
        return model

    loop.learner._load = loaded
    loop.learner.restore()


def test_an_outcome_that_cannot_be_learned_is_found_and_quarantined(folder: Path, clock: Clock) -> None:
    loop = opened(folder, clock, pace=Pace(tick=0.002, batch=8))
    fragile(loop)
    given = rows([1] * 20)
    given["price"][13] = 666.0
    ids = predict(loop, given)
    happened(loop, ids, 1.0)
    failures = 0
    while loop.learner.waiting:
        try:
            turn(loop)
        except ZeroDivisionError:
            failures += 1
    assert 3 <= failures <= 5
    found = loop.storage.examples.read(0)
    odd = [i for i, action in enumerate(found.column("action").to_pylist()) if action != "learn"]
    assert found.column("prediction").take(odd).to_pylist() == [13]
    assert found.column("reason").take(odd).to_pylist() == ["the tick could not be learned: a bug in the learner"]
    happened(loop, predict(loop, rows([1] * 8)), 1.0)
    turn(loop)
    assert len(list(loop.storage.examples.batches(found.num_rows))) == 1  # whole ticks again
    loop.close()
    assert same_as_replay(folder)


def test_serving_without_learning_records_and_follows(folder: Path, clock: Clock) -> None:
    loop = opened(folder, clock, learn=False)
    ids = predict(loop, rows([1, 2]))
    happened(loop, ids, 1.0)
    turn(loop)
    assert (loop.live.scorer.version, loop.learner.waiting) == ("1.0.0", 2)
    published(folder, version="2.0.0", clock=clock)
    clock.now += 1.0
    turn(loop)
    assert loop.live.scorer.version == "2.0.0"
    loop.close()
    learning = opened(folder, clock)
    turn(learning)
    assert (learning.live.scorer.version, learning.learner.waiting) == ("2.0.2", 0)
    learning.close()


def test_what_was_learned_is_kept_when_a_server_that_does_not_learn_follows(folder: Path, clock: Clock) -> None:
    loop = opened(folder, clock)
    learn(loop, [1, 2], 1.0)
    copy = folder.parent / "copy"
    shutil.copytree(folder, copy)  # what a crash leaves: learned, and no version of it
    loop.close()
    serving = opened(copy, clock, learn=False)
    assert serving.live.scorer.version == "1.0.2"
    assert serving.rollback("1.0.0", "look", "ann") == "1.0.0"
    assert serving.publish("1.0.2", "back", "ann").version == "1.0.2"
    serving.close()


def test_what_a_crash_leaves_is_gone_on_from(folder: Path, clock: Clock) -> None:
    loop = opened(folder, clock)
    ids = learn(loop, [1, 2, 3], 1.0)
    happened(loop, ids[:1], 0.0, "correct")
    copy = folder.parent / "copy"
    shutil.copytree(folder, copy)
    turn(loop)
    crashed = opened(copy, clock)
    turn(crashed)
    assert crashed.live.scorer.version == loop.live.scorer.version == "1.0.4"
    assert same_model(crashed.learner.model, loop.learner.model)
    assert same_model(crashed.live.scorer.model, loop.live.scorer.model)
    loop.close()
    crashed.close()
    assert same_as_replay(copy)


@pytest.fixture
def stopped(folder: Path, clock: Clock) -> Path:
    loop = opened(folder, clock)
    learn(loop, [1, 2, 3], 1.0)
    loop.close()
    return folder


def test_a_damaged_segment_is_named(stopped: Path, clock: Clock) -> None:
    segment = next((stopped / "ledger" / "outcomes").glob("*.arrow"))
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 0xFF
    segment.write_bytes(data)
    with pytest.raises(StateError, match=segment.name):
        opened(stopped, clock)


def test_a_state_that_was_cut_off_is_named(stopped: Path, clock: Clock) -> None:
    data = stopped / "live" / "data.mdb"
    data.write_bytes(data.read_bytes()[:4096])
    with pytest.raises(StateError, match=r"data\.mdb|live"):
        opened(stopped, clock)


def test_a_state_that_was_removed_is_not_begun_anew_in_silence(stopped: Path, clock: Clock) -> None:
    shutil.rmtree(stopped / "live")
    for _ in range(2):
        with pytest.raises(StateError, match=r"live holds nothing, but .* restore it from a copy, or move .* ledger"):
            opened(stopped, clock)
    with pytest.raises(StateError, match="holds nothing"):
        audit(stopped, CALM)
    shutil.move(stopped / "ledger", stopped / "old-ledger")
    loop = opened(stopped, clock)
    assert loop.live.scorer.version == "1.0.3"
    learn(loop, [1], 1.0)
    assert loop.live.scorer.version == "1.1.1"
    loop.close()


def test_old_versions_are_pruned_but_not_the_base(folder: Path, clock: Clock) -> None:
    loop = opened(folder, clock, pace=Pace(tick=0.002, snapshot=10.0, keep=2))
    for _ in range(5):
        learn(loop, [1], 1.0)
        clock.now += 40.0
        turn(loop)
        loop._house.keep(loop.learner, loop.now())
    kept = sorted(path.name for path in (folder / "versions").iterdir())
    assert kept == ["1.0.0", "1.0.4", "1.0.5"]
    loop.close()
