"""The registry: versions never change, the history only grows, the pointer moves whole and everybody sees it."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearline import DataError, Fixed, GLMix, Random, Schema, StateError
from nearline.store import Conflict, Registry, Version

V = Version.parse
ANN: Any = {"who": "ann", "why": "test"}


class Clock:
    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry(tmp_path: Path, clock: Clock) -> Iterator[Registry]:
    registry = Registry(tmp_path, clock=clock)
    yield registry
    registry.close()


def staged(registry: Registry, text: str = "{}") -> Path:
    """A folder as `GLMix.save` leaves it, as far as the registry looks."""
    folder = registry.stage()
    (folder / "manifest.json").write_text(text)
    (folder / "state-1.safetensors").write_bytes(b"numbers")
    return folder


def register(registry: Registry, *names: str, **options: Any) -> None:
    for name in names:
        registry.register(staged(registry, name), V(name), **{**ANN, **options})


def publish(registry: Registry, *names: str) -> None:
    for name in names:
        if not any(record.version == V(name) for record in registry.versions()):
            register(registry, name)
        registry.publish(V(name), **ANN)


def live(registry: Registry) -> str | None:
    record = registry.live()
    return None if record is None else str(record.version)


# -- versions ----------------------------------------------------------------------------------------------------------


@given(a=st.tuples(*[st.integers(0, 2000)] * 3), b=st.tuples(*[st.integers(0, 2000)] * 3))
def test_versions_order_as_their_numbers_and_survive_text(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    one, two = Version(*a), Version(*b)
    assert (one < two, one == two) == (a < b, a == b)
    assert V(str(one)) == one
    assert one.base <= one < one.next_batch() < one.next_whole()
    assert one.base.at(one.nearline) == one


@pytest.mark.parametrize("text", ["", "1", "1.2", "1.2.3.4", "1.2.x", "v1.2.3", "01.2.3", "1.2.-3", " 1.2.3", "1.2.٣"])
def test_other_texts_are_no_versions(text: str) -> None:
    with pytest.raises(DataError, match=r"write global\.batch\.nearline"):
        V(text)


@pytest.mark.parametrize("numbers", [(-1,), (1, 2.0), (True,), (2**63,)])
def test_other_numbers_are_no_versions(numbers: Any) -> None:
    with pytest.raises(DataError, match="whole number"):
        Version(*numbers)


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


# -- several processes -------------------------------------------------------------------------------------------------


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


PUBLISHER = """
    import sys, time
    from nearline.store import Conflict, Registry, Version
    registry, name = Registry(sys.argv[1], clock=time.time), sys.argv[2]
    won = lost = 0
    for n in range(1, 26):
        version = Version(int(name), n)
        folder = registry.stage()
        (folder / "manifest.json").write_text(str(version))
        registry.register(folder, version, who=name, why="race")
        while True:
            live = registry.live()
            try:
                registry.publish(version, who=name, why="race", expected=live and live.version)
                won += 1
                break
            except Conflict:
                lost += 1
    print(won, lost)
"""


def test_two_processes_publish_and_none_overwrites_the_other(tmp_path: Path) -> None:
    """Compare and set: every publish names as previous what the publish before it made live. Both create the file."""
    processes = [child(PUBLISHER, tmp_path, name) for name in ("1", "2")]
    for process in processes:
        out, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
        assert out.split()[0] == "25"
    registry = Registry(tmp_path, clock=time.time)
    changes = [change for change in reversed(registry.history()) if change.action == "publish"]
    assert len(changes) == 50
    assert [change.previous for change in changes] == [None, *(change.version for change in changes[:-1])]
    assert [change.number for change in registry.history()] == list(range(100, 0, -1))
    registry.close()


def test_a_follower_in_another_process_sees_a_publish_in_time(registry: Registry, tmp_path: Path) -> None:
    register(registry, "1.0.0", "1.1.0")
    publish(registry, "1.0.0")
    follower = child(
        """
        import sys, time
        from nearline.store import Registry
        registry = Registry(sys.argv[1], clock=time.time)
        follower = registry.follow()
        assert follower.poll() is None
        print("ready", flush=True)
        while (change := follower.poll()) is None:
            time.sleep(0.02)
        print(time.time(), change.version, flush=True)
        assert follower.poll() is None
        """,
        tmp_path,
    )
    assert follower.stdout is not None
    assert follower.stdout.readline() == "ready\n"
    published = time.time()
    publish(registry, "1.1.0")
    out, error = follower.communicate(timeout=30)
    assert follower.returncode == 0, error
    seen, version = out.split()
    assert version == "1.1.0"
    assert float(seen) - published < 2.0  # 0.2 s on a machine that does nothing else: benchmarks/state.py measures it


def test_readers_read_while_a_writer_is_at_work(registry: Registry, tmp_path: Path) -> None:
    publish(registry, "1.0.0")
    reader = Registry(tmp_path, clock=time.time, patience=0.0)
    with registry._database.transaction() as connection:
        connection.execute("INSERT INTO history VALUES (99, 1e9, 'publish', '1.0.0', NULL, 'x', 'y')")
        assert [change.number for change in reader.history()] == [2, 1]
        assert live(reader) == "1.0.0"
    assert reader.history(1)[0].number == 99
    reader.close()


def test_a_locked_registry_is_waited_for_and_then_said(registry: Registry, tmp_path: Path) -> None:
    register(registry, "1.0.0")
    other = sqlite3.connect(tmp_path / "registry.sqlite", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.3, lambda: other.execute("ROLLBACK"))
    release.start()
    registry.publish(V("1.0.0"), **ANN)  # waits
    release.join()
    other.execute("BEGIN IMMEDIATE")
    hasty = Registry.__new__(Registry)
    with pytest.raises(StateError, match=r"another process has held the registry for 0\.1 s; try again"):
        hasty.__init__(tmp_path, clock=time.time, patience=0.1)  # type: ignore[misc]
    other.execute("ROLLBACK")
    other.close()


def test_threads_share_a_registry(registry: Registry) -> None:
    names = [f"{n}.0.0" for n in range(16)]
    threads = [threading.Thread(target=publish, args=(registry, name)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(str(c.version).split(".")[0]) for c in registry.history() if c.action == "publish") == [
        *range(16)
    ]


CRASHING = """
    import sys, time
    from nearline.store import Registry, Version
    registry = Registry(sys.argv[1], clock=time.time)
    n = max([record.version.whole for record in registry.versions()], default=0)
    print("ready", flush=True)
    while True:
        n += 1
        folder = registry.stage()
        (folder / "manifest.json").write_text(str(n))
        registry.register(folder, Version(n), who="x", why="y")
        registry.publish(Version(n), who="x", why="y")
        print(n, flush=True)
"""


def test_after_sigkill_at_any_moment_the_registry_is_whole(tmp_path: Path) -> None:
    """Eight kills: what was acknowledged is live, every registered version has its folder, and work goes on."""
    delays, last = random.Random(3), 0
    for _ in range(8):
        process = child(CRASHING, tmp_path)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(delays.uniform(0.0, 0.2))
        process.send_signal(signal.SIGKILL)
        lines = process.communicate()[0].split("\n")
        last = max([last, *map(int, lines[:-1])])
        registry = Registry(tmp_path, clock=time.time)
        record = registry.live()
        number = 0 if record is None else record.version.whole
        assert last <= number <= last + 1
        for known in registry.versions():
            assert (registry.path(known.version) / "manifest.json").read_text() == str(known.version.whole)
        last = max(last, number)
        registry.retain(1000, **ANN)
        assert not list(registry.versions_folder.glob(".new-*"))
        registry.close()
    assert last > 8


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["text", "truncated", "scribbled"])
def test_a_damaged_database_is_said_with_the_fix(tmp_path: Path, clock: Clock, damage: str) -> None:
    registry = Registry(tmp_path, clock=clock)
    publish(registry, *(f"1.{n}.0" for n in range(40)))
    registry.close()
    path = tmp_path / "registry.sqlite"
    data = path.read_bytes()
    bad = {"text": json.dumps({"no": "database"} | {str(n): n for n in range(999)}).encode(), "truncated": data[:6000]}
    path.write_bytes(bad.get(damage, data[:100] + os.urandom(200) + data[300:]))
    with pytest.raises(StateError, match=r"registry\.sqlite.*restore it from a copy, or move registry\.sqlite\* away"):
        Registry(tmp_path, clock=clock)
    # The fix that the message names: the folders are all there and can be registered again.
    for found in tmp_path.glob("registry.sqlite*"):
        found.unlink()
    registry = Registry(tmp_path, clock=clock)
    for number in range(40):
        version = Version(1, number)
        registry.register(registry.versions_folder / str(version), version, **ANN)
    registry.publish(Version(1, 39), **ANN)
    assert live(registry) == "1.39.0"
    registry.close()


def test_a_database_of_something_else_is_refused(tmp_path: Path, clock: Clock) -> None:
    other = sqlite3.connect(tmp_path / "registry.sqlite")
    other.execute("CREATE TABLE t (x)")
    other.commit()
    other.close()
    with pytest.raises(StateError, match="is no registry of format 1"):
        Registry(tmp_path, clock=clock)


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match=r"cannot be made.*give the process a folder that it may write"):
        Registry(tmp_path / "file" / "state", clock=clock)


def test_a_closed_registry_says_so(tmp_path: Path, clock: Clock) -> None:
    registry = Registry(tmp_path, clock=clock)
    registry.close()
    with pytest.raises(StateError, match="the registry was closed; open it again"):
        registry.live()
