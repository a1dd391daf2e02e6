"""`put` is `append` and `commit` at once: of rows in any form, and of packed ones in a single call to the system."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.store.blocks import MADE, PACKER, ROW, SCHEMA, block

from nearline._errors import DataError, StateError
from nearline.store import Log, MemoryLog
from nearline.store._segment import Appender


@pytest.fixture(params=["log", "memory"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return Log.open(tmp_path / "log", SCHEMA) if request.param == "log" else MemoryLog(SCHEMA)


def packed(first: int, n: int = 3) -> Any:
    found = PACKER.pack(first, [(n, block([ROW] * n) | {"version": "1.0.0"})])
    assert found is not None
    return found


def ids(first: int, n: int) -> list[str]:
    found: list[str] = MADE["id"](first, n).to_pylist()
    return found


def test_rows_that_are_put_are_durable_and_can_be_read(log: Any) -> None:
    assert (log.put(packed(0)), log.end, log.next) == (0, 3, 3)
    log.tidy()
    assert log.put(packed(3).batch) == 3  # an ordinary batch
    assert log.append(packed(6).batch) == 6
    assert (log.put(packed(9)), log.end) == (9, 12)  # what was appended before becomes durable with it
    assert log.read(0)["id"].to_pylist() == ids(0, 12)
    assert log.take([11, 2])["user"].to_pylist() == ["ann", "ann"]
    log.close()


def test_they_are_there_when_the_log_is_opened_again(tmp_path: Path) -> None:
    with Log.open(tmp_path, SCHEMA, segment_rows=7) as log:
        for first in range(0, 60, 3):
            log.put(packed(first))
    assert len(list(tmp_path.glob("*.arrow"))) > 2
    with Log.open(tmp_path, SCHEMA) as log:
        assert (log.end, log.notes) == (60, [])
        assert log.read(0)["id"].to_pylist() == ids(0, 60)


def test_a_mark_that_was_not_written_any_more_loses_nothing(tmp_path: Path) -> None:
    log = Log.open(tmp_path, SCHEMA)
    log.put(packed(0))
    log._release()  # as a process that is gone before it tidied
    with Log.open(tmp_path, SCHEMA) as log:
        assert (log.end, log.notes) == (3, [])


def test_other_columns_are_refused(log: Any) -> None:
    with pytest.raises(DataError, match="columns"):
        log.put(pa.record_batch([[1]], names=["x"]))
    assert log.end == 0
    log.close()


def test_a_full_disk_keeps_nothing_of_the_rows_and_everything_before_them(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Log.open(tmp_path, SCHEMA) as log:
        log.put(packed(0))
        size = next(tmp_path.glob("*.arrow")).stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
        try:
            with pytest.raises(StateError, match=r"write \d+ bytes.*File too large"):
                log.put(packed(3))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert (log.end, next(tmp_path.glob("*.arrow")).stat().st_size) == (3, size)
        assert log.put(packed(3)) == 3
    with Log.open(tmp_path, SCHEMA) as log:
        assert (log.read(0)["id"].to_pylist(), log.notes) == (ids(0, 6), [])


def test_after_a_sync_that_failed_nothing_is_written_until_the_log_is_opened_again(tmp_path: Path) -> None:
    with Log.open(tmp_path, SCHEMA) as log:
        log.put(packed(0))
        appender: Appender = log._writer()
        kept, appender._file = appender._file, os.open("/dev/null", os.O_RDWR)  # it takes bytes, and has no disk
        with pytest.raises(StateError, match="make them durable"):
            log.put(packed(3))
        os.close(appender._file)
        appender._file = kept
        with pytest.raises(StateError, match="open the log again"):
            log.put(packed(3))
        assert log.end == 3
    with Log.open(tmp_path, SCHEMA) as log:
        assert log.put(packed(3)) == 3
