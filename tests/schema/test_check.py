"""check before any row is looked at: names, types, links."""

from __future__ import annotations

import datetime
from typing import Any

import pyarrow as pa
import pytest
from tests.schema.parts import run

from nearline._errors import ConfigError, DataError
from nearline.schema import Multi, Numeric, Schema


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
