"""Whether a table is usable, and what each of its columns is for.

A `Schema` names the roles of columns; `check` turns a table into a `Checked` record or says what is wrong with it::

    Table ──► read_table ──► check(schema) ──► Checked ──► features.Encoder ──► Design
                                   └──► Rejects (divert=True): a dead-letter file
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline._errors import ConfigError, DataError
from nearline.schema._columns import Floats, family, numbers, seconds
from nearline.schema._faults import (
    LABELS,
    Fault,
    fault,
    feature_faults,
    first_error,
    id_faults,
    key_faults,
    labels,
    rejects,
)
from nearline.schema._kinds import (
    INTERCEPT,
    Key,
    Schema,
    accepts,
    key_columns,
)
from nearline.schema._tables import Rejects, pick, read_table

_KEY_FAMILIES = frozenset({"int", "float", "bool", "str", "null"})
_NUMBER_FAMILIES = frozenset({"int", "float", "decimal", "bool", "null"})
_TIME_FAMILIES = frozenset({"int", "float", "decimal", "date", "timestamp", "null"})


@dataclass(frozen=True)
class Checked:
    """A table whose rows are all usable.

    Attributes
    ----------
    columns
        Features and key columns as Arrow chunked arrays of n rows.
    label, weight, offset, time
        float64 (n); label is NaN where there is none, time is 0 where the schema or a table to be scored has none.
    rejects
        Rows that were left out; none unless `check(divert=True)`.
    """

    columns: Mapping[str, Any]
    label: Floats
    weight: Floats
    offset: Floats
    time: Floats
    rejects: Rejects

    @property
    def rows(self) -> int:
        """Number of usable rows n."""
        return len(self.label)


def check(
    table: Any,
    schema: Schema,
    *,
    features: Sequence[str],
    keys: Sequence[Key],
    link: str,
    need_label: bool,
    divert: bool = False,
    seen: Collection[object] = frozenset(),
) -> Checked:
    """Check every role of every row, and raise at the first bad row or put the bad rows aside.

    A missing (null or NaN) feature is fine. A bad row has a missing key, an infinite feature, a label outside the
    link's range, a negative weight, an offset, weight or time that is not finite, a vector of another length than the
    others, or an id that came before.

    Parameters
    ----------
    table
        Anything `read_table` takes.
    features, keys
        Columns that the model reads.
    link
        "logit" (labels 0/1; −1/+1 when the whole column is), "log" (labels ≥ 0) or "identity".
    need_label
        False for scoring: label, weight, id and time columns may be absent and labels may be missing.
    divert
        Return the good rows, with the bad ones in `Checked.rejects`.
    seen
        Ids learned before; it is not changed.

    Raises
    ------
    DataError
        A column is unknown or of the wrong type; a bad row, unless `divert`.

    Examples
    --------
    >>> check({"x": [1.0, 2.0], "y": [1, 3]}, Schema("y"), features=["x"], keys=[], link="logit", need_label=True)
    Traceback (most recent call last):
        ...
    nearline._errors.DataError: column 'y', row 1: label is 3, expected 0 or 1; correct the label or drop the row
    """
    if link not in LABELS:
        raise ConfigError(f"link {link!r} is unknown; use one of {sorted(LABELS)}")
    table = read_table(table)
    columns = _columns(table, schema, features, keys, need_label)
    label, outside = labels(_numbers(columns, schema.label, np.nan, table.num_rows), link, need_label)
    checked = _checked(columns, schema, label)
    faults = _feature_and_key_faults(columns, schema, features, keys) if table.num_rows else []
    problem = f"label is {{}}, expected {LABELS[link]}"
    faults += fault(schema.label, outside, problem, "correct the label or drop the row")
    faults += _role_faults(checked, schema)
    if schema.id is not None and schema.id in columns and table.num_rows:
        faults += id_faults(schema.id, columns[schema.id], _any_bad(faults, table.num_rows), seen)
    if faults and not divert:
        raise first_error(faults, columns)
    return _without(checked, rejects(table, faults, columns)) if faults else checked


def _columns(
    table: Any, schema: Schema, features: Sequence[str], keys: Sequence[Key], need_label: bool
) -> dict[str, Any]:
    """Every column that a role asks for, by name, its type checked."""
    columns: dict[str, Any] = {}
    if not table.num_columns and not table.num_rows:
        return columns
    for name, role, optional in _roles(schema, features, keys, need_label):
        column = columns.get(name)
        if column is None:
            column = _column(table, name, optional)
        if column is not None:
            _check_type(name, role, column.type, schema)
            columns[name] = column
    return columns


def _roles(
    schema: Schema, features: Sequence[str], keys: Sequence[Key], need_label: bool
) -> Iterator[tuple[str, str, bool]]:
    for name in features:
        yield name, "feature", False
    for name in key_columns(keys):
        yield name, "key", False
    for role, optional in _OPTIONAL.items():
        name = getattr(schema, role)
        if name is not None:
            yield name, role, optional and not need_label


_OPTIONAL = {"label": True, "time": True, "id": True, "weight": True, "offset": False}
_ALLOWED = {
    "key": (_KEY_FAMILIES, "integers or strings"),
    "label": (_NUMBER_FAMILIES, "numbers or booleans"),
    "weight": (_NUMBER_FAMILIES, "numbers"),
    "offset": (_NUMBER_FAMILIES, "numbers"),
    "time": (_TIME_FAMILIES, "timestamps, dates or seconds since the epoch"),
    "id": (_KEY_FAMILIES, "integers or strings"),
}


def _column(table: Any, name: str, optional: bool) -> Any:
    position = table.schema.get_field_index(name)
    if position >= 0:
        return table.column(position)
    if table.schema.get_all_field_indices(name):
        raise DataError("two columns have this name", column=name, fix="rename one of them")
    if optional:
        return None
    near = difflib.get_close_matches(name, table.column_names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"the table has {table.column_names}"
    raise DataError("the table has no such column", column=name, fix=hint)


def _check_type(name: str, role: str, dtype: Any, schema: Schema) -> None:
    if role != "feature":
        families, wanted = _ALLOWED[role]
        if family(dtype) not in families:
            raise DataError(f"a {role} column cannot be {dtype}", column=name, fix=f"make it {wanted}")
        return
    if name == INTERCEPT:
        raise DataError("this name belongs to the intercept", column=name, fix="rename the column")
    if name == schema.label:
        raise DataError("the label cannot be a feature", column=name, fix="leave it out of the features")
    kind = schema.kind(name, dtype)
    if kind is None and not _tells_nothing(dtype):
        raise DataError(f"a feature cannot be {dtype}", column=name, fix="cast it to numbers or strings")
    if kind is not None and not accepts(kind, dtype):
        raise DataError(
            f"{dtype} does not suit {kind}", column=name, fix="cast the column or declare another kind in the schema"
        )


def _tells_nothing(dtype: Any) -> bool:
    """Whether all values may be missing: an earlier table may have said what the column is."""
    found = family(dtype)
    return "null" in (found, family(dtype.value_type) if found == "list" else found)


def _numbers(columns: Mapping[str, Any], name: str | None, otherwise: float, n: int) -> Floats:
    return numbers(columns[name]) if name is not None and name in columns else np.full(n, otherwise)


def _checked(columns: Mapping[str, Any], schema: Schema, label: Floats) -> Checked:
    n = len(label)
    return Checked(
        columns,
        label=label,
        weight=_numbers(columns, schema.weight, 1.0, n),
        offset=_numbers(columns, schema.offset, 0.0, n),
        time=seconds(columns[schema.time]) if schema.time and schema.time in columns else np.zeros(n),
        rejects=_NOTHING,
    )


_NOTHING = Rejects(np.zeros(0, np.int64), (), pa.table({}))


def _feature_and_key_faults(
    columns: Mapping[str, Any], schema: Schema, features: Sequence[str], keys: Sequence[Key]
) -> list[Fault]:
    faults: list[Fault] = []
    for name in features:
        faults += feature_faults(name, columns[name], schema.kind(name, columns[name].type))
    for name in key_columns(keys):
        faults += key_faults(name, columns[name])
    return faults


def _role_faults(checked: Checked, schema: Schema) -> list[Fault]:
    faults: list[Fault] = []
    if schema.weight is not None and schema.weight in checked.columns:
        bad = ~((checked.weight >= 0) & (checked.weight < np.inf))
        faults += fault(schema.weight, bad, "weight is {}", "a weight is a finite number of at least 0")
    for name, role, values in ((schema.offset, "offset", checked.offset), (schema.time, "time", checked.time)):
        if name is not None and name in checked.columns:
            faults += fault(name, ~np.isfinite(values), f"{role} is {{}}", "fill it or drop the row")
    return faults


def _any_bad(faults: Sequence[Fault], n: int) -> NDArray[np.bool_]:
    bad = np.zeros(n, bool)
    for found in faults:
        bad[found.rows] = True
    return bad


def _without(checked: Checked, refused: Rejects) -> Checked:
    """The rows that were not refused."""
    kept = np.ones(checked.rows, bool)
    kept[refused.rows] = False
    rows = np.flatnonzero(kept)
    columns = {name: pick(column, rows) for name, column in checked.columns.items()}
    return Checked(
        columns, checked.label[kept], checked.weight[kept], checked.offset[kept], checked.time[kept], refused
    )
