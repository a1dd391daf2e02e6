"""What a tick did, as a batch of the examples log: one row per joined row, learned or not, with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nearline.join import Action, Joined, Reason
from nearline.store import examples_schema

Floats = NDArray[np.float64]

SCHEMA = examples_schema({"variance": pa.float64(), "discount": pa.float64()})
"""Columns of the examples log: the usual ones and what a correction needs besides `margin`."""

NAMES = tuple(action.name.lower() for action in Action)
SUPERSEDED, QUARANTINED, FAILED, LOOSENED = "superseded", "quarantined", "failed", "loosened"
HELD_OUT = "held_out"
"""Action of an example that nothing ever learns, so that the gate can judge by it."""
LEARNS = ("learn", "negative", "late", "correct")
"""Actions after which the row's label is what the model holds of its prediction."""
UNDOES = ("correct", "retract", "late")
"""Actions that may have undone an earlier example of the prediction; those with a previous label did."""


@dataclass
class Rows:
    """Columns of a tick's examples (n), filled in while the tick is learned."""

    action: list[str]
    reason: list[str | None]
    label: Floats
    previous: Floats
    margin: Floats
    variance: Floats
    discount: Floats

    @classmethod
    def of(cls, joined: Joined) -> Rows:
        """As the join decided, before anything is learned."""
        n = len(joined)
        reasons = [Reason(code).sentence or None for code in joined.reason.tolist()]
        return cls(
            [NAMES[code] for code in joined.action.tolist()], reasons, joined.label.copy(), np.full(n, np.nan),
            *(np.full(n, np.nan) for _ in range(3)),
        )  # fmt: skip

    def mark(self, rows: NDArray[np.int64], action: str, reason: str | None) -> None:
        """Give rows another action, with the reason."""
        for row in rows.tolist():
            self.action[row], self.reason[row] = action, reason


def batch(rows: Rows, joined: Joined, taken: pa.Table, known: NDArray[np.int64], link: Any, version: str) -> Any:
    """Record batch of a tick.

    Parameters
    ----------
    taken, known
        Rows of the predictions log, and which joined rows they are; other rows have no prediction.
    link
        Gives the recorded loss, loss(label, recorded score).
    """
    n = len(joined)
    score, time, weight = (_spread(taken, name, known, n) for name in ("score", "time", "weight"))
    ids: list[str | None] = [None] * n
    for row, name in zip(known.tolist(), taken.column("prediction_id").to_pylist()):
        ids[row] = name
    with np.errstate(invalid="ignore"):
        loss = np.where(np.isnan(rows.label) | np.isnan(score), np.nan, link.loss(np.nan_to_num(rows.label), score))
    columns = {
        "prediction_id": ids, "prediction": joined.prediction, "time": time, "label": rows.label,
        "outcome": pa.array(joined.outcome, mask=joined.outcome < 0), "previous": rows.previous,
        "weight": np.where(np.isnan(weight), 1.0, weight), "score": score, "loss": loss, "margin": rows.margin,
        "action": rows.action, "reason": rows.reason, "version": [version] * n, "variance": rows.variance,
        "discount": rows.discount,
    }  # fmt: skip
    return pa.RecordBatch.from_arrays([_array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)


_JUDGED = ("label", "score", "weight", "margin", "variance", "time")


def judged(tick: Any, rows: NDArray[np.int64]) -> dict[str, Floats]:
    """Columns of some of a tick's examples: what the guard and others are told of them."""
    return {name: tick.column(name).to_numpy(False)[rows] for name in _JUDGED}


def loosened(tick: Any, reason: str, share: float) -> Any:
    """A tick's record batch with one more row, the last: the world counts as changed, for this reason.

    It has no prediction (−1); its weight is the share of certainty that every entity lets go of.
    """
    time, version = pc.max(tick.column("time")), tick.column("version")[0]
    row = {"prediction": -1, "time": time, "weight": share, "action": LOOSENED, "reason": reason, "version": version}
    columns = [pa.array([_plain(row.get(field.name))], field.type) for field in SCHEMA]
    return pa.concat_batches([tick, pa.RecordBatch.from_arrays(columns, schema=SCHEMA)])


def loosening(tick: Any) -> float | None:
    """The share of certainty that was let go of after a tick; None where the world did not count as changed.

    Examples
    --------
    >>> rows = {"action": ["learn"], "prediction": [7], "time": [1.0], "version": ["1.0.1"]}
    >>> tick = pa.RecordBatch.from_arrays([pa.array(rows.get(f.name, [None]), f.type) for f in SCHEMA], schema=SCHEMA)
    >>> loosening(tick), loosening(loosened(tick, "the loss is high", 0.5))
    (None, 0.5)
    """
    last = tick.num_rows - 1
    return (
        tick.column("weight")[last].as_py() if last >= 0 and tick.column("action")[last].as_py() == LOOSENED else None
    )


def _plain(value: Any) -> Any:
    return value.as_py() if isinstance(value, pa.Scalar) else value


def _array(values: Any, dtype: Any) -> Any:
    return values if isinstance(values, pa.Array) else pa.array(values, dtype, from_pandas=True)


def _spread(taken: pa.Table, name: str, known: NDArray[np.int64], n: int) -> Floats:
    out = np.full(n, np.nan)
    if name in taken.column_names:
        out[known] = taken.column(name).cast(pa.float64()).fill_null(np.nan).to_numpy()
    return out
