"""The join, one row at a time over a dict: the oracle of `step`, and the learner's side of `Joined`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nearline.join import Action, Joined, Kind, Outcomes, Policy, Reason, Status

Row = tuple[int, int, Action, float, float, Reason]
NONE = math.nan


@dataclass
class Entry:
    time: float
    status: Status = Status.PENDING
    label: float = NONE
    mark: float = -math.inf


class Reference:
    def __init__(self, policy: Policy) -> None:
        self.policy, self.watermark = policy, -math.inf
        self.entries: list[Entry] = []

    def step(self, times: list[float], outcomes: Outcomes, watermark: float) -> list[Row]:
        self.watermark = max(self.watermark, watermark)
        self.entries += [Entry(time) for time in times]
        columns = (outcomes.position, outcomes.prediction, outcomes.time, outcomes.label, outcomes.kind)
        rows = [self._outcome(*row) for row in zip(*(column.tolist() for column in columns))]
        return rows + [self._close(at) for at, entry in enumerate(self.entries) if self._due(entry)]

    def _due(self, entry: Entry) -> bool:
        return entry.status == Status.PENDING and entry.time < self.watermark - self.policy.window

    def _close(self, at: int) -> Row:
        entry = self.entries[at]
        if self.policy.no_outcome == "discard":
            entry.status = Status.DISCARDED
            return at, -1, Action.DISCARD, NONE, NONE, Reason.NONE
        entry.status, entry.label = Status.NEGATIVE, 0.0
        return at, -1, Action.NEGATIVE, 0.0, NONE, Reason.NONE

    def _refusal(self, at: int, time: float, label: float, kind: int) -> Reason:
        if not 0 <= at < len(self.entries):
            return Reason.UNKNOWN_PREDICTION
        entry, policy = self.entries[at], self.policy
        if entry.time < self.watermark - policy.horizon:
            return Reason.TOO_OLD
        if kind not in (Kind.OUTCOME, Kind.CORRECT, Kind.RETRACT):
            return Reason.UNKNOWN_KIND
        if not math.isfinite(time):
            return Reason.BAD_TIME
        if kind != Kind.RETRACT and not math.isfinite(label):
            return Reason.BAD_LABEL
        if time < entry.time - policy.skew:
            return Reason.BEFORE_PREDICTION
        return Reason.BEYOND_HORIZON if time > entry.time + policy.horizon else Reason.NONE

    def _outcome(self, position: int, at: int, time: float, label: float, kind: int) -> Row:
        refusal = self._refusal(at, time, label, kind)
        if refusal:
            return at, position, Action.REFUSED, NONE, NONE, refusal
        entry = self.entries[at]
        late = kind == Kind.OUTCOME and time > entry.time + self.policy.window
        if late and self.policy.late == "drop":
            return at, position, Action.LATE, NONE, NONE, Reason.DROPPED
        action, reason = (
            self._retract(entry, time) if kind == Kind.RETRACT else self._label(entry, time, label, kind, late)
        )
        previous = entry.label
        if time >= entry.mark:
            entry.mark = time
            entry.label = NONE if kind == Kind.RETRACT else label
            entry.status = Status.RETRACTED if kind == Kind.RETRACT else Status.LABELLED
        changes = action in (Action.LEARN, Action.CORRECT, Action.LATE, Action.RETRACT)
        learned = label if changes and kind != Kind.RETRACT else NONE
        return at, position, action, learned, previous if changes else NONE, reason

    def _retract(self, entry: Entry, time: float) -> tuple[Action, Reason]:
        if entry.status == Status.RETRACTED:
            return Action.REPEAT, Reason.NONE
        if time < entry.mark:
            return Action.STALE, Reason.OLDER
        return (Action.REFUSED, Reason.NOTHING_TO_RETRACT) if math.isnan(entry.label) else (Action.RETRACT, Reason.NONE)

    def _label(self, entry: Entry, time: float, label: float, kind: int, late: bool) -> tuple[Action, Reason]:
        if label == entry.label:
            return Action.REPEAT, Reason.NONE
        if time < entry.mark:
            return Action.STALE, Reason.OLDER
        expired = entry.status in (Status.NEGATIVE, Status.DISCARDED)
        if kind == Kind.OUTCOME and expired:
            return Action.LATE, Reason.BEYOND_WINDOW if late else Reason.ARRIVED_LATE
        if math.isnan(entry.label):
            return (Action.LATE, Reason.BEYOND_WINDOW) if late else (Action.LEARN, Reason.NONE)
        return Action.CORRECT, Reason.NONE


def rows(joined: Joined) -> list[tuple[int, int, int, float | None, float | None, int]]:
    """Rows with None for NaN, so that they compare."""
    columns = (joined.prediction, joined.outcome, joined.action, joined.label, joined.previous, joined.reason)
    return comparable([tuple(row) for row in zip(*(column.tolist() for column in columns))])


def comparable(table: list) -> list:
    return [tuple(None if value != value else value for value in row) for row in table]


class Ledger:
    """A learner that only counts: every undo must name what is learned, and nothing is learned twice."""

    def __init__(self) -> None:
        self.learned: dict[int, float] = {}

    def follow(self, joined: Joined) -> None:
        for at, label, previous in zip(joined.prediction.tolist(), joined.label.tolist(), joined.previous.tolist()):
            if previous == previous:
                assert self.learned.pop(at) == previous
            if label == label:
                assert at not in self.learned
                self.learned[at] = label
