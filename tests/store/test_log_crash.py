"""A log after kill -9, a torn write, damage, a full disk, a read-only folder: nothing durable is lost or skipped."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from store_rows import SCHEMA, batch, filled, values

from nearline import ConfigError, StateError
from nearline.store import Log, _view
from nearline.store._sealed import ParquetSegment, RowGroups, write_sealed

HERE = Path(__file__).parent


def open_file(folder: Path) -> Path:
    """The active segment."""
    return max(folder.glob("*.arrow"))


def child(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """A Python process with the names of the tests."""
    lead = (
        "import sys, os\nfrom pathlib import Path\n"
        f"sys.path.insert(0, {str(HERE)!r})\n"
        "from store_rows import SCHEMA, batch, filled, values\n"
        "from nearline import StateError\nfrom nearline.store import Log\n"
    )
    command = [sys.executable, "-c", lead + code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def ran(code: str, *arguments: object, **options: Any) -> str:
    """What a child says that ends well."""
    with child(code, *arguments, **options) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.strip()


def narrow(*numbers: int) -> Any:
    """A batch of one column, so that every byte can be tried."""
    return pa.record_batch([pa.array(numbers, pa.int64())], names=["n"])


def test_a_tail_cut_at_any_byte_leaves_what_was_durable(tmp_path: Path) -> None:
    schema = narrow(0).schema
    log = Log.open(tmp_path / "log", schema)
    log.append(narrow(0, 1, 2))
    log.commit()
    path = open_file(tmp_path / "log")
    durable, middle = path.stat().st_size, []
    for part in (narrow(3, 4), narrow(5)):
        log.append(part)
        middle.append(path.stat().st_size)
    # The process is gone: no commit, no close.
    shutil.copytree(tmp_path / "log", tmp_path / "torn")
    log.close()
    torn = open_file(tmp_path / "torn")
    whole = torn.read_bytes()
    assert len(whole) == middle[1]
    for size in range(durable, len(whole) + 1):
        torn.write_bytes(whole[:size])
        (tmp_path / "torn" / "durable.json").write_text(json.dumps({"durable": 3}).ljust(63) + "\n")
        end = 3 + 2 * (size >= middle[0]) + (size >= middle[1])
        with Log.open(tmp_path / "torn", schema) as again:
            assert (again.end, again.read(0)["n"].to_pylist()) == (end, list(range(end)))
            assert bool(again.notes) == (size not in (durable, *middle))
            assert again.append(narrow(end)) == end
        with Log.open(tmp_path / "torn", schema, read_only=True) as once_more:
            assert once_more.read(0)["n"].to_pylist() == list(range(end + 1))


def test_a_cut_tail_is_said_with_its_file_and_byte(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(tmp_path, 3).close()
    path = open_file(tmp_path)
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"\xff\xff\xff\xff\x10")
    Log.open(tmp_path, SCHEMA).close()
    assert f"{path.name}: cut at byte {size} (position 3) of {size + 5}" in caplog.text


@pytest.mark.parametrize("garbage", [b"\0" * 4096, b"\xff" * 64, os.urandom(999)], ids=["zeros", "ones", "noise"])
def test_pages_that_were_never_written_are_a_torn_tail(tmp_path: Path, garbage: bytes) -> None:
    filled(tmp_path, 3).close()
    with open_file(tmp_path).open("ab") as file:
        file.write(garbage)
    with Log.open(tmp_path, SCHEMA) as log:
        assert values(log.read(0)) == [0, 1, 2]


def test_a_durable_row_that_is_gone_is_never_taken_for_a_torn_tail(tmp_path: Path) -> None:
    filled(tmp_path, 3, 2).close()
    path = open_file(tmp_path)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(StateError, match=r"durable|schema is not whole"):
            Log.open(tmp_path, SCHEMA)
    path.unlink()
    with pytest.raises(StateError, match="holds 0 rows of 5 durable ones"):
        Log.open(tmp_path, SCHEMA)


def test_any_altered_byte_of_a_stream_is_noticed_or_harmless(tmp_path: Path) -> None:
    filled(tmp_path, 3, 2, 1).close()
    path = open_file(tmp_path)
    whole = path.read_bytes()
    noticed = 0
    for at in range(len(whole)):
        altered = bytearray(whole)
        altered[at] ^= 0x55
        path.write_bytes(altered)
        try:
            with Log.open(tmp_path, SCHEMA) as log:
                assert values(log.read(0)) == list(range(6)), at
        except StateError as error:
            noticed += path.name in str(error) and "byte" in str(error)
    assert noticed == len(whole)


def test_damage_is_told_from_a_torn_tail_without_the_mark_too(tmp_path: Path) -> None:
    # After a power failure the mark may lag behind; a later message says what was durable when it was written.
    filled(tmp_path, 3, 2, 1).close()
    path = open_file(tmp_path)
    (tmp_path / "durable.json").unlink()
    data = bytearray(path.read_bytes())
    data[data.index("värde 1".encode())] ^= 1
    path.write_bytes(data)
    with pytest.raises(StateError, match=r"byte \d+: the checksum does not match, where position 0 should be of 5"):
        Log.open(tmp_path, SCHEMA)


def test_damage_below_an_open_log_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    with filled(tmp_path, 3, 2, memory_bytes=0) as log:
        log.append(batch(*range(5, 600)))
        log.commit()
        path = open_file(tmp_path)
        data = bytearray(path.read_bytes())
        data[data.index("värde 4".encode())] ^= 1
        path.write_bytes(data)
        with pytest.raises(StateError, match=rf"{path.name}, byte \d+ \(position 3\): the checksum does not match"):
            log.take([4])
        assert values(log.take([1, 599])) == [1, 599]


def test_any_altered_byte_of_a_parquet_file_is_noticed_or_harmless(tmp_path: Path) -> None:
    with filled(tmp_path, 30, 20) as log:
        log.seal(active=True)
    [path] = tmp_path.glob("*.parquet")
    whole = path.read_bytes()
    rng = np.random.default_rng(5)
    noticed = 0
    for at in range(len(whole)):
        altered = bytearray(whole)
        altered[at] ^= int(rng.integers(1, 256))
        path.write_bytes(altered)
        try:
            with Log.open(tmp_path, SCHEMA) as log:
                rows = log.read(0)
                assert values(rows) == list(range(50)), at
        except StateError as error:
            noticed += path.name in str(error)
    assert noticed == len(whole)


def test_a_truncated_parquet_file_is_refused(tmp_path: Path) -> None:
    with filled(tmp_path, 30) as log:
        log.seal(active=True)
    [path] = tmp_path.glob("*.parquet")
    whole = path.read_bytes()
    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        with pytest.raises(StateError, match=rf"{path.name}, footer"):
            Log.open(tmp_path, SCHEMA)


def test_a_missing_segment_is_a_gap_and_refused(tmp_path: Path) -> None:
    with filled(tmp_path, 3, 3, 3, segment_rows=3) as log:
        log.seal()
    sorted(tmp_path.glob("*.parquet"))[1].unlink()
    with pytest.raises(StateError, match=r"begins at position 6, where 3 should follow"):
        Log.open(tmp_path, SCHEMA)


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


LIMITED = """
import resource
folder = Path(sys.argv[1])
log = Log.open(folder, SCHEMA)
log.append(batch(0, 1, 2)); log.commit()
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
size = max(folder.glob("*.arrow")).stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1500, hard))
log.append(batch(3))
size = max(folder.glob("*.arrow")).stat().st_size
try:
    log.append(batch(*range(4, 200)))
except StateError as error:
    print(error)
assert max(folder.glob("*.arrow")).stat().st_size == size
assert log.next == 4 and log.commit() == 4
try:
    log.append(batch(*range(4, 200)))
except StateError:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
assert log.append(batch(4, 5)) == 4 and log.commit() == 6
assert values(log.read(0)) == [0, 1, 2, 3, 4, 5]
os._exit(0) if not sys.stdout.flush() else None
"""


def test_a_file_that_may_not_grow_keeps_what_it_has_and_goes_on_afterwards(tmp_path: Path) -> None:
    says = ran(LIMITED, tmp_path)
    assert f"{open_file(tmp_path)}: cannot write" in says
    assert "raise the limit" in says
    with Log.open(tmp_path, SCHEMA) as log:
        assert values(log.read(0)) == [0, 1, 2, 3, 4, 5]
        assert not log.notes


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system of one mebibyte."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs more rights")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_loses_nothing_and_the_log_goes_on_when_there_is_room(small_disk: Path) -> None:
    blocker = small_disk / "blocker"
    with filled(small_disk / "log", 5) as log:
        blocker.write_bytes(b"x" * (900 << 10))
        end = log.end
        with pytest.raises(StateError, match=r"cannot write .*the disk is full; free space"):  # noqa: PT012
            for _ in range(100):
                log.append(batch(*range(log.next, log.next + 200)))
                end = log.commit()
        assert (log.end, log.next) == (end, end)
        with pytest.raises(StateError, match="the disk is full"):
            log.seal(active=True)
        assert values(log.read(0)) == list(range(end))
        blocker.unlink()
        log.append(batch(end))
        log.commit()
        log.seal(active=True)
        assert values(log.read(0)) == list(range(end + 1))
    with Log.open(small_disk / "log", SCHEMA) as log:
        assert values(log.read(0)) == list(range(end + 1))


def test_a_full_disk_stops_opening_with_a_clear_word(small_disk: Path) -> None:
    with (small_disk / "blocker").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    with pytest.raises(StateError, match="the disk is full"):
        Log.open(small_disk / "log", SCHEMA)


UNPRIVILEGED = """
os.chmod(sys.argv[1], 0o555)
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    Log.open(sys.argv[1], SCHEMA)
except StateError as error:
    print(error)
try:
    Log.open(sys.argv[1] + "/new", SCHEMA)
except StateError as error:
    print(error)
print(values(Log.open(sys.argv[1], SCHEMA, read_only=True).read(0)))
"""


def test_a_read_only_folder_is_refused_for_writing_and_read_all_the_same() -> None:
    folder = Path("/tmp") / f"nearline-read-only-{os.getpid()}"
    try:
        filled(folder, 3).close()
        (folder / "lock").chmod(0o444)
        writing, new, reading = ran(UNPRIVILEGED, folder).split("\n")
        assert "no permission" in writing
        assert "no permission" in new
        assert reading == "[0, 1, 2]"
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_a_damaged_mark_is_refused_and_can_be_removed(tmp_path: Path) -> None:
    filled(tmp_path, 3).close()
    (tmp_path / "durable.json").write_bytes(b"")
    with pytest.raises(StateError, match="remove it to accept"):
        Log.open(tmp_path, SCHEMA)
    (tmp_path / "durable.json").unlink()
    with Log.open(tmp_path, SCHEMA) as log:
        assert log.end == 3


def test_columns_may_come_and_go_and_a_kept_one_keeps_its_type(tmp_path: Path) -> None:
    filled(tmp_path, 3, 2).close()
    wider = pa.schema([*[SCHEMA.field(i) for i in (2, 0)], pa.field("new", pa.string())])
    with Log.open(tmp_path, wider) as log:
        log.append(pa.record_batch([[0.5], [5], ["here"]], schema=wider))
        log.commit()
        for sealed in (False, True):
            if sealed:
                log.seal(active=True)
                log.compact()
            assert log.take([5, 1])["new"].to_pylist() == ["here", None]
            assert log.read(0)["n"].to_pylist() == [0, 1, 2, 3, 4, 5]
            assert log.dataset().to_table().equals(log.read(0))
    with Log.open(tmp_path, SCHEMA) as log:
        assert log.read(4)["text"].to_pylist() == ["värde 4", None]
    with pytest.raises(StateError, match="column 'n' was written as int64 and is asked for as double"):
        Log.open(tmp_path, pa.schema({"n": pa.float64()}))
    Log.open(tmp_path, SCHEMA).close()


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        (pa.schema([]), "needs columns"),
        (pa.schema([("a", pa.int64()), ("a", pa.int64())]), "distinct names"),
        (pa.schema({"a": pa.dictionary(pa.int32(), pa.string())}), "column 'a': a log keeps plain values; use string"),
    ],
)
def test_a_schema_that_a_log_cannot_keep_is_refused(tmp_path: Path, schema: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Log.open(tmp_path, schema)


@pytest.mark.parametrize("setting", ["segment_rows", "segment_bytes"])
def test_limits_must_be_positive(tmp_path: Path, setting: str) -> None:
    with pytest.raises(ConfigError, match=f"{setting}=0"):
        Log.open(tmp_path, SCHEMA, **{setting: 0})


def test_small_sealed_segments_are_merged_and_their_boundaries_kept(tmp_path: Path) -> None:
    with filled(tmp_path, *[2] * 20, segment_rows=4) as log:
        assert log.seal(active=True) == 10
        log.segment_rows = 16
        assert log.compact() == 7
        assert len(list(tmp_path.glob("*.parquet"))) == 3
        assert [part.num_rows for _, part in log.batches(0)] == [2] * 20
        assert values(log.take([39, 0, 17])) == [39, 0, 17]
        assert log.compact() == 0


def test_the_active_segment_is_an_ordinary_arrow_stream(tmp_path: Path) -> None:
    with filled(tmp_path, 3, 2), pa.ipc.open_stream(open_file(tmp_path)) as stream:
        assert values(stream.read_all()) == [0, 1, 2, 3, 4]


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


def test_appends_come_one_by_one_across_stretches_of_a_long_segment(tmp_path: Path) -> None:
    lengths = [20_000, 1, 15_000, 40_000, 3]
    with Log.open(tmp_path, narrow().schema) as log:
        for length in lengths:
            log.append(narrow(*range(log.next, log.next + length)))
            log.commit()
        for _ in range(2):
            found = list(log.batches(0))
            assert [part.num_rows for _, part in found] == lengths
            assert all(part["n"][0].as_py() == position for position, part in found)
            log.seal(active=True)


def test_a_reader_in_the_middle_goes_on_when_files_are_merged_under_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_view, "_WINDOW", 1)
    with filled(tmp_path, *[2] * 12, segment_rows=4, memory_bytes=0) as log:
        log.seal(active=True)
        reading = log.batches(0)
        found = [next(reading)]
        log.segment_rows = 8
        assert log.compact() == 3
        found += [next(reading) for _ in range(3)]
        log.segment_rows = 1000
        assert log.compact() == 2
        found += reading
        assert [position for position, _ in found] == list(range(0, 24, 2))
        assert [values(part) for _, part in found] == [[i, i + 1] for i in range(0, 24, 2)]


def test_a_reader_whose_rows_retention_removes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_view, "_WINDOW", 1)
    with filled(tmp_path, *[2] * 6, segment_rows=2, memory_bytes=0) as log:
        log.seal(active=True)
        reading = log.batches(0)
        next(reading)
        log.retain(8)
        with pytest.raises(StateError, match="position 2 is no longer kept, the log begins at 8"):
            next(reading)


@pytest.mark.parametrize("groups", range(1, 40))
def test_checksums_hold_for_any_number_of_row_groups(tmp_path: Path, groups: int) -> None:
    # The footer keeps the length of their list in a byte before it, which can look like part of it.
    column = pa.schema({"n": pa.int64()})
    tables = (pa.table({"n": [i]}, schema=column) for i in range(groups))
    path = write_sealed(tmp_path, 0, column, range(groups + 1), tables, groups)
    segment = ParquetSegment(path, 0, column, RowGroups(0))
    assert segment.table(0, groups)["n"].to_pylist() == list(range(groups))
