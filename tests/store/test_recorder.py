"""Group commit: positions hold what they were promised, nobody waits for ever, and a bad row spoils no other."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline import ConfigError, DataError, StateError
from nearline.store import Log, MemoryLog, Overloaded, Recorder, Run

SCHEMA = pa.schema(
    {"prediction_id": pa.string(), "user": pa.string(), "x": pa.float64(), "k": pa.int64(), "g": pa.list_(pa.string())}
)
RUN = Run("aaaaaaaa", 0.0, 0)
MADE = {"prediction_id": RUN}


class Gate:
    """A log whose commits wait until they are let through."""

    def __init__(self, log: Any) -> None:
        self.log, self.schema, self.open = log, log.schema, threading.Event()
        self.entered = threading.Event()

    @property
    def next(self) -> int:
        return int(self.log.next)

    def append(self, batch: Any) -> int:
        return int(self.log.append(batch))

    def put(self, batch: Any) -> int:
        self.entered.set()
        assert self.open.wait(10)
        return int(self.log.put(batch))

    def tidy(self) -> None:
        self.log.tidy()


class Answers:
    """Collects what `done` is called with."""

    def __init__(self) -> None:
        self.got: dict[int, BaseException | None] = {}
        self.more = threading.Condition()

    def of(self, key: int) -> Callable[[BaseException | None], None]:
        def done(error: BaseException | None) -> None:
            with self.more:
                assert key not in self.got, "called twice"
                self.got[key] = error
                self.more.notify_all()

        return done

    def wait(self, count: int) -> dict[int, BaseException | None]:
        with self.more:
            assert self.more.wait_for(lambda: len(self.got) >= count, 10)
            return dict(self.got)


VALUES = {"user": st.text(max_size=4) | st.none(), "x": st.floats(allow_nan=False) | st.none() | st.integers(-9, 9)}


@st.composite
def submissions(draw: st.DrawFn) -> tuple[int, dict[str, Any], list[dict[str, Any]]]:
    """Rows as handed over in some form, and as plain rows."""
    n = draw(st.integers(1, 4))
    columns: dict[str, Any] = {}
    rows: list[dict[str, Any]] = [dict.fromkeys(SCHEMA.names[1:]) for _ in range(n)]
    for name, value in (*VALUES.items(), ("k", st.integers(-9, 9)), ("g", st.lists(st.text(max_size=2), max_size=2))):
        form = draw(st.sampled_from(["list", "array", "arrow", "one", "none"] if name != "g" else ["list", "arrow"]))
        if form == "none":
            continue
        values = [draw(value)] * n if form == "one" else [draw(value) for _ in range(n)]
        kept = pa.array(values, SCHEMA.field(name).type).to_pylist()
        if form == "array" and None not in values and name in "xk":
            columns[name] = np.array(values, np.float64 if name == "x" else np.int32)
        elif form == "one":
            columns[name] = values[0]
        else:
            columns[name] = pa.array(values, SCHEMA.field(name).type) if form == "arrow" else values
        for row, item in zip(rows, kept):
            row[name] = item
    return n, columns, rows


@given(st.lists(submissions(), max_size=8))
@settings(max_examples=60, deadline=None)
def test_whatever_the_form_the_rows_come_out_at_their_positions(parts: list[Any]) -> None:
    log = MemoryLog(SCHEMA)
    gate, answers = Gate(log), Answers()
    with Recorder(gate, made=MADE) as recorder:
        firsts = [recorder.submit(n, columns, answers.of(i)) for i, (n, columns, _) in enumerate(parts)]
        gate.open.set()
    expected = [row for _, _, rows in parts for row in rows]
    assert firsts == np.cumsum([0, *(n for n, _, _ in parts)])[:-1].tolist()
    assert log.read(0).drop(["prediction_id"]).to_pylist() == expected
    assert log.read(0)["prediction_id"].to_pylist() == RUN.ids(0, len(expected))
    assert answers.wait(len(parts)) == dict.fromkeys(range(len(parts)))


def test_done_is_called_when_rows_are_durable_and_not_before() -> None:
    log = MemoryLog(SCHEMA)
    gate, answers = Gate(log), Answers()
    with Recorder(gate) as recorder:
        recorder.submit(2, {"k": [1, 2]}, answers.of(0))
        assert gate.entered.wait(5)
        assert not answers.got
        assert (recorder.waiting, recorder.end, log.end) == (2, 2, 0)
        gate.open.set()
        answers.wait(1)
        assert (recorder.waiting, log.end) == (0, 2)


def test_all_that_wait_are_one_batch_and_one_commit() -> None:
    log = MemoryLog(SCHEMA)
    gate, answers = Gate(log), Answers()
    with Recorder(gate, group_rows=10) as recorder:
        recorder.submit(1, {"k": [0]}, answers.of(0))
        assert gate.entered.wait(5)
        for i in range(1, 13):
            recorder.submit(1, {"k": [i]}, answers.of(i))
        recorder.submit(30, {"k": 13}, answers.of(13))
        gate.open.set()
        answers.wait(14)
        assert recorder.groups == 4
    assert [batch.num_rows for _, batch in log.batches(0)] == [1, 10, 2, 30]


@pytest.mark.parametrize(
    ("columns", "column"),
    [
        ({"k": [1, "one"]}, "k"),
        ({"x": ["a", "b"]}, "x"),
        ({"user": [1, 2]}, "user"),
        ({"user": 1}, "user"),
        ({"k": [1 << 70, 0]}, "k"),
        ({"k": np.array([0.5, 1.0])}, "k"),
        ({"user": np.array([0.5, 1.0])}, "user"),
        ({"g": [["a"], 5]}, "g"),
        ({"user": ["a", "\ud800"]}, "user"),
        ({"user": object()}, "user"),
        ({"k": pa.array(["a", "b"])}, "k"),
    ],
)
def test_a_submission_that_does_not_fit_fails_alone_and_leaves_void_rows(columns: dict[str, Any], column: str) -> None:
    log = MemoryLog(SCHEMA)
    gate, answers = Gate(log), Answers()
    with Recorder(gate, made=MADE) as recorder:
        recorder.submit(1, {"k": [0]}, answers.of(0))
        assert gate.entered.wait(5)
        assert recorder.submit(1, {"k": [7], "user": "u"}, answers.of(1)) == 1
        assert recorder.submit(2, columns, answers.of(2)) == 2
        assert recorder.submit(1, {"k": [8]}, answers.of(3)) == 4
        gate.open.set()
        got = answers.wait(4)
    error = got.pop(2)
    assert isinstance(error, DataError)
    assert error.column == column
    assert got == {0: None, 1: None, 3: None}
    assert log.read(0)["k"].to_pylist() == [0, 7, None, None, 8]
    assert log.read(0)["prediction_id"].to_pylist() == RUN.ids(0, 5)
    assert log.read(2, 2).drop(["prediction_id"]).to_pylist() == [dict.fromkeys(SCHEMA.names[1:])] * 2
    assert recorder.failed_rows == 2


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"k": [1]}, "column 'k': has 1 values for 2 rows"),
        ({"q": [1, 2]}, "column 'q': the log has no such column"),
        ({"prediction_id": ["a", "b"]}, "column 'prediction_id'"),
    ],
)
def test_what_can_be_seen_at_once_is_refused_at_once_and_uses_no_position(columns: dict[str, Any], says: str) -> None:
    with Recorder(MemoryLog(SCHEMA), made=MADE) as recorder:
        with pytest.raises(DataError, match=says):
            recorder.submit(2, columns)
        assert recorder.submit(1, {"k": [1]}) == 0


def test_more_than_may_wait_is_refused_with_a_time_to_come_back() -> None:
    gate = Gate(MemoryLog(SCHEMA))
    with Recorder(gate, max_rows=10) as recorder:
        # A submission larger than the limit gets through when nothing waits: else it never could.
        recorder.submit(25, {"k": 0})
        assert gate.entered.wait(5)
        with pytest.raises(Overloaded, match="25 rows wait to be written, at most 10 may") as error:
            recorder.submit(1, {"k": 1})
        assert error.value.retry_after > 0
        assert recorder.end == 25
        gate.open.set()
    with pytest.raises(StateError, match="closed"):
        recorder.submit(1, {"k": 1})


def test_asynchronous_rows_are_acknowledged_at_once_and_written_soon() -> None:
    log, answers = MemoryLog(SCHEMA), Answers()
    with Recorder(log, durable=False, flush_seconds=0.02, flush_rows=50) as recorder:
        recorder.submit(1, {"k": [0]}, answers.of(0))
        assert answers.got == {0: None}
        until = time.monotonic() + 5
        while log.end < 1 and time.monotonic() < until:
            time.sleep(0.005)
        assert log.end == 1
    with Recorder(log, durable=False, flush_seconds=60, flush_rows=50) as recorder:
        for i in range(50):
            recorder.submit(1, {"k": [i]})
        while log.end < 51 and time.monotonic() < until:
            time.sleep(0.005)
        assert log.end == 51
        recorder.submit(1, {"k": [9]})
    assert log.end == 52


def test_a_callback_that_raises_stops_nothing() -> None:
    log, answers = MemoryLog(SCHEMA), Answers()

    def bad(_: BaseException | None) -> None:
        raise RuntimeError("a fault of the caller")

    with Recorder(log) as recorder:
        recorder.submit(1, {"k": [0]}, bad)
        recorder.submit(1, {"k": [1]}, answers.of(1))
        assert answers.wait(1) == {1: None}


def test_positions_go_on_where_the_log_ends(tmp_path: Path) -> None:
    for begin in (0, 3):
        with Log.open(tmp_path, SCHEMA) as log, Recorder(log) as recorder:
            assert recorder.submit(3, {"k": [1, 2, 3]}) == begin


def test_many_threads_get_positions_of_their_own(tmp_path: Path) -> None:
    taken: dict[int, int] = {}

    def work(worker: int) -> None:
        for i in range(50):
            first = recorder.submit(2, {"k": [worker * 1000 + i] * 2})
            taken[first] = worker * 1000 + i

    with Log.open(tmp_path, SCHEMA) as log:
        with Recorder(log) as recorder:
            workers = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        kept = log.read(0)["k"].to_pylist()
    assert len(kept) == 400
    assert all(kept[first] == kept[first + 1] == value for first, value in taken.items())


def test_a_full_disk_fails_those_it_concerns_and_later_positions_keep_their_rows(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs more rights")
    try:
        with Log.open(place / "log", SCHEMA) as log, Recorder(log, made=MADE) as recorder:
            answers = Answers()
            assert recorder.submit(2, {"k": [0, 1]}, answers.of(0)) == 0
            answers.wait(1)
            assert recorder.submit(2, {"k": 5, "user": "x" * 600_000}, answers.of(1)) == 2
            error = answers.wait(2)[1]
            assert isinstance(error, StateError)
            assert "the disk is full" in str(error)
            assert recorder.error is error
            assert recorder.submit(1, {"k": [4]}, answers.of(2)) == 4
            assert answers.wait(3)[2] is None
            assert recorder.error is None
        with Log.open(place / "log", SCHEMA) as log:
            assert log.read(0)["k"].to_pylist() == [0, 1, None, None, 4]
            assert log.read(0)["prediction_id"].to_pylist() == RUN.ids(0, 5)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("setting", [{"max_rows": 0}, {"group_rows": 0}, {"flush_rows": 0}, {"flush_seconds": -1}])
def test_settings_are_checked(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="must be positive"):
        Recorder(MemoryLog(SCHEMA), **setting)


def test_a_column_that_must_not_be_null_cannot_be_recorded() -> None:
    schema = pa.schema([pa.field("k", pa.int64(), nullable=False)])
    with pytest.raises(ConfigError, match="column 'k' must be nullable"):
        Recorder(MemoryLog(schema))
    Recorder(MemoryLog(schema), made={"k": lambda first, n: pa.array(range(first, first + n))}).close()


def test_an_append_beside_the_recorder_is_noticed_and_writes_nothing_at_a_wrong_position() -> None:
    log, answers = MemoryLog(SCHEMA), Answers()
    with Recorder(log) as recorder:
        log.append(pa.RecordBatch.from_pylist([{"k": 0}], schema=SCHEMA))
        recorder.submit(1, {"k": [1]}, answers.of(0))
        error = answers.wait(1)[0]
    assert isinstance(error, StateError)
    assert "somebody else appends" in str(error)
    assert log.next == 1
