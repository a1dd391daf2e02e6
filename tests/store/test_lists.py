"""Lists to Arrow: the short cut says what `pyarrow.array` says."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearline.store._lists import from_list

TEXT = st.text(max_size=5)
KINDS = {
    pa.float64(): st.floats() | st.integers(-(2**53), 2**53),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.string(): TEXT,
    pa.list_(pa.string()): st.lists(TEXT | st.none(), max_size=3),
    pa.list_(pa.float64()): st.lists(st.floats(), max_size=3),
    pa.bool_(): st.booleans(),
}


@pytest.mark.parametrize("dtype", KINDS, ids=str)
@given(data=st.data())
def test_the_same_as_pyarrow(dtype: Any, data: st.DataObject) -> None:
    value = KINDS[dtype]
    for values in (data.draw(st.lists(value, max_size=9)), data.draw(st.lists(value | st.none(), max_size=9))):
        found, expected = from_list(values, dtype), pa.array(values, dtype)
        found.validate(full=True)
        assert found.type == dtype
        assert repr(found.to_pylist()) == repr(expected.to_pylist())


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (["a", 1], pa.string()),
        (["a", "\ud800"], pa.string()),
        ([1.5], pa.int64()),
        ([1 << 63], pa.int64()),
        (["1"], pa.float64()),
        ([["a"], 3], pa.list_(pa.string())),
        ([["a", 3]], pa.list_(pa.string())),
    ],
)
def test_what_pyarrow_refuses_is_refused(values: list[Any], dtype: Any) -> None:
    with pytest.raises((pa.ArrowException, TypeError, ValueError, OverflowError)):
        from_list(values, dtype)
