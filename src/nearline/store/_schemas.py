"""The columns of the three logs of the ledger. All times are float64 seconds since the epoch.

Every column may be null: a row that could not be written as asked (see `Recorder`) is null but for its id, and a row
whose time is null is void.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from nearline._errors import ConfigError

_FRONT = {"prediction_id": pa.string(), "time": pa.float64(), "received": pa.float64()}
_BACK = {"score": pa.float64(), "version": pa.string(), "propensity": pa.float64(), "seed": pa.int64()}

OUTCOMES = pa.schema(
    {
        "prediction_id": pa.string(),
        "prediction": pa.int64(),
        "time": pa.float64(),
        "received": pa.float64(),
        "label": pa.float64(),
        "kind": pa.string(),
    }
)
"""What happened: position of the prediction, event and arrival time, label, kind (outcome, correct, retract)."""

EXAMPLES = pa.schema(
    {
        "prediction_id": pa.string(),
        "prediction": pa.int64(),
        "outcome": pa.int64(),
        "time": pa.float64(),
        "label": pa.float64(),
        "previous": pa.float64(),
        "weight": pa.float64(),
        "score": pa.float64(),
        "loss": pa.float64(),
        "margin": pa.float64(),
        "action": pa.string(),
        "reason": pa.string(),
        "version": pa.string(),
    }
)
"""What was learned: one record batch per mini-batch. score and loss are as recorded, margin is just before learning."""


def predictions_schema(
    columns: Mapping[str, Any] | Sequence[tuple[str, Any]],
    *,
    offset: bool = False,
    weight: bool = False,
    served: bool = False,
) -> Any:
    """Schema of the log of predictions.

    Parameters
    ----------
    columns
        Arrow type of every key and feature column, as seen.
    offset, weight
        Whether the model's schema has an offset, a weight.
    served
        Whether what is answered is recorded beside the score, as scores may be recalibrated.

    Raises
    ------
    ConfigError
        A column has the name of one that every prediction has.

    Examples
    --------
    >>> predictions_schema({"user_id": pa.int64(), "hour": pa.float64()}).names[3:6]
    ['user_id', 'hour', 'score']
    """
    seen = dict(columns)
    extra = {
        name: pa.float64() for name, wanted in (("offset", offset), ("weight", weight), ("served", served)) if wanted
    }
    taken = sorted(seen.keys() & {**_FRONT, **extra, **_BACK}.keys())
    if taken:
        raise ConfigError(f"column {taken[0]!r} has the name of a column that every prediction has; rename it")
    return pa.schema({**_FRONT, **seen, **extra, **_BACK})


def examples_schema(columns: Mapping[str, Any] | None = None) -> Any:
    """Schema of the log of examples, with further columns behind the usual ones (of a sample of coefficients, say).

    Raises
    ------
    ConfigError
        A further column has the name of a usual one.
    """
    further = dict(columns or {})
    taken = sorted(further.keys() & set(EXAMPLES.names))
    if taken:
        raise ConfigError(f"column {taken[0]!r} is one of those that every example has; rename it")
    return pa.schema([*EXAMPLES, *pa.schema(further)])
