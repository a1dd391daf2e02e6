"""Rows written with one schema, read with another: columns may come and go, a column keeps its type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from nearline._errors import ConfigError, DataError, StateError
from nearline.store._packed import arrow_of

_VIEWS = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}


def checked_schema(schema: Any) -> Any:
    """The schema, without metadata, when a log can keep it.

    Raises
    ------
    ConfigError
        No column, a column twice, string views, or dictionary-encoded values (a stream would need their dictionaries).
    """
    if not schema.names or len(set(schema.names)) < len(schema.names):
        raise ConfigError(f"a log needs columns with distinct names, not {schema.names}")
    for field in schema:
        if pa.types.is_dictionary(field.type):
            raise ConfigError(f"column {field.name!r}: a log keeps plain values; use {field.type.value_type}")
        if field.type in _VIEWS:
            raise ConfigError(f"column {field.name!r}: rows of {field.type} cannot be taken; use {_VIEWS[field.type]}")
    return schema.remove_metadata()


def check_readable(path: Path, written: Any, schema: Any) -> None:
    """Raise StateError when a column of the file has another type than the log's schema asks for."""
    for field in schema:
        at = written.get_field_index(field.name)
        if at >= 0 and written.field(at).type != field.type:
            raise StateError(
                f"{path}: column {field.name!r} was written as {written.field(at).type} and is asked for as "
                f"{field.type}; give the new column another name, or begin in another folder"
            )


def fitted(rows: Any, schema: Any) -> Any:
    """Table or batch with exactly the columns of the schema; one that was not written is null."""
    if rows.schema.equals(schema):
        return rows
    missing = len(rows)
    columns = [
        rows.column(field.name) if field.name in rows.schema.names else pa.nulls(missing, field.type)
        for field in schema
    ]
    return type(rows).from_arrays(columns, schema=schema)


def check_batch(batch: Any, schema: Any) -> Any:
    """The batch, `Packed` or not, without metadata.

    Raises DataError unless it has the log's columns in the log's order and types.
    """
    if batch.schema.equals(schema):
        return batch
    if batch.schema.names != schema.names:
        raise DataError(f"the batch has columns {batch.schema.names}, the log has {schema.names}")
    for ours, theirs in zip(schema, batch.schema):
        if ours.type != theirs.type:
            raise DataError(f"is {theirs.type}, the log keeps {ours.type}", column=ours.name)
    return pa.RecordBatch.from_arrays(arrow_of(batch).columns, schema=schema)
