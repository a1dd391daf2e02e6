"""A log that may not write: a limit, a full disk, a read-only folder. It keeps what it has and goes on afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from store_rows import SCHEMA, batch, filled, values
from tests.store.log_parts import open_file, ran

from nearline import StateError
from nearline.store import Log

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
