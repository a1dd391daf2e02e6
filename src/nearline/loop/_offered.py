"""What training may choose from: labelled predictions as serving recorded them, and features of those it chose."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nearline._errors import DataError
from nearline.deep import RECORDED, Information, NetworkGLMix, sketch_field, sketch_of
from nearline.gate import HoldOut
from nearline.loop._events import events
from nearline.loop._history import History
from nearline.select import Scores, sketch_gradients

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

PRICED = pa.schema([("time", pa.float64()), ("version", pa.string()), *RECORDED])
"""What is read of every prediction before it is chosen; columns that a rule asks for come beside it."""


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
    slices
        Recorded column whose values are slices; None where no rule goes by slices.
    leverage
        Recorded columns that `leverage` gives, as a network embeds them.

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
        slices: str | None = None, leverage: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self._history, self._model, self.loaded = history, model, 0
        columns = pa.schema([*PRICED, *([sketch_field(sketch)] if sketch else [])])
        self.prediction, self.label = history.labels(start, cutoff)
        asked = (*(() if holdout is None else holdout.fields), *(() if slices is None else (slices,)), *leverage)
        more = [name for name in dict.fromkeys(asked) if name not in columns.names]
        recorded = history.narrow(columns, more, self.prediction)
        known: dict[str, Any] = {} if holdout is None else {"held": holdout.of(recorded)}
        if slices is not None:
            known["slice"] = codes(recorded.column(slices), slices)
        served = _served(recorded)
        self.scores = _priced(recorded, self.prediction, self.label, model.link, lag=whole - served, **known)
        self._embedded = recorded.select(list(leverage)) if leverage else None
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

    def leverage(self, rows: Ints) -> pa.Table | None:
        """The embedded columns of some rows by which a network's leverage is known; None where none were asked for."""
        return None if self._embedded is None else self._embedded.take(pa.array(rows))

    def load(self, rows: Ints) -> pa.Table:
        """Features, as they were seen, and labels of some rows."""
        self.loaded += len(rows)
        return pa.table(events(self._history.taken(self.prediction[rows]), self._model, self.label[rows]))


def codes(column: pa.ChunkedArray, name: str) -> Ints:
    """Rank of each row's value among the values that there are; −1 where there is none.

    Slices are then in the order of their values, whatever else is offered.

    Examples
    --------
    >>> codes(pa.chunked_array([["b", None], ["a", "b"]]), "device").tolist()
    [1, -1, 0, 1]

    Raises
    ------
    DataError
        A row has several values.
    """
    if pa.types.is_nested(column.type):
        raise DataError(f"{column.type} has several values a row", column=name, fix="name another in [deep] slices")
    found = column.combine_chunks().dictionary_encode()
    rank = np.empty(len(found.dictionary) + 1, np.int64)
    rank[pc.sort_indices(found.dictionary).to_numpy()] = np.arange(len(found.dictionary))
    rank[-1] = -1
    return np.asarray(rank[found.indices.fill_null(len(found.dictionary)).to_numpy(zero_copy_only=False)], np.int64)


def _served(recorded: pa.Table) -> Floats:
    """Number of the global version that served each row."""
    return np.array([int(name.split(".", 1)[0]) for name in recorded.column("version").to_pylist()], np.float64)


def _priced(recorded: pa.Table, prediction: Ints, label: Floats, link: str, **known: Any) -> Scores:
    time, logit, norm = (
        recorded.column(name).cast(pa.float64()).fill_null(np.nan).to_numpy()
        for name in ("time", "network_logit", "network_norm")
    )
    newest = float(time.max()) if len(time) else 0.0
    return Information(logit, norm, None, None, link).scores(label, age=newest - time, id=prediction, **known)
