"""Which rows are bad, and why: one function per role of a column."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nearline._errors import DataError
from nearline.schema._columns import Floats, Ints, decoded, family, fractional, lists, numbers, uniques
from nearline.schema._kinds import ColumnKind, Hashed, Multi, Numeric, Vector
from nearline.schema._tables import Rejects, pick

LABELS = {"logit": "0 or 1", "log": "a finite number of at least 0", "identity": "a finite number"}
"""What a label may be, by link."""


@dataclass(frozen=True)
class Fault:
    """Bad rows of one column, with one problem and one fix; "{}" in the problem is the value."""

    column: str
    rows: Ints
    problem: str
    fix: str

    def reason(self, values: Any, row: int) -> str:
        """Problem at `row`, with its value filled in."""
        value = values[row].as_py()
        return self.problem.replace("{}", "null" if value is None else repr(value))


def fault(column: str, bad: NDArray[np.bool_], problem: str, fix: str) -> list[Fault]:
    """One fault if any row is bad, else none."""
    return [Fault(column, np.flatnonzero(bad), problem, fix)] if bad.any() else []


def labels(values: Floats, link: str, need_label: bool) -> tuple[Floats, NDArray[np.bool_]]:
    """Labels as the link wants them, and which are outside its range (a missing one too, where one is needed)."""
    if link == "logit":
        bad = ~((values == 0) | (values == 1))
        if bad.any() and _signs(values):
            values = (values + 1) / 2
            bad = np.isnan(values)
    else:
        bad = ~np.isfinite(values)
        if link == "log":
            bad |= ~(values >= 0)
    return values, bad if need_label else bad & ~np.isnan(values)


def _signs(values: Floats) -> bool:
    return bool(np.all((np.abs(values) == 1) | np.isnan(values)))


def feature_faults(column: str, values: Any, kind: ColumnKind | None) -> list[Fault]:
    """Infinite numbers, fractional categories and vectors of unequal length; missing is fine."""
    found = family(values.type)
    if isinstance(kind, Numeric) and found in ("float", "decimal"):
        return fault(column, np.isinf(numbers(values)), "feature is {}", "clip it, or make it null (missing)")
    if isinstance(kind, Vector) and found == "list":
        return _vector_faults(column, values)
    if found == "float":
        bad = fractional(numbers(values))
        return fault(column, bad, "category is {}", "declare the column Numeric() or cast it to string")
    if isinstance(kind, Multi | Hashed) and found == "list" and family(values.type.value_type) == "float":
        counts, items = lists(values)
        bad = _any_item(fractional(numbers(items)), counts)
        return fault(column, bad, "category is {}", "declare the column Vector() or cast its items to string")
    return []


def _vector_faults(column: str, values: Any) -> list[Fault]:
    counts, items = lists(values)
    lengths = counts[counts > 0]
    if not len(lengths):
        return []
    bad = (counts > 0) & (counts != lengths[0])
    found = fault(column, bad, f"vector {{}} has another length than {lengths[0]}", "make all vectors one length")
    infinite = _any_item(np.isinf(numbers(items)), counts)
    return found + fault(column, infinite, "vector is {}", "clip it, or make it null (missing)")


def _any_item(flags: NDArray[np.bool_], counts: Ints) -> NDArray[np.bool_]:
    """Which lists hold a flagged item."""
    lengths = np.maximum(counts, 0)
    bad = np.zeros(len(counts), bool)
    if flags.any():
        bad[np.repeat(np.arange(len(counts)), lengths)[flags]] = True
    return bad


def key_faults(column: str, values: Any) -> list[Fault]:
    """Missing keys, and floats that are no integers."""
    fix = "every row needs this key"
    if family(values.type) == "float":
        found = numbers(values)
        faults = fault(column, np.isnan(found), "key is {}", fix)
        return faults + fault(column, fractional(found), "key is {}", "make it an integer or a string")
    if pa.types.is_dictionary(values.type):  # a null may hide in the dictionary
        values = decoded(values)
    return fault(column, pc.is_null(values).to_numpy(), "key is {}", fix) if values.null_count else []


def id_faults(column: str, values: Any, bad: NDArray[np.bool_], seen: Collection[object]) -> list[Fault]:
    """Ids that are missing, learned before, or repeated among the rows that are not `bad` already."""
    broken = fractional(numbers(values)) if family(values.type) == "float" else np.zeros(len(values), bool)
    if broken.any():
        values, bad = pc.if_else(pa.array(broken), None, values), bad | broken
    codes, names = uniques(values, column)
    if not bad.any() and not seen and len(set(names)) == len(values) and None not in names:
        return []
    order = {name: code for code, name in reversed(list(enumerate(names)))}
    codes = np.array([order[name] for name in names], np.int64)[codes]
    missing = np.array([name is None for name in names], bool)[codes] & ~broken
    known = np.array([name in seen for name in names], bool)[codes] & ~missing
    good = np.flatnonzero(~(bad | missing | known))
    first = np.zeros(len(names), np.int64)
    first[codes[good[::-1]]] = good[::-1]  # the last write wins: the first good row of each id
    again = np.zeros(len(values), bool)
    again[good] = first[codes[good]] != good
    return (
        fault(column, broken, "id is {}", "make it an integer or a string")
        + fault(column, missing, "id is {}", "every row needs an id")
        + fault(column, known, "id {} was learned before", "drop the row")
        + fault(column, again, "id {} came before in this table", "drop the row")
    )


def first_error(faults: Sequence[Fault], columns: Mapping[str, Any]) -> DataError:
    """The error of the first bad row."""
    worst = min(faults, key=lambda fault: int(fault.rows[0]))
    row = int(worst.rows[0])
    return DataError(worst.reason(columns[worst.column], row), column=worst.column, row=row, fix=worst.fix)


def rejects(table: Any, faults: Sequence[Fault], columns: Mapping[str, Any]) -> Rejects:
    """The bad rows, each with all its reasons."""
    reasons: dict[int, list[str]] = {}
    for found in faults:
        values = columns[found.column]
        for row in found.rows.tolist():
            reasons.setdefault(row, []).append(f"{found.column}: {found.reason(values, row)}")
    rows = sorted(reasons)
    texts = tuple("; ".join(reasons[row]) for row in rows)
    places = np.array(rows, np.int64)
    kept = {n: name for n, name in enumerate(table.column_names) if name != "reason"}
    parts = [*(pick(table.column(n), places) for n in kept), pa.chunked_array([pa.array(texts, pa.string())])]
    return Rejects(places, texts, pa.Table.from_arrays(parts, names=[*kept.values(), "reason"]))
