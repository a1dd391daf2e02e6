"""Packed batches: the same bytes on disk as Arrow's own writer gives, from blocks of rows as requests leave them."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.store.blocks import MADE, PACKER, ROW, SCHEMA, SHAPE, block

from nearline.features import BlockShape
from nearline.store._columns import to_batch
from nearline.store._message import encode
from nearline.store._packed import Packed, Packer

texts = st.text(max_size=12)
rows = st.fixed_dictionaries(
    {"user": texts | st.none(), "page": texts, "x": st.floats(), "k": st.integers(-(2**63), 2**63 - 1) | st.none()}
)
submission = st.tuples(st.lists(rows, min_size=1, max_size=20), st.sampled_from(["1.0.0", "1.0.12", "ü"]))


def handed_over(parts: list[tuple[list[dict[str, Any]], str]]) -> list[tuple[int, Any]]:
    return [(len(rows), block(rows) | {"time": np.arange(len(rows)) + 0.5, "version": name}) for rows, name in parts]


@given(st.lists(submission, min_size=1, max_size=5), st.integers(0, 30_000))
@settings(max_examples=200, deadline=None)
def test_the_bytes_are_those_of_arrows_writer(parts: list[Any], first: int) -> None:
    given_over = handed_over(parts)
    packed = PACKER.pack(first, given_over)
    expected = to_batch(SCHEMA, first, given_over, MADE)
    assert packed is not None
    head, body = encode(expected, first, 3)
    assert packed.at(first, 3) == bytes(head) + bytes(body)
    assert packed.batch.schema == SCHEMA
    assert repr(packed.batch.to_pylist()) == repr(expected.to_pylist())
    wanted = [row[name] for rows, _ in parts for row in rows for name in ("user", "page", "k")]
    assert [row[name] for row in packed.batch.to_pylist() for name in ("user", "page", "k")] == wanted


@pytest.mark.parametrize(
    "parts",
    [
        [{"x": np.ones(1)}],  # no block
        [block([ROW]), {"x": np.ones(1)}],
        [block([ROW]) | {"time": [1.0]}],  # a list
        [block([ROW]) | {"time": np.ones(1, np.float32)}],
        [block([ROW]) | {"time": np.ones(1)}, block([ROW])],  # there in one only
        [block([ROW]) | {"version": 1}],
        [block([ROW]), block([ROW], BlockShape(SHAPE.places))],  # of two readers
        [block([ROW], BlockShape(SHAPE.places | {"x": (1, 0)}))],  # of another type than the log's
    ],
)
def test_other_forms_are_left_to_arrow(parts: list[Any]) -> None:
    assert PACKER.pack(0, [(1, part) for part in parts]) is None


def test_a_schema_with_other_types_is_left_to_arrow() -> None:
    schema = pa.schema({"x": pa.float64(), "items": pa.list_(pa.string())})
    assert Packer(schema, {}).pack(0, [(1, block([ROW]))]) is None


def one() -> Packed:
    packed = PACKER.pack(7, [(3, block([ROW] * 3) | {"time": np.arange(3.0), "version": "1.0.0"})])
    assert packed is not None
    return packed


def test_what_is_stored_is_what_is_read(tmp_path: Path) -> None:
    expected, packed, path = bytes(one().at(7, 3)), one(), tmp_path / "file"
    path.write_bytes(b"before")
    with path.open("rb+") as file:
        assert packed.store(file.fileno(), 6, 7, 3) == (len(expected), 0)
    assert path.read_bytes() == b"before" + expected
    assert packed.batch.equals(one().batch)
    with path.open("rb+") as file:  # and once more, being filled already
        assert packed.store(file.fileno(), 0, 7, 3) == (len(expected), 0)
    assert path.read_bytes().startswith(expected)


@pytest.mark.parametrize(
    ("device", "written", "number"),
    [("/dev/full", False, errno.ENOSPC), ("/dev/null", True, errno.EINVAL)],  # the one takes nothing, one has no disk
)
def test_what_the_system_refuses_is_said_by_its_number(device: str, written: bool, number: int) -> None:
    packed = one()
    with Path(device).open("rb+", buffering=0) as file:
        assert packed.store(file.fileno(), 0, 7, 3) == (packed.size if written else 0, number)


def test_ids_are_written_across_powers_of_ten() -> None:
    parts = [(25, block([ROW] * 25) | {"time": np.arange(25.0), "version": "1"})]
    for first in (0, 1, 9, 985, 99_990, 10**12 - 3):
        packed, expected = PACKER.pack(first, parts), to_batch(SCHEMA, first, parts, MADE)
        assert packed is not None
        assert packed.batch.equals(expected)


def test_columns_that_follow_otherwise_are_left_to_arrow() -> None:
    made = {"id": lambda first, n: pa.array([str(first + i) for i in range(n)])}
    assert Packer(SCHEMA, made).pack(0, [(1, block([ROW]))]) is None
