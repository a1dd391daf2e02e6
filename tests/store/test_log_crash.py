"""A log after kill -9, an interruption of upkeep or a failed sync: nothing durable is lost or skipped."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest
from store_rows import SCHEMA, batch, filled, values
from tests.store.log_parts import child, ran

from nearline import StateError
from nearline.store import Log

KILLED = """
folder, seed = Path(sys.argv[1]), int(sys.argv[2])
log = Log.open(folder, SCHEMA, segment_rows=50)
print("first", log.end, flush=True)
for i in range(100000):
    at = log.next
    log.append(batch(*range(at, at + 1 + (i * seed) % 7)))
    if i % 3 == 0:
        print(log.commit(), flush=True)
    if i % 40 == 0:
        log.seal(); log.compact()
    if i % 97 == 0:
        log.truncate(log.end)
"""


def test_a_killed_writer_loses_nothing_that_it_had_acknowledged(tmp_path: Path) -> None:
    acknowledged = 0
    for seed in range(1, 9):
        with child(KILLED, tmp_path, seed) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("first")
            for _ in range(10 + 23 * seed):
                acknowledged = int(process.stdout.readline())
            os.kill(process.pid, signal.SIGKILL)
            for line in process.stdout.read().split("\n")[:-1]:
                acknowledged = int(line)
        with Log.open(tmp_path, SCHEMA) as log:
            assert log.end >= acknowledged
            assert values(log.read(0)) == list(range(log.end))
    assert acknowledged > 1000


SEALING = """
import shutil
start, folder = Path(sys.argv[1]), Path(sys.argv[2])

def interrupted(step):
    # Dies before the call after so many that change the folder.
    left = step
    def counted(real):
        def call(*arguments, **options):
            nonlocal left
            left -= 1
            if left < 0:
                os._exit(9)
            return real(*arguments, **options)
        return call
    log = Log.open(folder, SCHEMA, segment_rows=5)
    for home in (os, Path):
        for name in ("rename", "unlink", "fsync", "ftruncate", "truncate"):
            if hasattr(home, name):
                setattr(home, name, counted(getattr(home, name)))
    log.seal(active=True)
    log.compact()
    log.truncate(17)
    log.retain(6)
    os._exit(0)

code, step = 9, 0
while code == 9:
    shutil.copytree(start, folder)
    child = os.fork()
    if not child:
        interrupted(step)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with Log.open(folder, SCHEMA, segment_rows=5) as log:
        at = log.end
        assert at in (17, 21) and log.first <= 6, (step, log.first, at)
        assert values(log.read(log.first)) == list(range(log.first, at)), step
        assert log.append(batch(at)) == at
    with Log.open(folder, SCHEMA) as log:
        assert values(log.read(log.first)) == list(range(log.first, at + 1)), step
    assert not list(folder.glob("*.tmp"))
    names = [path.stem for path in folder.iterdir() if path.suffix in (".arrow", ".parquet")]
    assert len(set(names)) == len(names), names
    shutil.rmtree(folder)
    step += 1
assert code == 0, code
print(step, at)
"""


def test_an_interruption_at_any_step_of_upkeep_leaves_a_log_that_opens(tmp_path: Path) -> None:
    filled(tmp_path / "start", 2, 3, 4, 1, 5, 2, 4, segment_rows=5).close()
    steps, end = ran(SEALING, tmp_path / "start", tmp_path / "log").split()
    assert int(steps) > 15
    assert int(end) == 17


def test_two_writers_are_refused_and_readers_are_not(tmp_path: Path) -> None:
    with filled(tmp_path, 3) as log:
        with pytest.raises(StateError, match="already open for writing"):
            Log.open(tmp_path, SCHEMA)
        says = ran("try:\n    Log.open(sys.argv[1], SCHEMA)\nexcept StateError as error:\n    print(error)", tmp_path)
        assert "already open for writing" in says
        with Log.open(tmp_path, SCHEMA, read_only=True) as reader:
            log.append(batch(3))
            assert reader.refresh() == 3
            log.commit()
            assert (reader.end, reader.refresh(), values(reader.read(2))) == (3, 4, [2, 3])
            log.seal(active=True)
            log.append(batch(4))
            log.commit()
            assert values(reader.take([3, 0])) == [3, 0]
            assert (reader.refresh(), values(reader.read(0))) == (5, [0, 1, 2, 3, 4])
            assert values(reader.dataset().to_table()) == [0, 1, 2, 3, 4]
            for change in (lambda: reader.append(batch(5)), reader.seal, lambda: reader.retain(1), reader.commit):
                with pytest.raises(StateError, match="read-only"):
                    change()
    with pytest.raises(StateError, match="there is no log"):
        Log.open(tmp_path / "nothing", SCHEMA, read_only=True)


def test_after_a_failed_sync_nothing_counts_as_durable_until_the_log_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with filled(tmp_path, 3) as log:
        log.append(batch(3))

        def fails(_: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        with monkeypatch.context() as patch:
            # No file system at hand fails a sync on demand.
            patch.setattr(os, "fdatasync", fails)
            with pytest.raises(StateError, match=r"cannot make the file durable: .*check it before going on"):
                log.commit()
        assert (log.end, log.next) == (3, 3)
        with pytest.raises(StateError, match=r"a sync failed .*; open the log again"):
            log.append(batch(3))
        assert values(log.read(0)) == [0, 1, 2]
    with Log.open(tmp_path, SCHEMA) as log:
        assert (log.append(batch(3)), log.commit()) == (3, 4)
