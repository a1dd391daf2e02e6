"""What training may choose from: labelled predictions as serving recorded them, and features of those it chose."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline.deep import RECORDED, Information, NetworkGLMix, sketch_field, sketch_of
from nearline.gate import HoldOut
from nearline.loop._events import events
from nearline.loop._history import History
from nearline.select import Scores, sketch_gradients

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

PRICED = pa.schema([("time", pa.float64()), ("version", pa.string()), *RECORDED])
"""All that is read of a prediction before it is chosen."""


class Offered:
    """The examples [start, cutoff) of a ledger, priced by what was recorded of their predictions.

    Parameters
    ----------
    history
        The ledger.
    model
        Names the features; the prices are those of the networks that served.
    whole
        Number of the global version that training goes on from: records of earlier ones are so many versions old.
    holdout
        Rows that nothing ever learns.
    sketch
        Length of the gradient sketches that are read; 0 reads none. A row without one has NaN.
    line
        Numbers of the global versions whose networks were trained one from the other: sketches of any other's are of
        another last layer, and count as none. By default all are of one line.

    Attributes
    ----------
    prediction, label
        Position and final label (n) of every prediction, in the order in which they were served.
    loaded
        Rows whose features were read.
    """

    def __init__(
        self, history: History, model: NetworkGLMix, start: int, cutoff: int, *, whole: int,
        holdout: HoldOut | None = None, sketch: int = 0, line: Collection[int] | None = None,
    ) -> None:  # fmt: skip
        self._history, self._model, self.loaded = history, model, 0
        columns = pa.schema([*PRICED, *([sketch_field(sketch)] if sketch else [])])
        self.prediction, self.label = history.labels(start, cutoff)
        fields = () if holdout is None else holdout.fields
        recorded = history.narrow(columns, [name for name in fields if name not in columns.names], self.prediction)
        held = None if holdout is None else holdout.of(recorded)
        served = _served(recorded)
        self.scores = _priced(recorded, self.prediction, self.label, model.link, whole - served, held)
        self._sketch = recorded.column(columns.names[-1]) if sketch else None
        self._foreign = np.zeros(len(self), bool) if line is None else ~np.isin(served, list(line))

    def __len__(self) -> int:
        return len(self.prediction)

    def windows(self, size: int) -> Iterator[tuple[Ints, Scores]]:
        """Rows of every `size` predictions in turn, and their prices."""
        for at in range(0, len(self), size):
            rows = np.arange(at, min(at + size, len(self)))
            yield rows, self._sketched(rows)

    def _sketched(self, rows: Ints) -> Scores:
        """Prices, with sketches of the gradients where there are any: (p − y) t_k."""
        found = self.scores.take(rows)
        if self._sketch is None:
            return found
        inputs = sketch_of(self._sketch.take(pa.array(rows)))
        inputs[self._foreign[rows]] = np.nan
        return replace(found, sketch=sketch_gradients(found.error, inputs))

    def load(self, rows: Ints) -> pa.Table:
        """Features, as they were seen, and labels of some rows."""
        self.loaded += len(rows)
        return pa.table(events(self._history.taken(self.prediction[rows]), self._model, self.label[rows]))


def _served(recorded: pa.Table) -> Floats:
    """Number of the global version that served each row."""
    return np.array([int(name.split(".", 1)[0]) for name in recorded.column("version").to_pylist()], np.float64)


def _priced(
    recorded: pa.Table, prediction: Ints, label: Floats, link: str, lag: Floats, held: NDArray[np.bool_] | None
) -> Scores:
    time, logit, norm = (
        recorded.column(name).cast(pa.float64()).fill_null(np.nan).to_numpy()
        for name in ("time", "network_logit", "network_norm")
    )
    newest = float(time.max()) if len(time) else 0.0
    more = {} if held is None else {"held": held}
    return Information(logit, norm, None, None, link).scores(label, age=newest - time, lag=lag, id=prediction, **more)
