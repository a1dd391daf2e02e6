"""From a time to a position."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from nearline.store import MemoryLog, first_at


@given(
    times=st.lists(st.integers(0, 20) | st.none(), max_size=40),
    value=st.integers(-1, 22),
    gone=st.integers(0, 10),
)
def test_from_there_on_every_row_is_as_late_and_before_it_none(times: list[int | None], value: int, gone: int) -> None:
    ascending = iter(sorted(time for time in times if time is not None))
    rows = [None if time is None else next(ascending) for time in times]
    log = MemoryLog(pa.schema({"received": pa.int64()}))
    for row in rows:
        log.append(pa.record_batch([pa.array([row], pa.int64())], schema=log.schema))
    log.commit()
    log.retain(gone)
    at = first_at(log, value)
    assert log.first <= at <= log.end
    assert all(row >= value for row in rows[at:] if row is not None)
    assert all(row < value for row in rows[log.first : at] if row is not None)
