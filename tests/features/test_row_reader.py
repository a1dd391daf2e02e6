"""Bodies that are read without an object per row come to what decoding them comes to, or are left to it."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features.served import SCHEMA, learned, maybe, numbers, table, words

from nearline.features import Encoder, RowEncoder

READ = ("x", "free", "gender", "age", "tags")
READ_KEYS = ("user", "group")
read_row = st.fixed_dictionaries(
    {"user": words, "group": st.integers(-2, 2) | st.integers(-(2**63), 2**63 - 1), "o": st.floats(-2, 2)},
    optional={
        "x": st.floats(allow_nan=False, allow_infinity=False) | numbers,
        "free": numbers,
        "gender": words | maybe,
        "age": st.integers(-3, 3) | maybe,
        "tags": st.lists(st.sampled_from(["", "a", "b", "a", "(missing)"]), max_size=4).map("|".join) | maybe,
        "w": st.floats(0, 3) | st.just(True),
        "when": st.floats(0, 1e9) | maybe | st.just("2001-09-09T01:46:40Z"),
    },
)
history_row = st.fixed_dictionaries({"user": words, "group": st.integers(-2, 2), "gender": words | maybe,
                                     "age": st.integers(-3, 3) | maybe, "x": numbers, "tags": words})  # fmt: skip


def reading(history: list[dict[str, Any]]) -> RowEncoder:
    first = {"user": "u", "group": 0, "gender": "a", "age": 1, "tags": "a|b", "free": 1.5, "x": 2.0}
    encoder = Encoder(SCHEMA, READ, READ_KEYS)
    encoder.encode(table([{"o": 0.0, **row} for row in [first, *history]]), grow=True)
    return RowEncoder(encoder)


def plain(values: Any) -> list[Any]:
    values = list(values.to_pylist() if isinstance(values, pa.Array) else values)
    return [None if isinstance(value, float) and math.isnan(value) else value for value in values]


def assert_read_alike(served: RowEncoder, body: bytes) -> bool:
    """Whether a body is read; it then has to decode, and to come to the same."""
    read = served.read([body], now=7.0)
    if read is None:
        return False
    assert read.ends == [read.design.rows]
    assert_same_as_decoded(served, body, read.design, read.block)
    return True


def assert_same_as_decoded(served: RowEncoder, body: bytes, got: Any, block: Any) -> None:
    body_type = msgspec.defstruct("Body", [("rows", list[served.Row])], forbid_unknown_fields=True)  # type: ignore
    design, columns = served.encode(msgspec.json.decode(body, type=body_type).rows, now=7.0)  # type: ignore
    for name in ("indptr", "indices", "values", "label", "weight", "offset", "time"):
        np.testing.assert_array_equal(getattr(got, name), getattr(design, name), err_msg=name)
        assert getattr(got, name).dtype == getattr(design, name).dtype
    assert (got.unseen, got.without_slot) == (design.unseen, design.without_slot) == (0, None)
    for key in READ_KEYS:
        np.testing.assert_array_equal(got.entities[key], design.entities[key])
    assert {name: plain(values) for name, values in block.items()} == {n: plain(v) for n, v in columns.items()}


@settings(max_examples=200, deadline=None)
@given(
    history=st.lists(history_row, max_size=5),
    rows=st.lists(read_row, min_size=1, max_size=12),
    indent=st.none() | st.integers(0, 2),
    escaped=st.booleans(),
)
def test_bodies_are_read_as_they_are_decoded(
    history: list[Any], rows: list[Any], indent: int | None, escaped: bool
) -> None:
    served = reading(history)
    assert_read_alike(served, json.dumps({"rows": rows}, indent=indent, ensure_ascii=escaped).encode())
    learnable = [{name: v for name, v in row.items() if name not in ("when", "w")} for row in rows]
    served.encoder.encode(table(learnable), grow=True)
    usual = [row for row in rows if not isinstance(row.get("when"), str) and row.get("w") is not True]
    usual = [row for row in usual if abs(row.get("x") or 0.0) < 1e300 and "\\" not in json.dumps(row)]
    usual = [row for row in usual if abs(row["group"]) < 10**18 and not tiny(row)]
    if usual:  # all levels are known now, so the usual form has to be read
        assert assert_read_alike(served, json.dumps({"rows": usual}, indent=indent, ensure_ascii=False).encode())


@pytest.mark.parametrize("x", [0.0007416466230787513, 1e-5, 0.1, 0.0, 123456.789, 1.7976931348623157e308 / 1e10])
def test_numbers_of_the_usual_form_are_read(x: float) -> None:
    body = json.dumps({"rows": [{"user": "u", "group": 3, "o": x, "x": x}]}).encode()
    served = reading([])
    served.encoder.encode(table([{"user": "u", "group": 3, "o": 0.5, "x": 0.5}]), grow=True)
    assert assert_read_alike(served, body)


def tiny(row: dict[str, Any]) -> bool:
    return any(isinstance(v, float) and 0.0 < abs(v) < 1e-300 for v in row.values())


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_damaged_bodies_are_read_only_if_they_decode(data: Any) -> None:
    served = READER
    good = {"user": "u", "group": 3, "o": 0.5, "x": -12.25e3, "gender": "a", "age": 1, "tags": "a|b", "w": 2.0}
    body = bytearray(json.dumps({"rows": [good, good | {"when": 5.0, "free": None}]}).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body) - 1))
        piece = data.draw(st.sampled_from(PIECES))
        body[at : at + data.draw(st.integers(0, 3))] = piece
    assert_read_alike(served, bytes(body))


READER = reading([])
PIECES = [b"", b"\\", b'"', b"{", b"}", b",", b":", b"0", b"1", b"-", b".", b"e", b" ", b"\0", b"\xff", b"null", b"[",
          b"]", b"\n", b"true", b"NaN"]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    text=st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.from_regex(r"-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?", fullmatch=True)
)
def test_numbers_are_read_to_the_last_bit(text: str) -> None:
    from nearline.features._decimal import UNDECIDED, number, powers

    out = np.zeros(2)
    end = number(np.frombuffer(text.encode() + b"," + bytes(8), np.uint8), 0, *powers(), out)
    if end != UNDECIDED:
        assert end == len(text)
        assert float(out[0]).hex() == float(text).hex()


def test_what_is_no_column_for_the_reader_is_decoded() -> None:
    served = RowEncoder(learned([]))
    assert served.read([b'{"rows":[{"user":"u","group":0,"o":0}]}']) is None


@pytest.mark.parametrize("n", [127, 128, 129, 400])
def test_more_rows_than_there_is_room_for_at_first_are_read(n: int) -> None:
    rows = [{"user": "u", "group": k, "o": 0.5, "gender": "a" if k % 3 else None, "age": 1} for k in range(n)]
    encoder = Encoder(SCHEMA, READ, READ_KEYS)
    first = {"gender": "a", "age": 1, "tags": "a|b", "free": 1.5, "x": 2.0}
    nothing = {"user": "u", "group": 0, "o": 0.0}
    encoder.encode(table([nothing | first, nothing, *rows]), grow=True)
    for separators in ((",", ":"), (", ", ": ")):
        assert assert_read_alike(RowEncoder(encoder), json.dumps({"rows": rows}, separators=separators).encode())


KNOWN = {"user": "u", "group": 0, "o": 0.25, "gender": "a", "age": 1, "tags": "a|b", "free": 1.5, "x": 2.0}
UNUSUAL = [b"", b"{", b'{"rows":[]}', b'{"rows":[{"user":"u","group":0,"o":0.5,"gender":"never seen"}]}', b"\xff",
           json.dumps({"rows": [KNOWN] * 9}).encode(), b'{"rows":[{"user":"u","group":0,"o":0.5},{"user":"u"}]}',
           b'{"rows":[{"user":"u","group":0,"o":0.5,"gender":"a"}],"sample":true}']  # fmt: skip
usual_row = st.fixed_dictionaries(
    {"user": words, "group": st.integers(-2, 2), "o": st.sampled_from([0.0, -1.5, 0.25])},
    optional={"gender": st.sampled_from(["a", None]), "age": st.just(1), "tags": st.sampled_from(["a|b", "b|", ""]),
              "x": st.integers(-9, 9).map(float)},
).filter(lambda row: "\\" not in json.dumps(row["user"]))  # fmt: skip


def body_of(rows: list[dict[str, Any]]) -> bytes:
    known = {"gender": "a", "age": 1, "tags": "a", "free": 0.5, "x": 0.0}
    return json.dumps({"rows": [known | row for row in rows]}, ensure_ascii=False).encode()


usual_body = st.lists(usual_row, min_size=1, max_size=8).map(body_of)


@settings(max_examples=200, deadline=None)
@given(bodies=st.lists(usual_body | st.sampled_from(UNUSUAL), min_size=1, max_size=12))
def test_many_bodies_are_read_as_each_alone_and_unusual_ones_leave_nothing_behind(bodies: list[bytes]) -> None:
    served = MANY
    read, usual = served.read(bodies, now=7.0, most=8), [body for body in bodies if body not in UNUSUAL]
    if read is None:
        assert not usual
        return
    assert [end >= 0 for end in read.ends] == [body not in UNUSUAL for body in bodies]
    first = 0
    for body, end in zip(usual, [end for end in read.ends if end >= 0]):
        alone = served.read([body], now=7.0)
        assert alone is not None
        assert alone.design.rows == end - first
        part = read.design.take(first, end)
        for name in ("indptr", "indices", "values", "weight", "offset", "time"):
            np.testing.assert_array_equal(getattr(part, name), getattr(alone.design, name), err_msg=name)
        for key in READ_KEYS:
            np.testing.assert_array_equal(part.entities[key] < 0, alone.design.entities[key] < 0)
        for name, values in alone.block.items():
            assert plain(read.block[name])[first:end] == plain(values), name
        first = end
    assert first == read.block.n == read.design.rows
    fresh = served.read(usual, now=7.0)
    assert fresh is not None
    np.testing.assert_array_equal(read.block.totals, fresh.block.totals)


MANY = reading([{"user": "u", "group": 0, "gender": None, "age": 1, "tags": "", "x": 2.5}])
