"""One step of the join: predictions ⨝ outcomes, by prediction position.

Each prediction is a register in which the newest admissible outcome is in force, newest by (event time, position).
Whether an outcome is admissible depends on its own event time, its prediction's and the policy, not on when it
arrives; a retraction is a register value like a label. So the final labels are the same for any order of arrival, any
duplicates and any cutting into steps, as long as outcomes come within the correction horizon. (The last-writer-wins
register: Shapiro et al., "A comprehensive study of convergent and commutative replicated data types", 2011, 3.2.1.)

Within one step, outcomes of one prediction form a run that begins with what is in force in the state. An outcome
takes force when it is at least as new as everything before it in its run, found for all runs at once by a running
maximum.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearline._errors import DataError
from nearline.join._records import Action, Codes, Floats, Ints, Joined, Kind, Outcomes, Reason, Status
from nearline.join._state import State

Mask = NDArray[np.bool_]
T = TypeVar("T", bound=np.generic)

NEGATIVE_LABEL = 0.0


def step(
    state: State, first_position: int, prediction_times: ArrayLike, outcomes: Outcomes, watermark: float
) -> Joined:
    """Take in new predictions, then outcomes, then close the windows that the watermark has passed.

    Parameters
    ----------
    state : State
        Updated in place; untouched when an error is raised.
    first_position : int
        Position of the first new prediction; it must be `state.end`.
    prediction_times : array-like (m)
        Event times of the new predictions, seconds.
    outcomes : Outcomes (n)
        The next outcomes of the log. Predictions they refer to must have come with this step or an earlier one.
    watermark : float
        Outcomes up to this event time count as complete, seconds; one that falls back is ignored.

    Returns
    -------
    Joined
        n rows for the outcomes, in their order, then one row per closed window by prediction position. A function of
        the arguments alone.

    Raises
    ------
    DataError
        Positions that do not continue where the state stands (a gap, or rows that were already taken), a prediction
        time that is not finite, a watermark that is NaN.

    Examples
    --------
    >>> from nearline.join import Action, Outcomes, Policy, State, step
    >>> state = State(Policy(window=60.0))
    >>> joined = step(state, 0, [0.0, 1.0], Outcomes.of([0], [1], [5.0], [1.0]), watermark=100.0)
    >>> [Action(code).name for code in joined.action], joined.prediction.tolist(), joined.label.tolist()
    (['LEARN', 'NEGATIVE'], [1, 0], [1.0, 0.0])
    """
    times = np.asarray(prediction_times, np.float64)
    _check(state, first_position, times, outcomes, watermark)
    state.watermark = max(state.watermark, watermark)
    if len(times):
        state.pages.append(first_position, times)
        state.end += len(times)
        state.pending += len(times)
    if len(outcomes):
        state.outcome_end = int(outcomes.position[-1]) + 1
    joined = Joined.concatenate([_take(state, outcomes), _close(state)])
    state.pages.drop_before(state.watermark - state.policy.horizon, state.end)
    return joined


def _check(state: State, first: int, times: Floats, outcomes: Outcomes, watermark: float) -> None:
    if times.ndim != 1 or not np.isfinite(times).all():
        raise DataError("prediction times must be one-dimensional and finite", column="time")
    if len(times) and first != state.end:
        raise DataError(f"predictions continue at position {state.end}; got {first}", column="first_position")
    if len(outcomes) and outcomes.position[0] < state.outcome_end:
        raise DataError(
            f"outcomes continue at position {state.outcome_end}; got {outcomes.position[0]}", column="position"
        )
    if np.isnan(watermark):
        raise DataError("watermark is NaN", column="watermark")


def _take(state: State, outcomes: Outcomes) -> Joined:
    """What each outcome does; the state afterwards."""
    row = state.pages.find(outcomes.prediction)
    reason, late = _admit(state, outcomes, row)
    n = len(outcomes)
    action = np.where(reason == Reason.DROPPED, Action.LATE, Action.REFUSED).astype(np.uint8)
    label, previous = np.full(n, np.nan), np.full(n, np.nan)
    runs = _runs(state, outcomes, row, np.flatnonzero(reason == Reason.NONE))
    here = runs.outcome
    action[here], reason[here] = _name(runs, outcomes.kind[here], late[here])
    learns = np.isin(action[here], (Action.LEARN, Action.LATE, Action.CORRECT))
    undoes = learns | (action[here] == Action.RETRACT)
    label[here] = np.where(learns, runs.label, np.nan)
    previous[here] = np.where(undoes, runs.label_before, np.nan)
    _put(state, runs)
    return Joined(outcomes.prediction.copy(), outcomes.position.copy(), action, label, previous, reason)


def _admit(state: State, outcomes: Outcomes, row: Ints) -> tuple[Codes, Mask]:
    """Why an outcome cannot count (n; NONE: it can), and whether its event time lies beyond the window (n)."""
    policy, pages = state.policy, state.pages
    if len(pages):
        known = (row >= 0) & (pages.status[row] != Status.ABSENT)
        predicted = np.where(known, pages.time[row], np.nan)
    else:
        known, predicted = np.zeros(len(row), bool), np.full(len(row), np.nan)
    # NaN compares false: a row is judged by the first test that applies to it
    late = (outcomes.time > predicted + policy.window) & (outcomes.kind == Kind.OUTCOME)
    tests = (
        ((outcomes.prediction < 0) | (outcomes.prediction >= state.end), Reason.UNKNOWN_PREDICTION),
        (~known | (predicted < state.watermark - policy.horizon), Reason.TOO_OLD),
        (outcomes.kind > Kind.RETRACT, Reason.UNKNOWN_KIND),
        (~np.isfinite(outcomes.time), Reason.BAD_TIME),
        (~np.isfinite(outcomes.label) & (outcomes.kind != Kind.RETRACT), Reason.BAD_LABEL),
        (outcomes.time < predicted - policy.skew, Reason.BEFORE_PREDICTION),
        # else one clock that is far ahead would make every honest correction after it stale
        (outcomes.time > predicted + policy.horizon, Reason.BEYOND_HORIZON),
        (late if policy.late == "drop" else np.zeros(len(row), bool), Reason.DROPPED),
    )
    codes = np.select([failed for failed, _ in tests], [code for _, code in tests], Reason.NONE)
    return codes.astype(np.uint8), late


class _Runs(NamedTuple):
    """Admissible outcomes sorted by prediction, then position (m), and what they end in, per prediction (g)."""

    outcome: Ints  # index into the step's outcomes
    label: Floats  # NaN for a retraction
    newest: Mask  # takes force
    label_before: Floats  # in force just before it
    status_before: Codes
    row: Ints  # (g) rows of the predictions
    pending: Mask  # (g) pending before the step
    end_label: Floats  # (g) in force after the step
    end_mark: Floats
    end_status: Codes


def _runs(state: State, outcomes: Outcomes, row: Ints, admitted: Ints) -> _Runs:
    pages = state.pages
    here = admitted[np.argsort(row[admitted], kind="stable")]
    start = np.flatnonzero(np.diff(row[here], prepend=-1))
    first = row[here][start]
    # each run is led by an entry for what the state holds
    lead = start + np.arange(len(start))
    own = np.delete(np.arange(len(here) + len(lead)), lead)

    def entries(held: NDArray[T], new: NDArray[T]) -> NDArray[T]:
        return np.insert(new, start, held[first])

    retracts = outcomes.kind[here] == Kind.RETRACT
    mark = entries(pages.mark, outcomes.time[here])
    label = entries(pages.label, np.where(retracts, np.nan, outcomes.label[here]))
    status = entries(pages.status, np.where(retracts, Status.RETRACTED, Status.LABELLED).astype(np.uint8))
    run = np.zeros(len(mark), np.int64)
    run[lead] = 1
    force = _in_force(np.cumsum(run), mark)
    ends = np.r_[lead[1:], len(mark)][: len(lead)] - 1
    before, last = force[own - 1], force[ends]
    return _Runs(
        here, label[own], force[own] == own, label[before], status[before],
        first, status[lead] == Status.PENDING, label[last], mark[last], status[last],
    )  # fmt: skip


def _in_force(run: Ints, mark: Floats) -> Ints:
    """Index of the newest entry of the same run up to and including each (n): by mark, ties to the later entry."""
    rank = np.unique(mark, return_inverse=True)[1]
    key = run * (len(mark) + 1) + rank
    index = np.arange(len(mark))
    return np.maximum.accumulate(np.where(key >= np.maximum.accumulate(key), index, 0))


def _name(runs: _Runs, kind: Codes, late: Mask) -> tuple[Codes, Codes]:
    """Action and reason of each admissible outcome (m)."""
    was, held = runs.status_before, ~np.isnan(runs.label_before)
    retracts = kind == Kind.RETRACT
    same = np.where(retracts, was == Status.RETRACTED, runs.label == runs.label_before)
    closed = ((was == Status.NEGATIVE) | (was == Status.DISCARDED)) & (kind == Kind.OUTCOME)
    after = closed | (late & ~held)
    action = np.select(
        [same, ~runs.newest, retracts & held, retracts, after, held],
        [Action.REPEAT, Action.STALE, Action.RETRACT, Action.REFUSED, Action.LATE, Action.CORRECT],
        Action.LEARN,
    )
    reason = np.select(
        [action == Action.STALE, action == Action.REFUSED, (action == Action.LATE) & late, action == Action.LATE],
        [Reason.OLDER, Reason.NOTHING_TO_RETRACT, Reason.BEYOND_WINDOW, Reason.ARRIVED_LATE],
        Reason.NONE,
    )
    return action.astype(np.uint8), reason.astype(np.uint8)


def _put(state: State, runs: _Runs) -> None:
    if len(runs.row):
        state.pages.write(runs.row, runs.end_label, runs.end_mark, runs.end_status)
        state.pending -= int(np.count_nonzero(runs.pending & (runs.end_status != Status.PENDING)))


def _close(state: State) -> Joined:
    """Pending predictions whose window the watermark has passed become negatives, or nothing."""
    position, row = state.pages.pending_before(state.watermark - state.policy.window)
    n, negative = len(row), state.policy.no_outcome == "negative"
    label = np.full(n, NEGATIVE_LABEL if negative else np.nan)
    if n:
        state.pages.write(row, label, -np.inf, Status.NEGATIVE if negative else Status.DISCARDED)
        state.pending -= n
    action = np.full(n, Action.NEGATIVE if negative else Action.DISCARD, np.uint8)
    return Joined(position, np.full(n, -1), action, label, np.full(n, np.nan), np.zeros(n, np.uint8))
