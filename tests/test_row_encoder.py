"""RowEncoder: served rows give the design that a table of them gives, and refusals name the field."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline._errors import ConfigError, DataError
from nearline.features import Design, Encoder, RowEncoder
from nearline.features import _encoder as features
from nearline.schema import Categorical, Hashed, Multi, Numeric, Schema, Vector

SCHEMA = Schema(
    "y",
    time="when",
    weight="w",
    offset="o",
    columns={
        "x": Numeric(center=1.0, scale=2.0),
        "free": Numeric(),
        "never": Numeric(),
        "age": Categorical(),
        "flag": Categorical(),
        "tags": Multi("|"),
        "codes": Multi(),
        "text": Hashed(bits=3),
        "words": Hashed(bits=2),
        "vec": Vector(),
    },
)
FEATURES = (
    "x", "free", "never", "gender", "age", "flag", "genres", "codes", "tags", "vec", "text", "words", "user",
)  # fmt: skip
KEYS = ("user", ("group", "user"))
PLAIN = tuple(name for name in FEATURES if name != "never")
NUMBERS = ("x", "free", "gender", "age")
ROLES = ("user", "group", "o", "w", "when")
TYPES = {
    "x": pa.float64(), "free": pa.float64(), "never": pa.float64(), "gender": pa.string(), "age": pa.int64(),
    "flag": pa.bool_(), "genres": pa.list_(pa.string()), "codes": pa.list_(pa.int64()), "tags": pa.string(),
    "vec": pa.list_(pa.float64()), "text": pa.string(), "words": pa.list_(pa.string()), "user": pa.string(),
    "group": pa.int64(), "o": pa.float64(), "w": pa.float64(), "when": pa.float64(),
}  # fmt: skip

words = st.sampled_from(["", "a", "b", "cc", "é", "(missing)", "a=b"])
maybe = st.none()
numbers = st.sampled_from([0.0, 1.0, -2.5, 3.0, 7]) | maybe
row = st.fixed_dictionaries(
    {"user": words, "group": st.integers(-2, 2), "o": st.floats(-2, 2)},
    optional={
        "x": numbers,
        "free": numbers,
        "never": maybe,
        "gender": words | maybe,
        "age": st.integers(-3, 3) | maybe,
        "flag": st.booleans() | maybe,
        "genres": st.lists(words | maybe, max_size=4) | maybe,
        "codes": st.lists(st.integers(0, 3) | maybe, max_size=4) | maybe,
        "tags": st.lists(st.sampled_from(["", "a", "b", "(missing)"]), max_size=4).map("|".join) | maybe,
        "vec": st.lists(numbers, min_size=2, max_size=2) | st.just([]) | maybe,
        "text": words | maybe,
        "words": st.lists(words | maybe, max_size=4) | maybe,
        "w": st.floats(0, 3),
        "when": st.floats(0, 1e9),
    },
)
tables = st.lists(row, min_size=1, max_size=24)


def table(rows: list[dict[str, Any]], now: float = 0.0) -> Any:
    """The rows as a table, with what a served row may leave out filled in."""
    rows = [{"w": 1.0, "when": now, **row} for row in rows]
    return pa.table({name: pa.array([row.get(name) for row in rows], dtype) for name, dtype in TYPES.items()})


def learned(rows: list[dict[str, Any]], features_of: tuple[str, ...] = FEATURES) -> Encoder:
    """An encoder that has seen the rows, after one that shows every column's family."""
    first = {"user": "u", "group": 0, "o": 0.0, "gender": "a", "age": 1, "flag": True, "genres": ["a"], "codes": [1],
             "tags": "a", "text": "a", "words": ["a"], "free": 1.5, "x": 2.0}  # fmt: skip
    encoder = Encoder(SCHEMA, features_of, KEYS)
    encoder.encode(table([first, *rows]), grow=True)
    return encoder


def assert_same(one: Design, other: Design) -> None:
    for name in ("indptr", "indices", "values", "label", "weight", "offset", "time"):
        left, right = getattr(one, name), getattr(other, name)
        assert left.dtype == right.dtype, name
        np.testing.assert_array_equal(left, right, err_msg=name)
    assert one.unseen == other.unseen
    assert (one.without_slot is None) == (other.without_slot is None)
    if one.without_slot is not None and other.without_slot is not None:
        for name in ("rows", "levels", "values"):
            mine, theirs = getattr(one.without_slot, name), getattr(other.without_slot, name)
            np.testing.assert_array_equal(mine, theirs)
            assert mine.dtype == theirs.dtype
        assert (one.without_slot.columns, one.without_slot.names) == (
            other.without_slot.columns,
            other.without_slot.names,
        )
    for key in KEYS:
        np.testing.assert_array_equal(one.entities[key], other.entities[key])
        assert one.entities[key].dtype == np.int32


def decoded(encoder: RowEncoder, rows: list[dict[str, Any]]) -> list[Any]:
    rows_type: Any = list[encoder.Row]  # type: ignore[name-defined]
    return msgspec.json.decode(msgspec.json.encode(rows), type=rows_type)  # type: ignore[no-any-return]


@pytest.mark.parametrize("few", [0, 1000])
@pytest.mark.parametrize("features_of", [FEATURES, PLAIN, NUMBERS])
@settings(max_examples=80, deadline=None)
@given(history=tables, rows=tables)
def test_rows_give_the_design_of_their_table(
    features_of: tuple[str, ...], few: int, history: list[Any], rows: list[Any]
) -> None:
    # Without "never" all numbers are known, and numbers alone have one entry per row.
    encoder = learned(history, features_of)
    rows = [{name: v for name, v in row.items() if name in (*features_of, *ROLES)} for row in rows]
    served = RowEncoder(encoder)
    design, columns = served.encode(decoded(served, rows), now=5.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "_FEW", few)
        expected = encoder.encode(table(rows, now=5.0), grow=False)
    assert_same(design, expected)
    recorded = pa.table({f.name: pa.array(columns[f.name], f.type, from_pandas=True) for f in served.arrow})
    roles = {"when": design.time, "o": design.offset, "w": design.weight}
    for name, values in roles.items():
        recorded = recorded.append_column(name, pa.array(values))
    again, columns_again = served.encode_table(recorded)
    assert_same(again, expected)
    assert set(columns) == set(columns_again) == set(served.arrow.names)
    for name, values in columns.items():
        np.testing.assert_equal(list(columns_again[name]), list(values))


@settings(max_examples=50, deadline=None)
@given(history=tables, rows=tables)
def test_what_is_recorded_teaches_the_same(history: list[Any], rows: list[Any]) -> None:
    # The learner reads the recorded columns: growing from them equals growing from the rows themselves.
    served = RowEncoder(learned(history))
    _, columns = served.encode(decoded(served, rows))
    one, other = learned(history), learned(history)
    recorded = {f.name: pa.array(columns[f.name], f.type, from_pandas=True) for f in served.arrow}
    recorded |= {name: table(rows)[name] for name in ("when", "o", "w")}
    assert_same(one.encode(pa.table(recorded), grow=True), other.encode(table(rows), grow=True))
    assert one.slot_names == other.slot_names


def test_no_rows_are_an_empty_design() -> None:
    served = RowEncoder(learned([]))
    design, columns = served.encode([])
    assert design.rows == 0
    assert design.indptr.tolist() == [0]
    assert set(columns) == set(served.arrow.names)


GOOD = {"user": "u", "group": 0, "o": 0.0}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"group": 0, "o": 0.0}, "Object missing required field `user` - at `$[1]`"),
    (GOOD | {"user": None}, "Expected `str`, got `null` - at `$[1].user`"),
    (GOOD | {"user": 3}, "Expected `str`, got `int` - at `$[1].user`"),
    (GOOD | {"group": 1.5}, "Expected `int`, got `float` - at `$[1].group`"),
    (GOOD | {"gender": 3}, "Expected `str | null`, got `int` - at `$[1].gender`"),
    (GOOD | {"age": 2**70}, "at `$[1].age`"),
    (GOOD | {"w": -1}, "at `$[1].w`"),
    (GOOD | {"genres": ["a", 3]}, "at `$[1].genres[1]`"),
    (GOOD | {"vec": "a"}, "at `$[1].vec`"),
    (GOOD | {"gendre": "a"}, "Object contains unknown field `gendre` - at `$[1]`"),
    (GOOD | {"y": 1}, "Object contains unknown field `y` - at `$[1]`"),
]


@pytest.mark.parametrize(("bad", "message"), REFUSED)
def test_decoding_errors_name_the_field(bad: dict[str, Any], message: str) -> None:
    served = RowEncoder(learned([]))
    with pytest.raises(msgspec.ValidationError) as error:
        decoded(served, [GOOD, bad])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("bad", "column"),
    [
        ({"x": math.inf}, "x"),
        ({"o": math.nan}, "o"),
        ({"w": math.inf}, "w"),
        ({"when": math.inf}, "when"),
        ({"vec": [1.0, -math.inf]}, "vec"),
        ({"vec": [1.0, 2.0, 3.0]}, "vec"),
    ],
)
def test_numbers_that_are_none_are_refused_by_column_and_row(bad: dict[str, Any], column: str) -> None:
    served = RowEncoder(learned([GOOD | {"vec": [0.0, 1.0]}]))
    with pytest.raises(DataError) as error:
        served.encode([msgspec.convert(values, served.Row) for values in (GOOD, GOOD | bad)])
    assert (error.value.column, error.value.row) == (column, 1)


def test_a_number_beyond_its_scale_is_refused() -> None:
    encoder = Encoder(Schema("y", columns={"x": Numeric(0.0, 1e-300)}), ("x",), ("user",))
    encoder.encode({"user": [1], "x": [1.0]}, grow=True)
    served = RowEncoder(encoder)
    with pytest.raises(DataError, match="too far"):
        served.encode(decoded(served, [{"user": 1, "x": 1e10}]))


@pytest.mark.parametrize("when", ["1970-01-01T00:01:40Z", "1970-01-01T00:01:40", "1970-01-01T01:01:40+01:00", 100])
def test_times_are_seconds_or_dates(when: Any) -> None:
    served = RowEncoder(learned([]))
    design, _ = served.encode(decoded(served, [GOOD | {"when": when}, GOOD]), now=7.0)
    assert design.time.tolist() == [100.0, 7.0]
    assert datetime.fromtimestamp(100.0, UTC).minute == 1


@pytest.mark.parametrize(
    ("change", "column"),
    [
        (lambda t: t.append_column("gendre", pa.array(["a"])), "gendre"),
        (lambda t: t.drop_columns(["user"]), "user"),
        (lambda t: t.drop_columns(["o"]), "o"),
        (lambda t: t.set_column(0, "user", pa.array([3])), "user"),
        (lambda t: t.set_column(0, "user", pa.array([None], pa.string())), "user"),
    ],
)
def test_tables_are_refused_by_column(change: Any, column: str) -> None:
    served = RowEncoder(learned([]))
    good = pa.table({"user": ["u"], "group": [0], "o": [0.0]})
    assert served.encode_table(good, now=3.0)[0].time.tolist() == [3.0]
    with pytest.raises(DataError) as error:
        served.encode_table(change(good))
    assert error.value.column == column


def test_names_that_python_does_not_allow_are_columns_too() -> None:
    encoder = Encoder(Schema("y"), ("class", "a b", "f0"), ("user id",))
    encoder.encode({"user id": [1], "class": ["a"], "a b": ["c"], "f0": ["d"]}, grow=True)
    served = RowEncoder(encoder)
    design, columns = served.encode(decoded(served, [{"user id": 1, "class": "a", "a b": "c", "f0": "e"}]))
    assert (design.indices.tolist(), design.unseen) == ([0, 1, 2], 1)
    assert columns == {"user id": [1], "class": ["a"], "a b": ["c"], "f0": ["e"]}


def test_an_encoder_that_has_learned_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="'user' has no values yet"):
        RowEncoder(Encoder(Schema("y"), ("x",), ("user",)))
    with pytest.raises(ConfigError, match="'x' has no kind yet"):
        RowEncoder(Encoder(Schema("y"), ("x",), ()))


def test_many_hashes_are_forgotten_and_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearline.features._row_encoder._MOST_HASHES", 2)
    served = RowEncoder(learned([]))
    rows = decoded(served, [GOOD | {"text": text} for text in "abcdabcd"])
    design, _ = served.encode(rows)
    assert_same(design, served.encode(rows)[0])


# -- bodies read without an object per row ---------------------------------------------------------------------------

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
