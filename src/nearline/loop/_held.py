"""Which examples a model holds one by one, read from the ledger."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nearline.loop._examples import LEARNS
from nearline.loop._recall import NEVER, Recall
from nearline.store import Log

Ints = NDArray[np.int64]
Span: TypeAlias = tuple[int, int]

CHUNK = 1 << 18


def recalled(examples: Log, spans: Iterable[Span], first: int) -> Recall:
    """Where predictions from position `first` on were learned, by a model that learned these examples [start, end).

    An older model holds an older label: what was corrected since it was made lies at another example than the newest.
    """
    recall = Recall()
    for start, end in sorted(spans):
        for at in range(max(start, examples.first), end, CHUNK):
            table = examples.read(at, min(CHUNK, end - at)).select(["prediction", "action", "label"])
            prediction = table.column("prediction").to_numpy()
            learned, gone = (rows[prediction[rows] >= first] for rows in effects(table))
            # One tick has at most one row of a prediction that counts, two ticks may: in order.
            order = np.sort(np.concatenate([learned, gone]))
            where = np.where(np.isin(order, gone), NEVER, at + order)
            recall.set(prediction[order], where)
    return recall


def lived_through(alarms: Iterable[tuple[int, float]], held: Iterable[Span]) -> tuple[int, float]:
    """End of the examples at the last alarm that a model with these spans has lived through, and its share.

    What it holds one by one and learned before is corrected with what is left of it. (0, 0) where there was none.

    >>> lived_through([(50, 1.0), (80, 0.5), (200, 1.0)], [(60, 100), (0, 60)])
    (80, 0.5)
    """
    spans = tuple(held)
    lived = [(0, 0.0), *(alarm for alarm in alarms if any(start < alarm[0] <= end for start, end in spans))]
    return lived[-1]


def effects(rows: Any) -> tuple[Ints, Ints]:
    """Rows of examples after which the model holds their label, and after which it holds none of their prediction."""
    label = rows.column("label").to_numpy() if isinstance(rows, pa.Table) else rows.column("label").to_numpy(False)
    action = rows.column("action")
    learned = np.asarray(pc.is_in(action, pa.array(LEARNS))) & ~np.isnan(label)
    gone = np.asarray(pc.equal(action, "retract"))
    return np.flatnonzero(learned), np.flatnonzero(gone)
