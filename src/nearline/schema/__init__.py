"""Whether a table is usable, and what each of its columns is for."""

from nearline.schema._check import Checked, check
from nearline.schema._kinds import (
    INTERCEPT,
    Categorical,
    ColumnKind,
    Hashed,
    Key,
    Multi,
    Numeric,
    Schema,
    Vector,
    key_columns,
)
from nearline.schema._tables import Rejects, read_table

__all__ = [
    "INTERCEPT",
    "Categorical",
    "Checked",
    "ColumnKind",
    "Hashed",
    "Key",
    "Multi",
    "Numeric",
    "Rejects",
    "Schema",
    "Vector",
    "check",
    "key_columns",
    "read_table",
]
