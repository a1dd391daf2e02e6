"""The columns of the ledger's logs."""

from __future__ import annotations

import pyarrow as pa
import pytest

from nearline import ConfigError
from nearline.store import EXAMPLES, OUTCOMES, examples_schema, predictions_schema


def test_a_prediction_keeps_what_was_seen_between_its_times_and_its_score() -> None:
    schema = predictions_schema({"user": pa.int64(), "genres": pa.list_(pa.string())}, offset=True, weight=True)
    assert schema.names == [
        "prediction_id", "time", "received", "user", "genres", "offset", "weight",
        "score", "version", "propensity", "seed",
    ]  # fmt: skip
    assert schema.field("genres").type == pa.list_(pa.string())
    assert predictions_schema([("user", pa.int64())]).names[3:5] == ["user", "score"]


def test_every_column_may_be_null() -> None:
    for schema in (predictions_schema({"a": pa.int64()}), OUTCOMES, EXAMPLES):
        assert all(field.nullable for field in schema)


@pytest.mark.parametrize("name", ["score", "time", "prediction_id", "seed"])
def test_a_feature_with_the_name_of_a_usual_column_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}'"):
        predictions_schema({name: pa.float64()})


def test_offset_is_an_ordinary_name_where_the_model_has_none() -> None:
    assert "offset" in predictions_schema({"offset": pa.int64()}).names
    with pytest.raises(ConfigError, match="'offset'"):
        predictions_schema({"offset": pa.int64()}, offset=True)


def test_examples_may_have_further_columns() -> None:
    assert examples_schema({"sample": pa.float64()}).names == [*EXAMPLES.names, "sample"]
    with pytest.raises(ConfigError, match="'loss'"):
        examples_schema({"loss": pa.float64()})
