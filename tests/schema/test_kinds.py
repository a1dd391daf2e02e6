"""Kinds of columns: which Arrow types they accept, and which options they refuse."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from tests.schema.parts import INF, NAN

from nearline._errors import ConfigError
from nearline.schema import Categorical, Hashed, Multi, Numeric, Schema, Vector, key_columns
from nearline.schema._kinds import accepts, infer


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
