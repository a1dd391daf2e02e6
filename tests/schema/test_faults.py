"""What is wrong with a row: labels, features, keys, weights, offsets, times and ids, named by column and row."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from tests.schema.parts import INF, NAN, run

from nearline._errors import DataError
from nearline.schema import Categorical, Hashed, Multi, Numeric, Schema, Vector


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
