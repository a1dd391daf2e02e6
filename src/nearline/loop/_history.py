"""The ledger as history to fit on: every prediction with the label that it has in the end, read beside the service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline.glmix import GLMix
from nearline.loop._events import events, predictions_of
from nearline.loop._examples import SCHEMA as EXAMPLES
from nearline.loop._held import Span, recalled
from nearline.store import LmdbStateStore, Log

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Committed:
    """What the service of a state directory has committed; all empty where it never ran.

    Attributes
    ----------
    positions
        Ends of the logs up to which was learned, by name.
    lines
        (global, batch) of every line of versions that ever began.
    copies
        Spans of the examples log that say again what an earlier stretch of it said.
    """

    positions: Mapping[str, int]
    lines: frozenset[tuple[int, int]]
    copies: tuple[Span, ...]

    @classmethod
    def of(cls, folder: Path) -> Committed:
        """The last commit in a state directory, whether or not a process serves it."""
        if not (folder / "live" / "data.mdb").exists():
            return cls({}, frozenset(), ())
        store = LmdbStateStore(folder / "live", read_only=True)
        try:
            with store.snapshot() as saved:
                meta, positions = saved.meta, dict(saved.positions)
        finally:
            store.close()
        used, copies = meta.get("used", ()), meta.get("copies", ())
        lines = frozenset((whole, batch) for whole, batch in used)
        return cls(positions, lines, tuple((start, end) for start, end in copies))


class History:
    """The examples of a ledger, for a model that reads the same columns; a context manager.

    Parameters
    ----------
    folder
        The state directory; another process may be serving it.
    model
        The live model, or any that reads the columns that the ledger records.
    """

    def __init__(self, folder: Path, model: GLMix) -> None:
        self._folder = folder
        with ExitStack() as opened:
            logs = [
                opened.enter_context(Log.open(folder / "ledger" / name, schema, read_only=True))
                for name, schema in (("predictions", predictions_of(model)), ("examples", EXAMPLES))
            ]
            self._opened = opened.pop_all()
        self._predictions, self._examples = logs

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    @property
    def first(self) -> int:
        """Position of the oldest example that is kept."""
        return self._examples.first

    @property
    def span(self) -> tuple[int, int]:
        """Predictions [first, end) that are kept."""
        return self._predictions.first, self._predictions.end

    def boundary(self, position: int) -> int:
        """The last end of a batch at or before a position: fits are cut off where the learner stopped to commit.

        The batch of an example ends at the position that its version names.
        """
        if not self._examples.first < position < self._examples.end:
            return max(min(position, self._examples.end), self._examples.first)
        before, here = self._examples.read(position - 1, 2).column("version").to_pylist()
        return position if before != here else self._start(position, here)

    def _start(self, position: int, version: str) -> int:
        """Where the batch of a version begins, which lies before a position."""
        low = max(self._examples.first, position - _CHUNK)
        names = self._examples.read(low, position - low).column("version").to_pylist()
        other = next((i for i in range(len(names) - 1, -1, -1) if names[i] != version), None)
        if other is not None:
            return low + other + 1
        return low if low == self._examples.first else self._start(low, version)

    def first_time(self) -> float | None:
        """Event time of the oldest prediction that is kept; None where there is none."""
        log = self._predictions
        for at in range(log.first, log.end, _CHUNK):
            times = log.read(at, _CHUNK).column("time").drop_null()
            if len(times):
                return float(times[0].as_py())
        return None

    def table(self, model: GLMix, start: int, cutoff: int) -> pa.Table:
        """What the examples [start, cutoff) come to: a row per prediction whose label was not taken back.

        Features are those that were seen when it was scored; rows are in order of event time. What was quarantined is
        not in it.

        Parameters
        ----------
        model
            Names the columns (`GLMix.design` takes the table).
        """
        predictions, label = self.labels(start, cutoff)
        taken = self.taken(predictions)
        order = np.argsort(taken.column("time").to_numpy(), kind="stable")
        return pa.table(events(taken, model, label)).take(pa.array(order))

    def labels(self, start: int, cutoff: int) -> tuple[Ints, Floats]:
        """Predictions (positions, ascending) that the examples [start, cutoff) teach, and their labels in the end."""
        found = recalled(self._examples, [(max(start, self._examples.first), cutoff)], self._predictions.first)
        predictions, examples = found.held()
        return predictions, self._examples.take(examples).column("label").to_numpy()

    def taken(self, predictions: Ints) -> pa.Table:
        """Rows of the predictions log, with their features."""
        return self._predictions.take(predictions)

    def narrow(self, schema: Any, more: Sequence[str], predictions: Ints) -> pa.Table:
        """Some columns of the predictions log, of which no others are read: those of `schema`, and `more` by name."""
        known = self._predictions.schema
        schema = pa.schema([*schema, *(known.field(name) for name in more)])
        with Log.open(self._folder / "ledger" / "predictions", schema, read_only=True) as log:
            return log.take(predictions)


_CHUNK = 1 << 14
