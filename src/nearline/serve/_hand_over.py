"""Predictions on their way to the ledger: what is recorded of a scored request."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearline.features import Design, RowBlock
from nearline.glmix import Draw, Scores
from nearline.serve._acknowledge import Done
from nearline.serve._problems import Problem
from nearline.serve._service import Live, Service


def hand_over(
    service: Service, live: Live, now: float, design: Design, columns: dict[str, Any] | RowBlock, scores: Scores,
    draw: Draw | None, done: Done,
) -> int:  # fmt: skip
    """Position of the first prediction; `done` is called once all are durable.

    Raises
    ------
    Problem
        A row's time is in the future.
    Overloaded
        Too many rows wait for the disk.
    """
    n, schema = design.rows, live.rows.schema
    received = design.time
    if schema.time is not None:
        _refuse_future(design.time, now + service.limits.ahead_seconds, schema.time)
        received = np.full(n, now)
    more: dict[str, Any] = {
        "time": design.time, "received": received, "score": scores.margin, "version": scores.version,
    }  # fmt: skip
    if live.recalibrated:
        more["served"] = scores.served
    if schema.offset is not None:
        more["offset"] = design.offset
    if schema.weight is not None:
        more["weight"] = design.weight
    if draw is not None:
        more |= {"propensity": draw.propensity, "seed": draw.seed}
    return service.predictions.submit(n, columns | more, done)


def _refuse_future(time: NDArray[np.float64], latest: float, column: str) -> None:
    if float(np.maximum.reduce(time)) > latest:
        row = int(np.argmax(time > latest))
        raise Problem("invalid", f"time {float(time[row])!r} is in the future", f"rows[{row}].{column}")
