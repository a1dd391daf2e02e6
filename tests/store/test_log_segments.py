"""The files of a log: merging keeps the boundaries of appends, and readers go on or are told."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from store_rows import filled, values
from tests.store.log_parts import narrow, open_file

from nearline import StateError
from nearline.store import Log, _view


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
