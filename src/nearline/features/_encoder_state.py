"""An encoder's vocabulary as JSON and Arrow arrays, and back without loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from typing import Any

import pyarrow as pa

from nearline._errors import StateError
from nearline.features._entities import Entities
from nearline.features._vocabulary import Column, Slots
from nearline.schema import _kinds
from nearline.schema._columns import Level
from nearline.schema._kinds import ColumnKind, Key, Schema

FORMAT = 1
_KINDS = {
    kind.__name__: kind for kind in (_kinds.Numeric, _kinds.Categorical, _kinds.Multi, _kinds.Vector, _kinds.Hashed)
}


def schema_state(schema: Schema) -> dict[str, Any]:
    """Schema as JSON."""
    plain = {"label": schema.label, "time": schema.time, "id": schema.id, "weight": schema.weight}
    kinds = {name: _kind_state(kind) for name, kind in schema.columns.items()}
    return {**plain, "offset": schema.offset, "columns": kinds}


def schema_from(state: Mapping[str, Any]) -> Schema:
    """Inverse of `schema_state`."""
    return Schema(**{**state, "columns": {name: _kind_from(kind) for name, kind in state["columns"].items()}})


def _kind_state(kind: ColumnKind | None) -> dict[str, Any] | None:
    return None if kind is None else {"kind": type(kind).__name__, **asdict(kind)}


def _kind_from(state: Mapping[str, Any] | None) -> Any:
    if state is None:
        return None
    options = dict(state)
    return _KINDS[options.pop("kind")](**options)


def column_state(column: Column) -> dict[str, Any]:
    """All of a column but its levels, as JSON."""
    plain = {"name": column.name, "family": column.family, "center": column.center, "scale": column.scale}
    return {**plain, "kind": _kind_state(column.kind), "levels": len(column.slots)}


def column_arrays(column: Column) -> tuple[Any, Any]:
    """Levels and their slots, in order of appearance."""
    return to_arrow(list(column.slots)), pa.array(list(column.slots.values()), pa.int32())


def columns_from(states: Sequence[Mapping[str, Any]], arrays: Mapping[str, Any]) -> list[Column]:
    """Inverse of `column_state` and `column_arrays`, for all columns."""
    return [_column_from(state, number, arrays) for number, state in enumerate(states)]


def _column_from(state: Mapping[str, Any], number: int, arrays: Mapping[str, Any]) -> Column:
    options = {name: state[name] for name in ("name", "family", "center", "scale")}
    levels = from_arrow(_part(arrays, f"levels.{number}", state["levels"]))
    slots = _part(arrays, f"slots.{number}", state["levels"]).to_pylist()
    return Column(**options, kind=_kind_from(state["kind"]), slots=dict(zip(levels, slots)))


def slots_from(columns: Sequence[Column]) -> Slots:
    """Slots of all columns in order, behind the intercept."""
    found = sorted(
        ((slot, column, level) for column in columns for level, slot in column.slots.items()),
        key=lambda entry: entry[0],
    )
    if [slot for slot, *_ in found] != list(range(1, len(found) + 1)):
        raise StateError("the slots of the encoder's state have gaps or repeat")
    slots = Slots()
    for _, column, level in found:
        slots.add(column, level)
    return slots


def entity_arrays(entities: Entities) -> list[Any]:
    """Values by code, one array per column of the key."""
    if isinstance(entities.key, str):
        return [to_arrow(entities.values)]  # type: ignore[arg-type]
    columns = list(zip(*entities.values)) or [()] * len(entities.key)
    return [to_arrow(column) for column in columns]


def entities_from(
    states: Sequence[Mapping[str, Any]], keys: Sequence[Key], arrays: Mapping[str, Any]
) -> dict[Key, Entities]:
    """Inverse of `entity_arrays`, for all keys."""
    return {key: _entities_from(key, state, number, arrays) for number, (key, state) in enumerate(zip(keys, states))}


def _entities_from(key: Key, state: Mapping[str, Any], number: int, arrays: Mapping[str, Any]) -> Entities:
    families = list(state["families"])
    names = [f"entities.{number}.{place}" for place in range(len(families))]
    columns = [from_arrow(_part(arrays, name, state["entities"])) for name in names]
    values: list[Any] = columns[0] if isinstance(key, str) else list(zip(*columns))
    codes = dict(zip(values, range(len(values))))
    if len(codes) != len(values):
        raise StateError(f"entities of {key!r} repeat in the encoder's state")
    return Entities(key, families, values, codes)


def to_arrow(values: Sequence[Level]) -> Any:
    """Values of one family as the smallest Arrow array that keeps them."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, OverflowError):  # integers beyond int64
        return pa.array([None if value is None else Decimal(value) for value in values], pa.decimal128(20))


def from_arrow(array: Any) -> list[Level]:
    """Inverse of `to_arrow`."""
    values = array.to_pylist()
    if pa.types.is_decimal(array.type):
        return [None if value is None else int(value) for value in values]
    return values  # type: ignore[no-any-return]


def _part(arrays: Mapping[str, Any], name: str, length: int) -> Any:
    """One array of a stored state, refused when absent or of another length than the state says."""
    if name not in arrays:
        raise StateError(f"the encoder's state lacks the array {name!r}")
    if len(arrays[name]) != length:
        raise StateError(f"array {name!r} of the encoder's state has {len(arrays[name])} entries, not {length}")
    return arrays[name]
