"""Types of served rows: per column that a model reads, one typed field to decode and one Arrow field to record.

The kinds and families are those that the encoder has learned, so a request is refused with the name of its field
before anything is computed. A key, and the offset, has to be there; a feature may be absent or null; a time that is
absent is now.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Optional, Union

import msgspec
import pyarrow as pa

from nearline._errors import ConfigError
from nearline.features._encoder import Encoder
from nearline.features._vocabulary import Column
from nearline.schema import Hashed, Multi, Numeric, Vector

Integer = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Weight = Annotated[float, msgspec.Meta(ge=0.0)]
_VALUES: dict[str, tuple[Any, Any]] = {
    "int": (Integer, pa.int64()),
    "str": (str, pa.string()),
    "bool": (bool, pa.bool_()),
}


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a served row.

    Attributes
    ----------
    name
        Column.
    type
        What its JSON value may be.
    arrow
        Type it is recorded as.
    default
        Value of an absent field; `msgspec.NODEFAULT` where it has to be there.
    """

    name: str
    type: Any
    arrow: Any
    default: Any = None


def fields(encoder: Encoder, families: dict[str, str]) -> list[Field]:
    """Fields of a row: keys, features, then the offset, weight and time that the schema names.

    Raises
    ------
    ConfigError
        The encoder has not learned yet what a column is.
    """
    found = {name: Field(name, *_VALUES[family], msgspec.NODEFAULT) for name, family in families.items()}
    for column in encoder._columns:
        if column.name not in found:
            found[column.name] = Field(column.name, *_feature(column))
    schema = encoder.schema
    roles = ((schema.offset, float, msgspec.NODEFAULT), (schema.weight, Weight, 1.0))
    for name, kind, default in (*roles, (schema.time, Optional[float | datetime], None)):  # noqa: UP045
        if name is not None and name not in found:
            found[name] = Field(name, kind, pa.float64(), default)
    return list(found.values())


def key_families(encoder: Encoder) -> dict[str, str]:
    """Family (int, str, bool) of every key column."""
    found: dict[str, str] = {}
    for key in encoder.keys:
        known = encoder._entities[key].families
        for name, family in zip((key,) if isinstance(key, str) else key, known):
            if family is None:
                raise ConfigError(f"key {name!r} has no values yet: let the model learn a table before it serves")
            found[name] = family
    return found


def _feature(column: Column) -> tuple[Any, Any]:
    value, arrow = _VALUES[column.family or "str"]
    items = list[Optional[value]]  # type: ignore[valid-type]  # noqa: UP045
    match column.kind:
        case None:
            raise ConfigError(
                f"column {column.name!r} has no kind yet: declare it in Schema(columns=...), "
                "or let the model learn a table before it serves"
            )
        case Numeric():
            return Optional[float | bool], pa.float64()  # noqa: UP045
        case Vector():
            return Optional[list[Optional[float]]], pa.list_(pa.float64())  # noqa: UP045
        case Multi(sep) if sep is not None and column.family in (None, "str"):
            return Optional[str], pa.string()  # noqa: UP045
        case Multi():
            return Optional[items], pa.list_(arrow)  # noqa: UP045
        case Hashed():
            return Optional[Union[value, items]], pa.list_(arrow)  # noqa: UP007, UP045
    return Optional[value], arrow  # noqa: UP045


def row_type(found: list[Field]) -> type[msgspec.Struct]:
    """Struct with one field per column, in order, that refuses columns the model does not read."""
    names = {f"f{number}": field.name for number, field in enumerate(found)}
    order = [
        (name, field.type) if field.default is msgspec.NODEFAULT else (name, field.type, field.default)
        for name, field in zip(names, found)
    ]
    return msgspec.defstruct("Row", order, rename=names, kw_only=True, gc=False, forbid_unknown_fields=True)
