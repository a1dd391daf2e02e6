"""The state store on disk: crashes, readers, growth, damage, full and read-only folders."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.store.state_parts import everything

from nearline import StateError
from nearline.store import Changes, LmdbStateStore


def child(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


COUNTER = """
    import sys
    from nearline.store import Changes, LmdbStateStore
    store = LmdbStateStore(sys.argv[1], map_size=1 << 17)
    with store.snapshot() as state:
        n = state.positions.get("examples", 0)
    print("ready", n, flush=True)
    while True:
        n += 1
        rows = {b"%04d" % (k * 7919 % 4000): n.to_bytes(8, "big") * 200 for k in range(n * 20, n * 20 + 20)}
        store.commit(Changes({"rows": {**rows, b"all": n.to_bytes(8, "big")}}, {"n": n}), {"examples": n})
        print(n, flush=True)
"""


def test_after_sigkill_at_any_moment_state_and_positions_agree(tmp_path: Path) -> None:
    """Twelve kills: nothing acknowledged is lost, and nothing of a commit is there without all of it."""
    delays, n = random.Random(5), 0
    for _ in range(12):
        writer = child(COUNTER, tmp_path)
        assert writer.stdout is not None
        assert writer.stdout.readline() == f"ready {n}\n"
        time.sleep(delays.uniform(0.0, 0.15))
        writer.send_signal(signal.SIGKILL)
        lines = writer.stdout.read().split("\n")
        writer.communicate()
        acknowledged = max([n, *map(int, lines[:-1])])
        store = LmdbStateStore(tmp_path)
        positions, meta, tables = everything(store, "rows")
        store.close()
        n = positions.get("examples", 0)
        assert acknowledged <= n <= acknowledged + 1, lines
        if n:
            assert meta == {"n": n}
            rows = tables["rows"]
            assert rows.pop(b"all") == n.to_bytes(8, "big")
            expected = {b"%04d" % (k * 7919 % 4000): k // 20 for k in range(20, n * 20 + 20)}
            assert {key: int.from_bytes(value[:8], "big") for key, value in rows.items()} == expected
    assert n > 12


def test_reader_processes_see_whole_commits_while_the_writer_goes_on(tmp_path: Path) -> None:
    """Across a growth of the file, too: the writer's map is 64 KiB to begin with."""
    store = LmdbStateStore(tmp_path, map_size=1 << 16)
    store.commit(Changes({"rows": {b"%03d" % k: bytes(100) for k in range(100)}}), {"examples": 0})
    reader = child(
        """
        import sys
        from nearline.store import LmdbStateStore
        store, seen = LmdbStateStore(sys.argv[1], read_only=True), set()
        print("ready", flush=True)
        while max(seen, default=0) < 40:
            with store.snapshot() as state:
                n, rows = state.positions["examples"], state.table("rows")
                late = state.table("late")
            assert all(value[:1] == bytes([n]) for value in rows.values()), (n, rows)
            assert len(late) == n, (n, len(late))
            seen.add(n)
        print(len(seen))
        """,
        tmp_path,
    )
    assert reader.stdout is not None
    assert reader.stdout.readline() == "ready\n", reader.communicate()
    for n in range(1, 41):
        rows = {b"%03d" % k: bytes([n]) * 100 * n for k in range(100)}
        store.commit(Changes({"rows": rows, "late": {bytes([n]): b"x"}}), {"examples": n})
        time.sleep(0.005)
    out, error = reader.communicate(timeout=30)
    assert reader.returncode == 0, error
    assert int(out) > 3
    store.close()
    with pytest.raises(StateError, match="read_only=True; commit from the process"):
        LmdbStateStore(tmp_path, read_only=True).commit(Changes(), {})


def test_one_process_opens_a_folder_once(tmp_path: Path) -> None:
    store = LmdbStateStore(tmp_path)
    with pytest.raises(StateError, match=r"open in this process already; share the one store"):
        LmdbStateStore(tmp_path, read_only=True)
    store.close()
    LmdbStateStore(tmp_path, read_only=True).close()


def test_a_commit_that_grows_the_file_waits_for_snapshots(tmp_path: Path) -> None:
    store = LmdbStateStore(tmp_path, map_size=1 << 16)
    store.commit(Changes({"rows": {b"a": b"1"}}), {})
    with store.snapshot() as state:
        growing = threading.Thread(target=store.commit, args=(Changes({"rows": {b"b": bytes(1 << 20)}}), {}))
        growing.start()
        growing.join(0.2)
        assert growing.is_alive()
        assert state.table("rows") == {b"a": b"1"}
    growing.join(10)
    assert len(everything(store, "rows")[2]["rows"][b"b"]) == 1 << 20
    store.close()


def filled(folder: Path) -> Path:
    store = LmdbStateStore(folder)
    store.commit(Changes({"rows": {b"%04d" % k: bytes([k % 256]) * 1500 for k in range(400)}}), {"examples": 9})
    store.close()
    return folder / "data.mdb"


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.7, 0.999])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_truncated_file_is_refused_and_the_process_lives(tmp_path: Path, share: float, read_only: bool) -> None:
    path = filled(tmp_path)
    size = path.stat().st_size
    os.truncate(path, int(size * share))
    if share == 0.0 and not read_only:
        # An empty file is what an interrupted first start leaves behind.
        store = LmdbStateStore(tmp_path)
        assert everything(store) == ({}, {}, {})
        store.close()
        return
    with pytest.raises(StateError, match=r"data\.mdb.*(truncated|damaged|close the store).*"):
        LmdbStateStore(tmp_path, read_only=read_only)
    assert path.stat().st_size == int(size * share)


def test_altered_bytes_are_noticed(tmp_path: Path) -> None:
    """A value that rots on disk is refused by name; it is not learned on from."""
    path = filled(tmp_path)
    data = bytearray(path.read_bytes())
    at = data.index(bytes([77]) * 1500)
    data[at + 700] ^= 1
    path.write_bytes(data)
    store = LmdbStateStore(tmp_path)
    with store.snapshot() as state:
        assert state.get("rows", b"0001") == bytes([1]) * 1500
        with pytest.raises(StateError, match=r"data\.mdb: the value of b'0077' in table 'rows' was altered"):
            state.table("rows")
        with pytest.raises(StateError, match="restore the folder from a copy, or move it away"):
            state.get("rows", b"0077")
    store.close()


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(os.urandom(100_000))
    with pytest.raises(StateError, match=r"data\.mdb.*damaged"):
        LmdbStateStore(tmp_path)


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="holds no state yet; start the process that writes it"):
        LmdbStateStore(tmp_path / "none", read_only=True)


FULL_DISK = """
    import resource, signal, sys
    from nearline import StateError
    from nearline.store import Changes, LmdbStateStore
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = LmdbStateStore(sys.argv[1])
    store.commit(Changes({"rows": {b"a": b"1"}}), {"examples": 1})
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    try:
        store.commit(Changes({"rows": {b"a": b"2", b"big": bytes(4 << 20)}}), {"examples": 2})
    except StateError as error:
        print(error)
    with store.snapshot() as state:
        assert dict(state.positions) == {"examples": 1} and state.table("rows") == {b"a": b"1"}
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.commit(Changes({"rows": {b"a": b"2", b"big": bytes(4 << 20)}}), {"examples": 2})
    with store.snapshot() as state:
        print(dict(state.positions), len(state.table("rows")[b"big"]))
"""


def test_a_full_disk_is_said_and_the_store_goes_on_when_there_is_space(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: the same failed write, in the middle of a commit."""
    process = child(FULL_DISK, tmp_path)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    said, after = out.strip().split("\n")
    assert "the disk is full or failing: nothing of this commit is there; free space" in said
    assert after == "{'examples': 2} 4194304"


def test_a_folder_that_may_not_be_written_is_said() -> None:
    """As a user who may read only: the writer is refused with the fix, a reader reads."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        filled(folder)
        folder.chmod(0o755)
        (folder / "data.mdb").chmod(0o444)
        (folder / "lock.mdb").chmod(0o666)
        process = child(
            """
            import os, sys
            from nearline import StateError
            from nearline.store import LmdbStateStore
            import nearline.store._lmdb, lmdb.verify
            if os.getuid() == 0:
                os.setuid(65534)
            for folder in (sys.argv[1], sys.argv[1] + "/new"):
                try:
                    LmdbStateStore(folder)
                except StateError as error:
                    print(error)
            store = LmdbStateStore(sys.argv[1], read_only=True)
            with store.snapshot() as state:
                print(dict(state.positions))
            """,
            folder,
        )
        out, error = process.communicate(timeout=60)
        assert process.returncode == 0, error
        first, second, read = out.strip().split("\n")
        for said in (first, second):
            assert "give the process a folder that it may write" in said
        assert read == "{'examples': 9}"
