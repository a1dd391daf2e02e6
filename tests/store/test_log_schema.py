"""What a log is opened with: columns may come and go, and what it cannot keep is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from store_rows import SCHEMA, filled

from nearline import ConfigError, StateError
from nearline.store import Log


def test_columns_may_come_and_go_and_a_kept_one_keeps_its_type(tmp_path: Path) -> None:
    filled(tmp_path, 3, 2).close()
    wider = pa.schema([*[SCHEMA.field(i) for i in (2, 0)], pa.field("new", pa.string())])
    with Log.open(tmp_path, wider) as log:
        log.append(pa.record_batch([[0.5], [5], ["here"]], schema=wider))
        log.commit()
        for sealed in (False, True):
            if sealed:
                log.seal(active=True)
                log.compact()
            assert log.take([5, 1])["new"].to_pylist() == ["here", None]
            assert log.read(0)["n"].to_pylist() == [0, 1, 2, 3, 4, 5]
            assert log.dataset().to_table().equals(log.read(0))
    with Log.open(tmp_path, SCHEMA) as log:
        assert log.read(4)["text"].to_pylist() == ["värde 4", None]
    with pytest.raises(StateError, match="column 'n' was written as int64 and is asked for as double"):
        Log.open(tmp_path, pa.schema({"n": pa.float64()}))
    Log.open(tmp_path, SCHEMA).close()


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        (pa.schema([]), "needs columns"),
        (pa.schema([("a", pa.int64()), ("a", pa.int64())]), "distinct names"),
        (pa.schema({"a": pa.dictionary(pa.int32(), pa.string())}), "column 'a': a log keeps plain values; use string"),
    ],
)
def test_a_schema_that_a_log_cannot_keep_is_refused(tmp_path: Path, schema: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Log.open(tmp_path, schema)


@pytest.mark.parametrize("setting", ["segment_rows", "segment_bytes"])
def test_limits_must_be_positive(tmp_path: Path, setting: str) -> None:
    with pytest.raises(ConfigError, match=f"{setting}=0"):
        Log.open(tmp_path, SCHEMA, **{setting: 0})
