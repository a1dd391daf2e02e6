"""RowEncoder: served rows give the design that a table of them gives, and refusals name the field."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features.served import FEATURES, KEYS, learned, row, table

from nearline._errors import ConfigError, DataError
from nearline.features import Design, Encoder, RowEncoder
from nearline.features import _encoder as features
from nearline.schema import Numeric, Schema

PLAIN = tuple(name for name in FEATURES if name != "never")
NUMBERS = ("x", "free", "gender", "age")
ROLES = ("user", "group", "o", "w", "when")


tables = st.lists(row, min_size=1, max_size=24)


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
    served, remembers = RowEncoder(learned([])), RowEncoder(learned([]))
    rows = decoded(served, [GOOD | {"text": text} for text in "abcdabcd"])
    expected, _ = remembers.encode(rows)
    monkeypatch.setattr("nearline.features._row_encoder._MOST_HASHES", 2)
    for _ in range(2):
        assert_same(served.encode(rows)[0], expected)
