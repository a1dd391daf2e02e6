"""A damaged log: any altered byte, missing segment or mark is noticed and said with its place, or harmless."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from store_rows import SCHEMA, batch, filled, values
from tests.store.log_parts import open_file

from nearline import StateError
from nearline.store import Log
from nearline.store._sealed import ParquetSegment, RowGroups, write_sealed


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


def test_a_damaged_mark_is_refused_and_can_be_removed(tmp_path: Path) -> None:
    filled(tmp_path, 3).close()
    (tmp_path / "durable.json").write_bytes(b"")
    with pytest.raises(StateError, match="remove it to accept"):
        Log.open(tmp_path, SCHEMA)
    (tmp_path / "durable.json").unlink()
    with Log.open(tmp_path, SCHEMA) as log:
        assert log.end == 3


@pytest.mark.parametrize("groups", range(1, 40))
def test_checksums_hold_for_any_number_of_row_groups(tmp_path: Path, groups: int) -> None:
    # The footer keeps the length of their list in a byte before it, which can look like part of it.
    column = pa.schema({"n": pa.int64()})
    tables = (pa.table({"n": [i]}, schema=column) for i in range(groups))
    path = write_sealed(tmp_path, 0, column, range(groups + 1), tables, groups)
    segment = ParquetSegment(path, 0, column, RowGroups(0))
    assert segment.table(0, groups)["n"].to_pylist() == list(range(groups))
