"""Records waiting for their labels, in memory: append at serving, label later, take windows of priced rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearline._errors import DataError
from nearline.select._pricing import price_binary
from nearline.select._record import RECORD, Flag
from nearline.select._scores import Scores


class Records:
    """The book of a training loop without the service: every label is trainable once, a changed one once more.

    A label enters the window of its arrival with its own recorded prediction. One that repeats what is known enters
    nowhere. A changed one replaces the earlier copy while that still waits; a copy already taken stays taken.

    Parameters
    ----------
    price : callable
        (prediction, label, norm) to `Scores`: `price_binary` or `price_regression`.
    immediate_negative : bool
        Every appended row waits as a negative at once and a positive always comes beside it; weigh the rows by
        `immediate_negative_weights`.
    layout : dtype
        From `record_type`.

    Examples
    --------
    >>> from nearline.select import pack
    >>> book = Records()
    >>> book.append(pack(id=[7, 8], time=[100, 101], prediction=[0.5, -2.0]))
    >>> book.label([8, 7, 8], [1, 0, 1])
    2
    >>> scores = book.window(now=160, version=3)
    >>> scores.id.tolist(), scores.age.tolist(), len(book)
    ([8, 7], [59.0, 60.0], 0)
    """

    def __init__(
        self,
        price: Callable[..., Scores] = price_binary,
        *,
        immediate_negative: bool = False,
        layout: np.dtype[Any] = RECORD,
    ) -> None:
        self._price, self._immediate, self._layout = price, immediate_negative, layout
        self._served: dict[int, Any] = {}
        self._known: dict[int, float] = {}
        self._waiting: dict[tuple[int, float], tuple[float, float]] = {}

    def __len__(self) -> int:
        """Rows that wait for the next window."""
        return len(self._waiting)

    def append(self, rows: NDArray[Any]) -> None:
        """Keep served records, from `pack`.

        Raises
        ------
        DataError
            An id that is there already.
        """
        for row in rows:
            key = int(row["id"])
            if key in self._served:
                raise DataError(f"{key} was recorded before", column="id", fix="give every prediction its own number")
            self._served[key] = row.copy()
        if self._immediate:
            self.label(rows["id"], np.zeros(len(rows)))

    def label(self, ids: Any, labels: Any, maturity: Any = 1.0) -> int:
        """Price rows from now on with these labels; how many entered the next window anew.

        Parameters
        ----------
        ids, labels : array (n,)
            Which predictions, and what happened.
        maturity : array (n,) or float
            a_i in [0, 1]; below 1 the record is provisional.

        Raises
        ------
        DataError
            An id that nobody recorded, or that has expired.
        """
        ids, entered = np.asarray(ids, dtype=np.uint64), 0
        for key, y, a in zip(ids.tolist(), *np.broadcast_arrays(labels, np.broadcast_to(maturity, len(ids)))):
            if key not in self._served:
                raise DataError(f"{key} was never recorded, or has expired", column="id")
            entered += self._enter(key, float(y), float(a))
        return entered

    def _enter(self, key: int, y: float, maturity: float) -> bool:
        before = self._known.get(key)
        self._served[key]["flags"] = int(Flag.MATURE if maturity >= 1 else Flag.PROVISIONAL)
        if before == y:
            if (key, y) in self._waiting:
                self._waiting[key, y] = (y, maturity)
            return False
        if before is not None and not self._immediate:
            self._waiting.pop((key, before), None)
        self._known[key] = y
        self._waiting[key, y] = (y, maturity)
        return True

    def window(self, now: float, version: int, size: int | None = None) -> Scores:
        """Take the `size` rows (default: all) that have waited longest, priced; each is given out once.

        Parameters
        ----------
        now : float
            Seconds, on the clock of the records' times; the rows' age follows.
        version : int
            The trainer's; the rows' lag follows.

        Raises
        ------
        DataError
            No row waits.
        """
        keys = list(self._waiting)[:size]
        if not keys:
            raise DataError("no labelled row waits for a window", fix="look at len(records) first")
        taken = np.array([self._waiting.pop(key) for key in keys])
        rows = np.array([self._served[key] for key, _ in keys], dtype=self._layout)
        priced = self._price(rows["prediction"], taken[:, 0], rows["norm"])
        return Scores(
            loss=priced.loss,
            error=priced.error,
            score=priced.score,
            label=taken[:, 0],
            maturity=taken[:, 1],
            age=now - rows["time"].astype(np.float64),
            lag=version - rows["version"].astype(np.float64),
            flags=rows["flags"],
            id=rows["id"],
        )

    def expire(self, before: float) -> int:
        """Forget records served earlier than `before` that no window waits for; how many."""
        waiting = {key for key, _ in self._waiting}
        old = [key for key, row in self._served.items() if row["time"] < before and key not in waiting]
        for key in old:
            del self._served[key]
            self._known.pop(key, None)
        return len(old)
