"""A log after a torn write: what was durable is kept, and what is gone is never taken for a torn tail."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from store_rows import SCHEMA, filled, values
from tests.store.log_parts import narrow, open_file

from nearline import StateError
from nearline.store import Log


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
