"""The registry: versions never change, the history only grows, and what is live can go back."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from tests.store.registry_parts import ANN, Clock, V, live, publish, register, staged

from nearline import DataError, Fixed, GLMix, Random, Schema, StateError
from nearline.store import Conflict, Registry

# -- registering -------------------------------------------------------------------------------------------------------


def test_a_registered_model_is_moved_whole_and_described(registry: Registry, tmp_path: Path) -> None:
    model = GLMix(Schema(label="y"), Fixed("x"), [Random("user")])
    model.partial_fit({"user": ["a", "b"], "x": [0.5, 1.5], "y": [1, 0]})
    register(registry, "1.0.0")
    folder = model.save(registry.stage())
    record = registry.register(
        folder, V("1.0.900"), who="learner", why="hourly", parent=V("1.0.0"), metrics={"log_loss": 0.34},
        positions={"examples": 900}, config="abc",
    )  # fmt: skip
    assert not folder.exists()
    assert record.folder == tmp_path / "versions" / "1.0.900" == registry.path(V("1.0.900"))
    assert (record.created, record.who, record.why, str(record.parent)) == (1000.0, "learner", "hourly", "1.0.0")
    assert (record.metrics, record.positions, record.config) == ({"log_loss": 0.34}, {"examples": 900}, "abc")
    assert GLMix.load(record.folder).events_learned == 2
    assert [str(found.version) for found in registry.versions()] == ["1.0.900", "1.0.0"]
    assert live(registry) is None


def test_a_version_is_registered_once(registry: Registry) -> None:
    register(registry, "1.0.0")
    other = staged(registry, "other")
    with pytest.raises(StateError, match=r"version 1\.0\.0 exists already; versions are immutable"):
        registry.register(other, V("1.0.0"), **ANN)
    assert (other / "manifest.json").exists()
    assert (registry.path(V("1.0.0")) / "manifest.json").read_text() == "1.0.0"


def test_what_is_no_version_is_refused(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"manifest\.json is missing; save one with GLMix\.save"):
        registry.register(registry.stage(), V("1.0.0"), **ANN)
    with pytest.raises(StateError, match=r"names the parent 0\.9\.0, which is not registered"):
        registry.register(staged(registry), V("1.0.0"), parent=V("0.9.0"), **ANN)
    with pytest.raises(DataError, match="why='' is empty"):
        registry.register(staged(registry), V("1.0.0"), who="ann", why="")
    assert registry.versions() == []
    assert registry.history() == []
    with pytest.raises(StateError, match=r"version 1\.0\.0 is not registered; the newest are \[\]"):
        registry.publish(V("1.0.0"), **ANN)


def test_a_folder_that_a_crash_left_is_replaced(registry: Registry) -> None:
    """The process died after it had moved the folder and before it had said so."""
    (registry.versions_folder / "1.0.0").mkdir()
    (registry.versions_folder / "1.0.0" / "manifest.json").write_text("half")
    register(registry, "1.0.0")
    assert (registry.path(V("1.0.0")) / "manifest.json").read_text() == "1.0.0"
    # What stands there already can be registered where it is, as after the loss of the database.
    shutil.copytree(registry.path(V("1.0.0")), registry.versions_folder / "1.1.0")
    registry.register(registry.versions_folder / "1.1.0", V("1.1.0"), **ANN)
    assert registry.path(V("1.1.0")).exists()


def test_an_altered_or_missing_folder_is_not_published(registry: Registry) -> None:
    register(registry, "1.0.0", "1.1.0")
    (registry.versions_folder / "1.0.0" / "manifest.json").write_text("altered")
    shutil.rmtree(registry.versions_folder / "1.1.0")
    for name in ("1.0.0", "1.1.0"):
        with pytest.raises(StateError, match="missing or not as it was registered"):
            registry.publish(V(name), **ANN)
    assert live(registry) is None


# -- what is live ------------------------------------------------------------------------------------------------------


def test_publish_and_history(registry: Registry, clock: Clock) -> None:
    register(registry, "1.0.0", "1.0.50")
    clock.now = 2000.0
    assert registry.publish(V("1.0.0"), who="ann", why="first").previous is None
    clock.now = 3000.0
    change = registry.publish(V("1.0.50"), who="loop", why="better", expected=V("1.0.0"))
    assert (change.number, change.time, change.action, str(change.previous)) == (4, 3000.0, "publish", "1.0.0")
    assert live(registry) == "1.0.50"
    assert [(c.action, str(c.version), c.who, c.why) for c in registry.history(2)] == [
        ("publish", "1.0.50", "loop", "better"),
        ("publish", "1.0.0", "ann", "first"),
    ]
    assert [c.number for c in registry.history()] == [4, 3, 2, 1]
    assert registry.publish(V("1.0.50"), **ANN) == change  # it is live: nothing happens
    assert len(registry.history()) == 4


def test_what_was_live_at_a_time(registry: Registry, clock: Clock) -> None:
    publish(registry, "1.0.0")
    clock.now = 2000.0
    publish(registry, "1.1.0")
    clock.now = 500.0  # a clock that was set back does not turn the history round
    publish(registry, "1.2.0")
    clock.now = 3000.0
    registry.rollback(**ANN)
    times = [999.9, 1000.0, 1999.9, 2000.0, 2999.0, 3000.0, 9e9]
    found = [registry.live_at(time) for time in times]
    assert [None if f is None else str(f.version) for f in found] == [
        None, "1.0.0", "1.0.0", "1.2.0", "1.2.0", "1.1.0", "1.1.0",
    ]  # fmt: skip
    assert [change.time for change in registry.history()] == sorted((c.time for c in registry.history()), reverse=True)


def test_publish_compares_and_sets(registry: Registry) -> None:
    register(registry, "1.0.0", "1.1.0", "1.2.0")
    registry.publish(V("1.0.0"), expected=None, **ANN)
    for wrong in (None, V("1.1.0")):
        with pytest.raises(Conflict, match=r"version 1\.0\.0 is live, not .*: somebody published meanwhile"):
            registry.publish(V("1.2.0"), expected=wrong, **ANN)
    with pytest.raises(Conflict):
        registry.rollback(V("1.1.0"), expected=V("1.2.0"), **ANN)
    assert live(registry) == "1.0.0"


def test_rollbacks_go_back_step_by_step_and_are_logged(registry: Registry) -> None:
    publish(registry, "1.0.0", "1.1.0", "1.2.0")
    assert registry.rollback(who="guard", why="worse than stale").action == "rollback"
    assert live(registry) == "1.1.0"
    registry.rollback(**ANN)
    assert live(registry) == "1.0.0"
    with pytest.raises(StateError, match=r"nothing was live before version 1\.0\.0"):
        registry.rollback(**ANN)
    publish(registry, "1.3.0")
    registry.rollback(**ANN)
    assert live(registry) == "1.0.0"  # not 1.2.0, which was rolled back from
    assert [(c.action, str(c.version), str(c.previous)) for c in registry.history(1)] == [
        ("rollback", "1.0.0", "1.3.0")
    ]


def test_a_rollback_to_a_named_version(registry: Registry) -> None:
    register(registry, "0.9.0")
    publish(registry, "1.0.0", "1.1.0", "1.2.0")
    registry.rollback(V("1.0.0"), **ANN)
    assert live(registry) == "1.0.0"
    registry.rollback(V("0.9.0"), **ANN)  # never live so far: it goes on top
    registry.rollback(**ANN)
    assert live(registry) == "1.0.0"
    with pytest.raises(StateError, match=r"version 7\.0\.0 is not registered"):
        registry.rollback(V("7.0.0"), **ANN)


def test_nothing_live_cannot_be_rolled_back(registry: Registry) -> None:
    register(registry, "1.0.0")
    with pytest.raises(StateError, match="nothing is live, so there is nothing to roll back"):
        registry.rollback(**ANN)


def test_the_history_only_grows(registry: Registry, tmp_path: Path) -> None:
    publish(registry, "1.0.0")
    direct = sqlite3.connect(tmp_path / "registry.sqlite")
    for table in ("versions", "history"):
        for statement in (f"UPDATE {table} SET who = 'eve'", f"DELETE FROM {table}"):
            with pytest.raises(sqlite3.IntegrityError, match=f"{table} only grows"):
                direct.execute(statement)
    direct.close()
    assert [c.who for c in registry.history()] == ["ann", "ann"]


# -- upkeep ------------------------------------------------------------------------------------------------------------


def test_retain_keeps_what_is_needed(registry: Registry) -> None:
    register(registry, "1.0.0", "1.0.1", "1.1.0", "1.1.7")
    register(registry, "1.1.9", parent=V("1.0.1"))
    register(registry, "1.2.0", "1.3.0", "1.4.0", "1.5.0")
    publish(registry, "1.0.0", "1.1.7", "1.1.9")
    gone = registry.retain(2, also=[V("1.3.0")], **ANN)
    assert sorted(map(str, gone)) == ["1.0.0", "1.2.0"]
    kept = {path.name for path in registry.versions_folder.iterdir()}
    # Live, its base, its parent, the rollback's target, the two newest, and the one asked for.
    assert kept == {"1.1.9", "1.1.0", "1.0.1", "1.1.7", "1.4.0", "1.5.0", "1.3.0"}
    assert len(registry.versions()) == 9
    assert [c.action for c in registry.history(2)] == ["prune", "prune"]
    with pytest.raises(StateError, match=r"version 1\.0\.0 was pruned; choose one of"):
        registry.publish(V("1.0.0"), **ANN)
    registry.rollback(**ANN)
    with pytest.raises(StateError, match="that is still kept"):
        registry.rollback(**ANN)
    assert registry.retain(2, also=[V("1.3.0"), V("1.1.9"), V("1.0.1")], **ANN) == []
    with pytest.raises(DataError, match=r"retain\(keep=0\)"):
        registry.retain(0, **ANN)


def test_retain_clears_what_dead_processes_left(registry: Registry) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    left = registry.versions_folder / f".new-{process.pid}-x"
    left.mkdir()
    mine = registry.stage()
    registry.retain(1, **ANN)
    assert not left.exists()
    assert mine.exists()
