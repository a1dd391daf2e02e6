"""What training may choose from: labelled predictions as serving recorded them, and features of those it chose."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline.deep import RECORDED, Information, NetworkGLMix
from nearline.gate import HoldOut
from nearline.loop._events import events
from nearline.loop._history import History
from nearline.select import Scores

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

    Attributes
    ----------
    prediction, label
        Position and final label (n) of every prediction, in the order in which they were served.
    loaded
        Rows whose features were read.
    """

    def __init__(
        self, history: History, model: NetworkGLMix, start: int, cutoff: int, *, whole: int,
        holdout: HoldOut | None = None,
    ) -> None:  # fmt: skip
        self._history, self._model, self.loaded = history, model, 0
        self.prediction, self.label = history.labels(start, cutoff)
        fields = () if holdout is None else holdout.fields
        recorded = history.narrow(PRICED, [name for name in fields if name not in PRICED.names], self.prediction)
        held = None if holdout is None else holdout.of(recorded)
        self.scores = _priced(recorded, self.prediction, self.label, model.link, whole, held)

    def __len__(self) -> int:
        return len(self.prediction)

    def windows(self, size: int) -> Iterator[tuple[Ints, Scores]]:
        """Rows of every `size` predictions in turn, and their prices."""
        for at in range(0, len(self), size):
            rows = np.arange(at, min(at + size, len(self)))
            yield rows, self.scores.take(rows)

    def load(self, rows: Ints) -> pa.Table:
        """Features, as they were seen, and labels of some rows."""
        self.loaded += len(rows)
        return pa.table(events(self._history.taken(self.prediction[rows]), self._model, self.label[rows]))


def _priced(
    recorded: pa.Table, prediction: Ints, label: Floats, link: str, whole: int, held: NDArray[np.bool_] | None
) -> Scores:
    time, logit, norm = (
        recorded.column(name).cast(pa.float64()).fill_null(np.nan).to_numpy()
        for name in ("time", "network_logit", "network_norm")
    )
    served = np.array([int(name.split(".", 1)[0]) for name in recorded.column("version").to_pylist()], np.float64)
    newest = float(time.max()) if len(time) else 0.0
    more = {} if held is None else {"held": held}
    return Information(logit, norm, None, None, link).scores(
        label, age=newest - time, lag=whole - served, id=prediction, **more
    )
