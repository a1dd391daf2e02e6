"""Schema, read_table and check: what is accepted, and what every refusal says."""

from __future__ import annotations

import datetime
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline._errors import ConfigError, DataError
from nearline.schema import (
    Categorical,
    Checked,
    Hashed,
    Multi,
    Numeric,
    Rejects,
    Schema,
    Vector,
    check,
    key_columns,
    read_table,
)
from nearline.schema._kinds import accepts, infer

NAN, INF = math.nan, math.inf


def run(data: Any, schema: Schema | None = None, **options: Any) -> Checked:
    """Check `data` with a label y and nothing else, unless told."""
    defaults: dict[str, Any] = {"features": (), "keys": (), "link": "logit", "need_label": True}
    return check(data, schema or Schema("y"), **{**defaults, **options})


# --- kinds ---


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        (pa.int8(), Numeric()),
        (pa.uint64(), Numeric()),
        (pa.float16(), Numeric()),
        (pa.float64(), Numeric()),
        (pa.bool_(), Numeric()),
        (pa.decimal128(10, 2), Numeric()),
        (pa.string(), Categorical()),
        (pa.large_string(), Categorical()),
        (pa.string_view(), Categorical()),
        (pa.dictionary(pa.int8(), pa.string()), Categorical()),
        (pa.dictionary(pa.int8(), pa.int64()), Categorical()),
        (pa.list_(pa.string()), Multi()),
        (pa.large_list(pa.int32()), Multi()),
        (pa.list_(pa.dictionary(pa.int8(), pa.string())), Multi()),
        (pa.list_(pa.float32()), Vector()),
        (pa.list_(pa.float64(), 3), Vector()),
        (pa.list_(pa.int64(), 3), Vector()),
        (pa.list_(pa.string(), 3), Multi()),
        (pa.null(), None),
        (pa.list_(pa.null()), None),
        (pa.timestamp("us"), None),
        (pa.binary(), None),
        (pa.struct([("a", pa.int8())]), None),
    ],
)
def test_kind_from_the_arrow_type(dtype: Any, kind: Any) -> None:
    assert infer(dtype) == kind
    assert Schema("y").kind("c", dtype) == kind
    assert Schema("y", columns={"c": Hashed(4)}).kind("c", dtype) == Hashed(4)
    assert kind is None or accepts(kind, dtype)


@pytest.mark.parametrize("kind", [Numeric(), Categorical(), Multi(), Multi("|"), Vector(), Hashed()])
def test_no_kind_takes_times_or_structs(kind: Any) -> None:
    assert accepts(kind, pa.null())
    assert not any(accepts(kind, dtype) for dtype in (pa.timestamp("s"), pa.struct([]), pa.binary(), pa.date32()))


def test_kinds_refuse_wrong_options() -> None:
    for wrong in (
        lambda: Numeric(center=NAN),
        lambda: Numeric(scale=0.0),
        lambda: Numeric(scale=-1.0),
        lambda: Numeric(scale=INF),
        lambda: Multi(sep=""),
        lambda: Hashed(bits=0),
        lambda: Hashed(bits=32),
    ):
        with pytest.raises(ConfigError):
            wrong()


def test_key_columns_are_listed_once() -> None:
    assert key_columns(["u", ("m", "u"), "k"]) == ["u", "m", "k"]


# --- reading tables ---

COLUMNS = {"i": [1, 2], "s": ["a", None], "x": [0.5, 1.5]}


class Stream:
    """A table that offers nothing but the Arrow stream interface."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return pa.table(COLUMNS).__arrow_c_stream__(requested_schema)


class Array:
    """A batch that offers nothing but the Arrow array interface."""

    def __arrow_c_array__(self, requested_schema: object = None) -> object:
        return pa.record_batch(COLUMNS).__arrow_c_array__(requested_schema)


@pytest.mark.parametrize(
    "make",
    [
        lambda: COLUMNS,
        lambda: pa.table(COLUMNS),
        lambda: pa.record_batch(COLUMNS),
        lambda: pa.table(COLUMNS).to_reader(),
        lambda: pa.table(COLUMNS).to_pylist(),
        lambda: tuple(pa.table(COLUMNS).to_pylist()),
        lambda: pd.DataFrame(COLUMNS),
        lambda: pl.DataFrame(COLUMNS),
        lambda: duckdb.sql("select * from (values (1, 'a', 0.5::double), (2, null, 1.5::double)) t(i, s, x)"),
        Stream,
        Array,
    ],
)
def test_every_kind_of_table_is_read(make: Any) -> None:
    found = read_table(make())
    assert isinstance(found, pa.Table)
    assert found.to_pydict() == COLUMNS


def test_arrow_tables_are_not_copied() -> None:
    source = pa.table({"x": np.arange(10.0)})
    assert read_table(source) is source
    column = read_table(pl.DataFrame({"x": np.arange(10.0)}).to_arrow()).column("x")
    assert column.to_pylist() == list(range(10))


def test_rows_as_dicts_may_differ_in_keys() -> None:
    assert read_table([{"a": 1}, {"b": "x"}]).to_pydict() == {"a": [1, None], "b": [None, "x"]}
    assert read_table([]).num_rows == 0


def test_columns_of_numpy_and_pandas_values() -> None:
    found = read_table({"v": np.arange(6.0).reshape(3, 2), "s": pd.Series(["a", "b", "c"]), "n": np.arange(3)})
    assert found.column("v").to_pylist() == [[0, 1], [2, 3], [4, 5]]
    assert found.schema.field("v").type == pa.list_(pa.float64(), 2)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (42, "int is not a table; pass a pandas, Polars"),
        ("rows.parquet", "str is not a table"),
        (["a", "b"], "list is not a table"),
        (None, "NoneType is not a table"),
        ({"a": [1, 2], "b": [1]}, "columns differ in length"),
        ({"a": 1}, "column 'a': 1 is not a column; wrap one row in a list"),
        ({"a": "text"}, "column 'a': 'text' is not a column"),
        ([{"a": 1}, {"a": "x"}], "column 'a': .*make every value of the column one type"),
        (pa.array([1, 2]), "cannot read .*Array as a table"),
        (pd.DataFrame({"a": [1, "x"]}), "cannot read DataFrame as a table"),
    ],
)
def test_what_is_no_table_is_refused(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(data)


# --- columns ---


def test_an_unknown_column_is_refused_with_the_nearest_name() -> None:
    data = {"y": [1], "occupation": ["x"]}
    with pytest.raises(DataError, match=r"column 'ocupation': the table has no such column; did you mean 'occ"):
        run(data, features=("ocupation",))
    with pytest.raises(DataError, match=r"no such column; the table has \['y', 'occupation'\]"):
        run(data, keys=("zzz",))
    with pytest.raises(DataError, match="column 'time'"):
        run(data, Schema("y", time="time"))


def test_a_doubled_column_is_refused() -> None:
    data = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([1])], names=["x", "x", "y"])
    with pytest.raises(DataError, match="column 'x': two columns have this name"):
        run(data, features=("x",))
    assert run(data).rows == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": ("(intercept)",)}, "this name belongs to the intercept; rename the column"),
        ({"features": ("y",)}, "the label cannot be a feature"),
        ({"features": ("t",)}, r"column 't': a feature cannot be timestamp\[us\]"),
        ({"features": ("struct",)}, "column 'struct': a feature cannot be struct"),
        ({"features": ("nested",)}, "column 'nested': a feature cannot be list"),
        ({"keys": ("g",)}, "column 'g': a key column cannot be list"),
        ({"keys": ("s", ("s", "t"))}, "column 't': a key column cannot be timestamp"),
        ({"schema": Schema("s")}, "column 's': a label column cannot be string; make it numbers or booleans"),
        ({"schema": Schema("y", weight="s")}, "column 's': a weight column cannot be string"),
        ({"schema": Schema("y", offset="g")}, "column 'g': a offset column cannot be list"),
        ({"schema": Schema("y", time="s")}, "column 's': a time column cannot be string; make it timestamps"),
        ({"schema": Schema("y", id="g")}, "column 'g': a id column cannot be list"),
        ({"schema": Schema("y", columns={"s": Numeric()}), "features": ("s",)}, "string does not suit Numeric"),
        (
            {"schema": Schema("y", columns={"s": Multi()}), "features": ("s",)},
            r"string does not suit Multi\(sep=None\)",
        ),
    ],
)
def test_wrong_types_and_names_are_refused(options: dict[str, Any], message: str) -> None:
    data = {
        "y": [1], "s": ["a"], "g": [["a"]], "nested": [[["a"]]], "(intercept)": [1.0],
        "struct": [{"a": 1}], "t": [datetime.datetime(2020, 1, 1)],
    }  # fmt: skip
    with pytest.raises(DataError, match=message):
        run(data, **options)


def test_an_unknown_link_is_refused() -> None:
    with pytest.raises(ConfigError, match="link 'probit' is unknown"):
        run({"y": [1]}, link="probit")


# --- labels ---


@pytest.mark.parametrize(
    ("link", "values", "labels"),
    [
        ("logit", [0, 1, 1], [0, 1, 1]),
        ("logit", [True, False], [1, 0]),
        ("logit", [0.0, 1.0], [0, 1]),
        ("logit", [-1, 1, -1], [0, 1, 0]),
        ("logit", [-1.0], [0]),
        ("logit", [1, 1], [1, 1]),
        ("logit", [Decimal(0), Decimal(1)], [0, 1]),
        ("log", [0, 3, 2.5], [0, 3, 2.5]),
        ("identity", [-3.5, 2], [-3.5, 2]),
    ],
)
def test_labels_in_range(link: str, values: list[Any], labels: list[float]) -> None:
    found = run({"y": values}, link=link)
    assert found.label.dtype == np.float64
    assert found.label.tolist() == labels
    assert len(found.rejects) == 0


@pytest.mark.parametrize(
    ("link", "values", "row", "shown"),
    [
        ("logit", [0, 2], 1, "2"),
        ("logit", [0, 1, -1], 2, "-1"),
        ("logit", [1, -1, 0.5], 1, "-1.0"),
        ("logit", [1, None], 1, "null"),
        ("logit", [-1, 1, None], 2, "null"),
        ("logit", [NAN, 1], 0, "nan"),
        ("logit", [1, INF], 1, "inf"),
        ("log", [0, -1], 1, "-1"),
        ("log", [INF], 0, "inf"),
        ("log", [None], 0, "null"),
        ("identity", [-INF], 0, "-inf"),
        ("identity", [1, NAN], 1, "nan"),
    ],
)
def test_labels_out_of_range(link: str, values: list[Any], row: int, shown: str) -> None:
    with pytest.raises(DataError) as caught:
        run({"y": values}, link=link)
    assert (caught.value.column, caught.value.row) == ("y", row)
    assert str(caught.value).startswith(f"column 'y', row {row}: label is {shown}, expected ")
    assert caught.value.fix


def test_scoring_needs_no_label_time_weight_or_id() -> None:
    schema = Schema("y", time="t", id="id", weight="w")
    found = run({"x": [1.0, 2.0]}, schema, features=("x",), need_label=False)
    assert np.isnan(found.label).all()
    assert (found.weight.tolist(), found.time.tolist(), found.offset.tolist()) == ([1, 1], [0, 0], [0, 0])
    assert np.isnan(run({"y": [None, 1]}, need_label=False).label).tolist() == [True, False]
    with pytest.raises(DataError, match="label is 2"):
        run({"y": [2, None]}, need_label=False)
    with pytest.raises(DataError, match="column 'offset'"):
        run({"x": [1.0]}, Schema("y", offset="offset"), features=("x",), need_label=False)


# --- features, keys and the other roles ---


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ([1.0, INF], None, "row 1: feature is inf; clip it"),
        ([1.0, None, -INF], None, "row 2: feature is -inf"),
        ([1.5, 2.0], Categorical(), "row 0: category is 1.5; declare the column Numeric"),
        ([2.0, INF], Categorical(), "row 1: category is inf"),
        ([2.0, 1e300], Hashed(), r"row 1: category is 1e\+300"),
        ([[1.0, 2.0], [1.0]], None, r"row 1: vector \[1.0\] has another length than 2"),
        ([[1.0, 2.0], None, [1.0, INF]], None, r"row 2: vector is \[1.0, inf\]"),
        ([[1.0], [0.5, 1.0]], Multi(), r"row 1: category is \[0.5, 1.0\]"),
    ],
)
def test_bad_features(values: list[Any], kind: Any, message: str) -> None:
    schema = Schema("y", columns={"c": kind} if kind else {})
    with pytest.raises(DataError, match=f"column 'c', {message}"):
        run({"y": [1] * len(values), "c": values}, schema, features=("c",))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1.0, None, NAN], Numeric()),
        (["a", None, ""], Categorical()),
        ([1.0, None, NAN], Categorical()),
        ([["a"], None, []], Multi()),
        ([[1.0], None, []], Multi()),
        (["a|b", None, ""], Multi("|")),
        ([[1.0, 2.0], None, []], Vector()),
        ([[1.0, None], [NAN, 1.0], None], Vector()),
        ([None, None, None], Vector()),
        ([[None], [], None], Multi()),
        ([1, None, 2], Hashed()),
    ],
)
def test_missing_features_are_fine(values: list[Any], kind: Any) -> None:
    found = run({"y": [1, 0, 1], "c": values}, Schema("y", columns={"c": kind}), features=("c",))
    assert (found.rows, found.columns["c"].to_pylist()[0]) == (3, values[0])


@pytest.mark.parametrize(
    ("values", "row", "shown"),
    [
        (["a", None], 1, "null"),
        ([1, None], 1, "null"),
        ([1.0, NAN], 1, "nan"),
        ([1.0, 2.5], 1, "2.5"),
        ([INF], 0, "inf"),
        ([None], 0, "null"),
        (pa.array(["a", None]).dictionary_encode(), 1, "null"),
        (pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array(["a", None])), 1, "null"),
        (pa.chunked_array([["a"], ["b", None]]), 2, "null"),
    ],
)
def test_bad_keys(values: Any, row: int, shown: str) -> None:
    with pytest.raises(DataError, match=f"column 'u', row {row}: key is {shown}"):
        run({"y": [1] * len(values), "u": values}, keys=("u",))
    with pytest.raises(DataError, match=f"column 'u', row {row}: key is {shown}"):
        run({"y": [1] * len(values), "u": values}, keys=(("y", "u"),))


def test_float_keys_that_are_integers_are_keys() -> None:
    assert run(pd.DataFrame({"y": [1, 0], "u": [1.0, 2.0]}), keys=("u",)).rows == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, -1], "row 1: weight is -1; it must|row 1: weight is -1; a weight"),
        ([NAN, 1], "row 0: weight is nan"),
        ([1, None], "row 1: weight is null"),
        ([1, INF], "row 1: weight is inf"),
    ],
)
def test_bad_weights(values: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=f"column 'w', {message}"):
        run({"y": [1, 1], "w": values}, Schema("y", weight="w"))


def test_good_weights_and_offsets() -> None:
    found = run({"y": [1, 1], "w": [0, 2], "o": [-1.5, 3]}, Schema("y", weight="w", offset="o"))
    assert (found.weight.tolist(), found.offset.tolist()) == ([0, 2], [-1.5, 3])
    for bad in (NAN, INF, None):
        with pytest.raises(DataError, match="column 'o', row 1: offset is"):
            run({"y": [1, 1], "o": [1.0, bad]}, Schema("y", offset="o"))


MOMENT = datetime.datetime(2021, 6, 1, 12, 0, 0, 250_000, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([MOMENT], pa.timestamp("us")), MOMENT.timestamp()),
        (pa.array([MOMENT], pa.timestamp("ns", "Europe/Berlin")), MOMENT.timestamp()),
        (pa.array([MOMENT], pa.timestamp("ms", "UTC")), MOMENT.timestamp()),
        (pa.array([MOMENT.replace(microsecond=0)], pa.timestamp("s")), 1622548800.0),
        (pa.array([MOMENT], pa.timestamp("us")).dictionary_encode(), MOMENT.timestamp()),
        (pa.array([datetime.date(2021, 6, 1)]), 1622505600.0),
        (pa.array([datetime.date(2021, 6, 1)], pa.date64()), 1622505600.0),
        (pa.array([datetime.date(1969, 12, 31)]), -86400.0),
        (pa.array([1622548800]), 1622548800.0),
        (pa.array([1622548800.25]), 1622548800.25),
        (pd.Series([MOMENT]), MOMENT.timestamp()),
        (pd.Series(pd.to_datetime([MOMENT.replace(tzinfo=None)])), MOMENT.timestamp()),
    ],
)
def test_times_become_seconds(values: Any, expected: float) -> None:
    found = run({"y": [1], "t": values}, Schema("y", time="t"))
    assert (found.time.dtype, found.time.tolist()) == (np.float64, [expected])


@pytest.mark.parametrize("values", [[1.0, NAN], [1, None], [0.0, INF], [MOMENT, None], [MOMENT.date(), None]])
def test_bad_times(values: list[Any]) -> None:
    with pytest.raises(DataError, match="column 't', row 1: time is"):
        run({"y": [1, 1], "t": values}, Schema("y", time="t"))
    with pytest.raises(DataError, match="column 't', row 0: time is null"):
        run({"y": [1], "t": [None]}, Schema("y", time="t"))


def test_ids_come_once() -> None:
    schema = Schema("y", id="id")
    assert run({"y": [1, 1], "id": ["a", "b"]}, schema).rows == 2
    with pytest.raises(DataError, match="column 'id', row 2: id 'a' came before in this table"):
        run({"y": [1, 1, 1], "id": ["a", "b", "a"]}, schema)
    with pytest.raises(DataError, match="column 'id', row 1: id is null; every row needs an id"):
        run({"y": [1, 1], "id": ["a", None]}, schema)
    with pytest.raises(DataError, match="column 'id', row 1: id 7 was learned before; drop the row"):
        run({"y": [1, 1], "id": [6, 7]}, schema, seen={7})
    with pytest.raises(DataError, match=r"column 'id', row 1: id is 7\.5"):
        run({"y": [1, 1], "id": [6.0, 7.5]}, schema)
    seen = {1}
    run({"y": [1], "id": [2]}, schema, seen=seen)
    assert seen == {1}


def test_the_first_bad_row_is_named_whatever_its_column() -> None:
    data = {"y": [1, 1, 5], "x": [1.0, INF, 1.0], "u": [1, 2, None]}
    with pytest.raises(DataError, match="column 'x', row 1"):
        run(data, features=("x",), keys=("u",))


# --- diverting ---

MIXED = {
    "y": [1, 7, 0, None, 1],
    "x": [1.0, INF, 3.0, 4.0, 5.0],
    "u": ["a", "b", None, "d", "e"],
    "id": [1, 1, 2, 3, 1],
    "w": [1.0, 1.0, 2.0, 3.0, 4.0],
    "note": ["p", "q", "r", "s", "t"],
}
ROLES = Schema("y", id="id", weight="w")


def divert(data: Any = MIXED, **options: Any) -> Checked:
    return run(data, ROLES, features=("x",), keys=("u",), divert=True, **options)


def test_bad_rows_are_put_aside_with_all_their_reasons() -> None:
    found = divert()
    assert found.rows == 1
    assert found.columns["u"].to_pylist() == ["a"]
    assert (found.label.tolist(), found.weight.tolist()) == ([1], [1])
    rejects = found.rejects
    assert rejects.rows.tolist() == [1, 2, 3, 4]
    assert rejects.reasons == (
        "x: feature is inf; y: label is 7, expected 0 or 1",
        "u: key is null",
        "y: label is null, expected 0 or 1",
        "id: id 1 came before in this table",
    )
    assert rejects.table.column_names == [*MIXED, "reason"]
    assert rejects.table.column("note").to_pylist() == ["q", "r", "s", "t"]
    assert rejects.table.column("reason").to_pylist() == list(rejects.reasons)


def test_an_id_is_taken_by_its_first_good_row() -> None:
    found = divert({**MIXED, "id": [9, 1, 2, 3, 1]})
    assert found.rejects.rows.tolist() == [1, 2, 3]
    assert divert({**MIXED, "id": [9, 1, 2, 3, 1]}, seen={1}).rejects.rows.tolist() == [1, 2, 3, 4]


def test_structural_problems_are_raised_even_when_diverting() -> None:
    with pytest.raises(DataError, match="no such column"):
        divert({"y": [1]})


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 1, 2, None]), st.sampled_from([0.5, INF, None]), st.integers(0, 6))))
def test_good_and_bad_rows_make_up_the_table(rows: list[tuple[Any, Any, int]]) -> None:
    names = ("y", "x", "id")
    data = pa.table({name: pa.array([r[i] for r in rows], t) for i, (name, t) in enumerate(zip(names, TYPES))})
    found = run(data, Schema("y", id="id"), features=("x",), divert=True)
    taken: set[int] = set()
    good = []
    for y, x, key in rows:
        fine = y in (0, 1) and x != INF and key not in taken
        good.append(fine)
        if fine:
            taken.add(key)
    assert found.rejects.rows.tolist() == [i for i, fine in enumerate(good) if not fine]
    assert found.columns["id"].to_pylist() == [r[2] for r, fine in zip(rows, good) if fine]
    assert found.label.tolist() == [r[0] for r, fine in zip(rows, good) if fine]
    if all(good):
        assert run(data, Schema("y", id="id"), features=("x",)).rows == len(rows)
    else:
        with pytest.raises(DataError) as caught:
            run(data, Schema("y", id="id"), features=("x",))
        assert caught.value.row == good.index(False)


TYPES = (pa.int64(), pa.float64(), pa.int32())


def test_rejects_are_written_and_never_overwritten(tmp_path: Path) -> None:
    rejects, path = divert().rejects, tmp_path / "dead" / "letters.parquet"
    written = [rejects.write(path), rejects.write(str(path)), rejects.write(path)]
    assert written == [path, *(path.with_name(f"letters-{number}.parquet") for number in (1, 2))]
    assert sorted(name.name for name in path.parent.iterdir()) == [
        "letters-1.parquet",
        "letters-2.parquet",
        "letters.parquet",
    ]
    for name in written:
        assert name is not None
        assert pq.read_table(name).to_pylist() == rejects.table.to_pylist()


def test_nothing_is_written_for_no_rejects(tmp_path: Path) -> None:
    assert run({"y": [1]}, divert=True).rejects.write(tmp_path / "x.parquet") is None
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    broken = Rejects(np.array([0]), ("why",), pa.table({"a": pa.array([None], pa.null())}).add_column(
        1, "i", pa.array([(1, 2, 3)], pa.month_day_nano_interval())
    ))  # fmt: skip
    with pytest.raises(pa.ArrowException):
        broken.write(tmp_path / "x.parquet")
    assert not list(tmp_path.iterdir())


def test_a_dead_letter_file_can_be_mended_and_checked_again(tmp_path: Path) -> None:
    path = divert(pl.DataFrame(MIXED)).rejects.write(tmp_path / "dead.parquet")
    mended = pd.read_parquet(path).assign(y=1, x=0.0, u="z")
    assert divert(mended.assign(id=[1, 2, 3, 4])).rows == 4
    again = divert(mended).rejects.table
    assert again.column_names == [*MIXED, "reason"]
    assert again.column("reason").to_pylist() == ["id: id 1 came before in this table"]


NO_ROWS = pa.table({"y": pa.array([], pa.int64()), "u": pa.array([], pa.string())})


@pytest.mark.parametrize("data", [[], NO_ROWS, NO_ROWS.to_pandas(), pl.DataFrame({"y": [], "u": []})])
def test_empty_tables_are_fine(data: Any) -> None:
    found = run(data, keys=("u",), divert=True)
    assert (found.rows, len(found.rejects)) == (0, 0)
    assert found.label.shape == found.time.shape == (0,)


VALUES: list[tuple[Any, Any]] = [
    (pa.string_view(), "abc"),
    (pa.list_(pa.string_view()), ["abc"]),
    (pa.dictionary(pa.int8(), pa.string()), "abc"),
    (pa.list_view(pa.int64()), [1, 2]),
    (pa.list_(pa.float64(), 2), [1.0, 2.0]),
]


@pytest.mark.parametrize(("dtype", "value"), VALUES)
@settings(deadline=None, max_examples=40)
@given(bad=st.lists(st.booleans(), min_size=1, max_size=10), cut=st.integers(0, 10))
def test_rows_of_every_type_can_be_put_aside(dtype: Any, value: Any, bad: list[bool], cut: int) -> None:
    values = [value if number % 2 else None for number in range(len(bad))]
    column = pa.chunked_array([pa.array(part, dtype) for part in (values[:cut], values[cut:])])
    data = pa.table({"y": [5 if wrong else 1 for wrong in bad], "c": column, "n": np.arange(len(bad))})
    found = run(data, features=("c", "n"), divert=True)
    good = [number for number, wrong in enumerate(bad) if not wrong]
    assert found.columns["n"].to_pylist() == good
    assert found.columns["c"].to_pylist() == [values[number] for number in good]
    if any(bad):
        assert found.rejects.table.column("c").to_pylist() == [v for v, wrong in zip(values, bad) if wrong]
