"""From rows of the predictions log to a table that a model learns from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline._errors import StateError
from nearline.deep import NetworkGLMix, rows_of
from nearline.glmix import GLMix
from nearline.schema import key_columns
from nearline.store import Version, predictions_schema


def columns_of(model: GLMix) -> tuple[str, ...]:
    """Names of the features and keys that a model reads."""
    deep = model.columns if isinstance(model, NetworkGLMix) else ()
    return tuple(dict.fromkeys((*key_columns(model.encoder.keys), *model.encoder.features, *deep)))


def predictions_of(model: GLMix, recalibrated: bool = False, sketch: int = 0) -> Any:
    """Schema of the predictions log of a model; `sketch` is the length of the gradient sketches of its network."""
    columns = {field.name: field.type for field in rows_of(model, sketch).arrow}
    offset, weight = model.schema.offset is not None, model.schema.weight is not None
    return predictions_schema(columns, offset=offset, weight=weight, served=recalibrated)


def require_recorded(version: Version, model: GLMix, recorded: Any) -> None:
    """Refuse a model that reads columns, or has them recorded, which the open log of predictions does not have.

    Raises
    ------
    StateError
        Names them. A service that starts with the version opens the log with its columns.
    """
    missing = [name for name in rows_of(model).arrow.names if name not in recorded.names]
    if missing:
        raise StateError(
            f"version {version} needs {missing}, which this service does not record; stop it, make the version live "
            "with nearline publish or rollback, and start it again"
        )


def events(taken: pa.Table, model: GLMix, label: NDArray[np.float64] | None = None) -> dict[str, Any]:
    """Columns for `GLMix.design`: features as they were seen when they were scored, with their labels.

    Parameters
    ----------
    taken
        Rows of the predictions log (n).
    label
        What became of them (n); None where they are only to be scored.
    """
    schema = model.schema
    found: dict[str, Any] = {name: taken.column(name) for name in columns_of(model)}
    roles = {schema.time: "time", schema.id: "prediction_id", schema.weight: "weight", schema.offset: "offset"}
    found |= {name: taken.column(column) for name, column in roles.items() if name is not None}
    if isinstance(model, NetworkGLMix):
        found |= model.recorded(taken)
    if label is not None:
        found[schema.label] = pa.array(label)
    return found
