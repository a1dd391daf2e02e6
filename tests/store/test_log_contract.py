"""What every log does, on disk or in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from store_rows import SCHEMA, batch, values
from tests.store.log_contract_parts import MAKES

from nearline import DataError, StateError


@pytest.fixture(params=MAKES)
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    with MAKES[request.param](tmp_path / "log") as made:
        yield made


def test_positions_count_rows_and_only_committed_rows_are_read(log: Any) -> None:
    assert (log.first, log.end, log.next) == (0, 0, 0)
    assert [log.append(batch(0, 1)), log.append(batch(2))] == [0, 2]
    assert (log.end, log.next, len(log.read(0))) == (0, 3, 0)
    with pytest.raises(StateError, match="position 0 is not in the log"):
        log.take([0])
    assert log.commit() == 3
    assert values(log.read(0)) == [0, 1, 2]
    assert values(log.read(1, 1)) == [1]
    assert values(log.read(3)) == values(log.read(9)) == []


def test_taken_rows_come_in_the_order_asked_for_and_may_repeat(log: Any) -> None:
    for begin in range(0, 40, 4):
        log.append(batch(*range(begin, begin + 4)))
        log.commit()
    wanted = np.random.default_rng(3).integers(0, 40, 60)
    assert values(log.take(wanted)) == wanted.tolist()
    assert log.take([]).schema == SCHEMA
    for wrong in ([40], [-1, 2]):
        with pytest.raises(StateError, match="is not in the log, which holds 0 to 39"):
            log.take(wrong)


def test_batches_are_those_that_were_appended(log: Any) -> None:
    lengths = [3, 1, 5, 2, 8, 1]
    for length in lengths:
        log.append(batch(*range(log.next, log.next + length)))
        log.commit()
    log.append(batch(99))
    for sealed in (False, True):
        if sealed:
            log.truncate(20)
            log.seal(active=True)
        found = list(log.batches(0))
        assert [part.num_rows for _, part in found] == lengths
        assert [position for position, _ in found] == np.cumsum([0, *lengths[:-1]]).tolist()
        # In the middle of an append, the rest of it comes first.
        position, part = next(log.batches(6))
        assert (position, values(part)) == (6, [6, 7, 8])
        assert list(log.batches(20)) == list(log.batches(99)) == []


def test_an_empty_batch_changes_nothing(log: Any) -> None:
    log.append(batch(0))
    assert log.append(batch()) == 1
    assert log.commit() == 1
    assert len(list(log.batches(0))) == 1


def test_truncating_drops_the_uncommitted_tail_and_more_when_asked(log: Any) -> None:
    for begin in (0, 4, 8, 12):
        log.append(batch(*range(begin, begin + 4)))
        log.commit()
    log.append(batch(16, 17))
    log.truncate(16)
    assert (log.end, log.next) == (16, 16)
    log.truncate(10)
    assert (log.end, values(log.read(0))) == (10, list(range(10)))
    assert log.append(batch(10, 11)) == 10
    log.commit()
    assert values(log.read(8)) == [8, 9, 10, 11]
    with pytest.raises(StateError, match="cannot truncate to 13"):
        log.truncate(13)
    log.truncate(0)
    assert (log.first, log.end, log.append(batch(0))) == (0, 0, 0)


def test_what_retention_removed_is_refused_and_not_skipped(log: Any) -> None:
    for begin in range(0, 40, 4):
        log.append(batch(*range(begin, begin + 4)))
        log.commit()
    log.seal(active=True)
    first = log.retain(22)
    assert first == log.first <= 22
    assert log.retain(0) == first
    assert values(log.read(first)) == list(range(first, 40))
    if first:
        for ask in (lambda: log.read(first - 1), lambda: log.take([first - 1]), lambda: next(log.batches(first - 1))):
            with pytest.raises(StateError, match=f"{first}"):
                ask()


def test_a_batch_of_other_columns_is_refused_and_named(log: Any) -> None:
    with pytest.raises(DataError, match="the batch has columns"):
        log.append(batch(0).select(["n", "text"]))
    wrong = batch(0).set_column(0, "n", pa.array([1.0]))
    with pytest.raises(DataError, match="column 'n': is double, the log keeps int64"):
        log.append(wrong)
    assert log.append(batch(0)) == 0


def test_a_closed_log_refuses_to_write_and_keeps_what_was_appended(log: Any) -> None:
    log.append(batch(0))
    log.close()
    log.close()
    assert values(log.read(0)) == [0]
    with pytest.raises(StateError, match="closed"):
        log.append(batch(1))


def test_the_dataset_has_every_committed_row(log: Any) -> None:
    for begin in range(0, 40, 4):
        log.append(batch(*range(begin, begin + 4)))
        log.commit()
        if begin == 20:
            log.seal()
    assert values(log.dataset().to_table()) == list(range(40))


def test_readers_see_whole_commits_while_a_writer_goes_on(log: Any) -> None:
    faults: list[BaseException] = []
    stop = threading.Event()

    def read() -> None:
        rng = np.random.default_rng(0)
        try:
            while not stop.is_set():
                end = log.end
                assert end % 3 == 0
                first = log.first
                if end > first + 30:
                    wanted = rng.integers(end - 30, end, 20)
                    assert values(log.take(wanted)) == wanted.tolist()
                    assert values(log.read(end - 5, 5)) == list(range(end - 5, end))
        except BaseException as error:
            faults.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for i in range(0, 600, 3):
        log.append(batch(i))
        log.append(batch(i + 1, i + 2))
        log.commit()
        if i % 60 == 0:
            log.seal(active=i % 120 == 0)
            log.compact()
            log.retain(i - 300)
    stop.set()
    for reader in readers:
        reader.join()
    assert not faults
