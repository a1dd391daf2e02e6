"""What goes into a step and what comes out of it, as arrays with one entry per row."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from nearline._errors import DataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Codes = NDArray[np.uint8]


class Kind(IntEnum):
    """What an outcome says it is."""

    OUTCOME = 0
    CORRECT = 1
    RETRACT = 2
    UNKNOWN = 255


class Status(IntEnum):
    """Where a prediction stands."""

    ABSENT = 0
    PENDING = 1
    LABELLED = 2
    NEGATIVE = 3
    DISCARDED = 4
    RETRACTED = 5


class Action(IntEnum):
    """What a row of `Joined` does."""

    LEARN = 0
    NEGATIVE = 1
    DISCARD = 2
    CORRECT = 3
    RETRACT = 4
    LATE = 5
    REPEAT = 6
    STALE = 7
    REFUSED = 8


class Reason(IntEnum):
    """Why a row of `Joined` is late, stale or refused; NONE for the ordinary."""

    NONE = 0
    BEYOND_WINDOW = 1
    ARRIVED_LATE = 2
    DROPPED = 3
    OLDER = 4
    UNKNOWN_PREDICTION = 5
    TOO_OLD = 6
    BEFORE_PREDICTION = 7
    NOTHING_TO_RETRACT = 8
    BAD_LABEL = 9
    BAD_TIME = 10
    UNKNOWN_KIND = 11
    BEYOND_HORIZON = 12

    @property
    def sentence(self) -> str:
        """The reason in words, for the ledger and for people."""
        return _SENTENCES[self]


_SENTENCES = {
    Reason.NONE: "",
    Reason.BEYOND_WINDOW: "event time beyond the attribution window",
    Reason.ARRIVED_LATE: "arrived after the window had closed",
    Reason.DROPPED: "event time beyond the attribution window: dropped by policy",
    Reason.OLDER: "older than the outcome in force",
    Reason.UNKNOWN_PREDICTION: "unknown: no such prediction",
    Reason.TOO_OLD: "unknown: too old, beyond the correction horizon",
    Reason.BEFORE_PREDICTION: "earlier than its prediction by more than the allowed skew",
    Reason.NOTHING_TO_RETRACT: "nothing to retract",
    Reason.BAD_LABEL: "label is missing or not finite",
    Reason.BAD_TIME: "time is missing or not finite",
    Reason.BEYOND_HORIZON: "event time beyond the correction horizon of its prediction",
    Reason.UNKNOWN_KIND: 'kind is not "outcome", "correct" or "retract"',
}


@dataclass(frozen=True)
class Outcomes:
    """Outcomes in the order of their log: position, prediction (its position), time, label (NaN: none), kind (n each).

    Raises `DataError` when lengths differ or positions do not ascend.

    >>> Outcomes.of([7], [3], [12.5], [1.0]).kind.tolist() == [Kind.OUTCOME]
    True
    """

    position: Ints
    prediction: Ints
    time: Floats
    label: Floats
    kind: Codes

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name).shape != (len(self),):
                raise DataError(f"shape {getattr(self, field.name).shape}, not ({len(self)},)", column=field.name)
        if (np.diff(self.position) <= 0).any():
            raise DataError("positions must ascend", column="position", fix="pass outcomes in the order of their log")

    def __len__(self) -> int:
        return len(self.position)

    @classmethod
    def of(
        cls,
        position: ArrayLike = (),
        prediction: ArrayLike = (),
        time: ArrayLike = (),
        label: ArrayLike = (),
        kind: ArrayLike | None = None,
    ) -> Self:
        """From array-likes; without `kind` every row is an ordinary outcome."""
        at, of = _ints(position), _ints(prediction)
        codes = np.zeros(len(at), np.uint8) if kind is None else np.asarray(kind, np.uint8)
        return cls(at, of, np.asarray(time, np.float64), np.asarray(label, np.float64), codes)

    @classmethod
    def of_table(cls, first: int, table: pa.Table) -> Self:
        """From rows first, first + 1, ... of the outcomes log: columns prediction, time, label, kind."""
        kind = pc.fill_null(pc.index_in(table["kind"], pa.array(KINDS)), int(Kind.UNKNOWN))
        return cls(
            np.arange(first, first + len(table), dtype=np.int64),
            pc.fill_null(table["prediction"], -1).to_numpy(),
            pc.fill_null(table["time"], np.nan).to_numpy(),
            pc.fill_null(table["label"], np.nan).to_numpy(),
            kind.to_numpy().astype(np.uint8),
        )


KINDS = ("outcome", "correct", "retract")


@dataclass(frozen=True)
class Joined:
    """What one step decided, one row per outcome (in log order), then one per window that closed (by prediction).

    To follow it, row after row: undo `previous` where it is not NaN, then learn `label` where it is not NaN. Both are
    NaN on rows that change nothing (discarded, repeated, stale, refused, dropped).

    prediction  int64 (n)    position of the prediction
    outcome     int64 (n)    position of the outcome, −1 when the window closed without one
    action      uint8 (n)    `Action`
    label       float64 (n)  what to learn
    previous    float64 (n)  what to undo
    reason      uint8 (n)    `Reason`
    """

    prediction: Ints
    outcome: Ints
    action: Codes
    label: Floats
    previous: Floats
    reason: Codes

    def __post_init__(self) -> None:
        for field in fields(self):
            getattr(self, field.name).flags.writeable = False

    def __len__(self) -> int:
        return len(self.prediction)

    def counts(self) -> dict[str, int]:
        """Rows per action, by the action's name in lower case; actions without rows are 0."""
        n = np.bincount(self.action, minlength=len(Action))
        return {action.name.lower(): int(n[action]) for action in Action}

    @classmethod
    def concatenate(cls, parts: list[Self]) -> Self:
        """The rows of all parts, one part after the other."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


def _ints(values: ArrayLike) -> Ints:
    return np.asarray(values, np.int64)
