"""What a step of the join does in every case, by name, and what it refuses."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from tests.join.reference import rows
from tests.join.step_parts import POLICY

from nearline import DataError
from nearline.join import KINDS, Action, Kind, Outcomes, Policy, Reason, State, step

DROP = Policy(window=100.0, lateness=0.0, horizon=1000.0, skew=5.0, late="drop", no_outcome="discard")
NONE = None

# One prediction at time 1000. Each event is (kind, time, label) or a watermark; then what each outcome and window does.
CASES = {
    "an outcome within the window is learned": (POLICY, [("outcome", 1050, 1.0)], [("LEARN", 1.0, NONE, "NONE")]),
    "an outcome at the very end of the window": (DROP, [("outcome", 1100, 1.0)], [("LEARN", 1.0, NONE, "NONE")]),
    "the window is open as long as the watermark is not beyond it": (POLICY, [1100], []),
    "no outcome makes a negative": (POLICY, [1100.5], [("NEGATIVE", 0.0, NONE, "NONE")]),
    "no outcome, discarded by policy": (DROP, [1101], [("DISCARD", NONE, NONE, "NONE")]),
    "a window closes once": (POLICY, [1101, 1200], [("NEGATIVE", 0.0, NONE, "NONE")]),
    "a labelled prediction does not expire": (POLICY, [("outcome", 1050, 1.0), 1200], [("LEARN", 1.0, NONE, "NONE")]),
    "in time, but arrived after the negative": (
        POLICY,
        [1101, ("outcome", 1050, 1.0)],
        [("NEGATIVE", 0.0, NONE, "NONE"), ("LATE", 1.0, 0.0, "ARRIVED_LATE")],
    ),
    "in time, but arrived after the negative, and negative": (
        POLICY,
        [1101, ("outcome", 1050, 0.0)],
        [("NEGATIVE", 0.0, NONE, "NONE"), ("REPEAT", NONE, NONE, "NONE")],
    ),
    "in time, but arrived after it was discarded": (
        DROP,
        [1101, ("outcome", 1050, 1.0)],
        [("DISCARD", NONE, NONE, "NONE"), ("LATE", 1.0, NONE, "ARRIVED_LATE")],
    ),
    "late, corrects the negative": (
        POLICY,
        [1101, ("outcome", 1150, 1.0)],
        [("NEGATIVE", 0.0, NONE, "NONE"), ("LATE", 1.0, 0.0, "BEYOND_WINDOW")],
    ),
    "late, before the watermark closed the window": (
        POLICY,
        [("outcome", 1150, 1.0), 1200],
        [("LATE", 1.0, NONE, "BEYOND_WINDOW")],
    ),
    "late, dropped by policy": (
        DROP,
        [("outcome", 1150, 1.0), 1200],
        [("LATE", NONE, NONE, "DROPPED"), ("DISCARD", NONE, NONE, "NONE")],
    ),
    "late, of another label than the one in force": (
        POLICY,
        [("outcome", 1050, 1.0), ("outcome", 1150, 0.0)],
        [("LEARN", 1.0, NONE, "NONE"), ("CORRECT", 0.0, 1.0, "NONE")],
    ),
    "late, after a retraction": (
        POLICY,
        [("outcome", 1050, 1.0), ("retract", 1060, NONE), ("outcome", 1150, 1.0)],
        [("LEARN", 1.0, NONE, "NONE"), ("RETRACT", NONE, 1.0, "NONE"), ("LATE", 1.0, NONE, "BEYOND_WINDOW")],
    ),
    "a correction is not subject to the window": (
        DROP,
        [("outcome", 1050, 1.0), ("correct", 1500, 0.0)],
        [("LEARN", 1.0, NONE, "NONE"), ("CORRECT", 0.0, 1.0, "NONE")],
    ),
    "a second outcome with another label corrects": (
        POLICY,
        [("outcome", 1050, 1.0), ("outcome", 1060, 0.0)],
        [("LEARN", 1.0, NONE, "NONE"), ("CORRECT", 0.0, 1.0, "NONE")],
    ),
    "an explicit correction of a negative": (
        POLICY,
        [1101, ("correct", 1150, 1.0)],
        [("NEGATIVE", 0.0, NONE, "NONE"), ("CORRECT", 1.0, 0.0, "NONE")],
    ),
    "of equal times the later position wins": (
        POLICY,
        [("outcome", 1050, 1.0), ("correct", 1050, 0.0)],
        [("LEARN", 1.0, NONE, "NONE"), ("CORRECT", 0.0, 1.0, "NONE")],
    ),
    "a repeat": (
        POLICY,
        [("outcome", 1050, 1.0), ("outcome", 1050, 1.0)],
        [("LEARN", 1.0, NONE, "NONE"), ("REPEAT", NONE, NONE, "NONE")],
    ),
    "a newer repeat makes an older correction stale": (
        POLICY,
        [("outcome", 1050, 1.0), ("outcome", 1070, 1.0), ("correct", 1060, 0.0)],
        [("LEARN", 1.0, NONE, "NONE"), ("REPEAT", NONE, NONE, "NONE"), ("STALE", NONE, NONE, "OLDER")],
    ),
    "a stale correction": (
        POLICY,
        [("outcome", 1050, 1.0), ("correct", 1040, 0.0)],
        [("LEARN", 1.0, NONE, "NONE"), ("STALE", NONE, NONE, "OLDER")],
    ),
    "a retraction, then a new outcome": (
        POLICY,
        [("outcome", 1050, 1.0), ("retract", 1060, NONE), ("outcome", 1070, 1.0)],
        [("LEARN", 1.0, NONE, "NONE"), ("RETRACT", NONE, 1.0, "NONE"), ("LEARN", 1.0, NONE, "NONE")],
    ),
    "a retraction of a negative": (
        POLICY,
        [1101, ("retract", 1060, NONE)],
        [("NEGATIVE", 0.0, NONE, "NONE"), ("RETRACT", NONE, 0.0, "NONE")],
    ),
    "a retracted prediction does not become a negative": (
        POLICY,
        [("outcome", 1050, 1.0), ("retract", 1060, NONE), 1200],
        [("LEARN", 1.0, NONE, "NONE"), ("RETRACT", NONE, 1.0, "NONE")],
    ),
    "a retraction of nothing is refused, and an older outcome after it is stale": (
        POLICY,
        [("retract", 1060, NONE), ("outcome", 1050, 1.0), 1200],
        [("REFUSED", NONE, NONE, "NOTHING_TO_RETRACT"), ("STALE", NONE, NONE, "OLDER")],
    ),
    "a retraction twice": (
        POLICY,
        [("outcome", 1050, 1.0), ("retract", 1060, NONE), ("retract", 1060, NONE)],
        [("LEARN", 1.0, NONE, "NONE"), ("RETRACT", NONE, 1.0, "NONE"), ("REPEAT", NONE, NONE, "NONE")],
    ),
    "a stale retraction": (
        POLICY,
        [("outcome", 1050, 1.0), ("retract", 1040, NONE)],
        [("LEARN", 1.0, NONE, "NONE"), ("STALE", NONE, NONE, "OLDER")],
    ),
    "a clock behind within the skew": (POLICY, [("outcome", 995, 1.0)], [("LEARN", 1.0, NONE, "NONE")]),
    "a clock behind beyond the skew": (
        POLICY,
        [("outcome", 994.9, 1.0)],
        [("REFUSED", NONE, NONE, "BEFORE_PREDICTION")],
    ),
    "a correction at the very end of the horizon": (POLICY, [("correct", 2000, 1.0)], [("LEARN", 1.0, NONE, "NONE")]),
    "a clock far ahead": (POLICY, [("correct", 2001, 1.0)], [("REFUSED", NONE, NONE, "BEYOND_HORIZON")]),
    "beyond the correction horizon": (
        POLICY,
        [2001, ("correct", 1900, 1.0)],
        [("NEGATIVE", 0.0, NONE, "NONE"), ("REFUSED", NONE, NONE, "TOO_OLD")],
    ),
    "no label": (POLICY, [("outcome", 1050, NONE)], [("REFUSED", NONE, NONE, "BAD_LABEL")]),
    "no time": (POLICY, [("outcome", NONE, 1.0)], [("REFUSED", NONE, NONE, "BAD_TIME")]),
    "no such kind": (POLICY, [("delete", 1050, 1.0)], [("REFUSED", NONE, NONE, "UNKNOWN_KIND")]),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("together", [False, True], ids=["one step each", "outcomes between watermarks in one step"])
def test_known_answers(case: str, together: bool) -> None:
    policy, events, expected = CASES[case]
    state, done, position = State(policy), [], 0
    done += rows(step(state, 0, [1000.0], Outcomes.of(), -np.inf))
    batch: list[tuple] = []

    def flush() -> None:
        nonlocal position
        if batch:
            done.extend(rows(step(state, 1, [], outcomes_of(position, batch), -np.inf)))
            position += len(batch)
            batch.clear()

    for event in events:
        if isinstance(event, tuple):
            batch.append((0, *event))
        if not together or not isinstance(event, tuple):
            flush()
        if not isinstance(event, tuple):
            done += rows(step(state, 1, [], Outcomes.of(), event))
    flush()
    assert [(Action(row[2]).name, row[3], row[4], Reason(row[5]).name) for row in done] == expected


def outcomes_of(first: int, batch: list[tuple]) -> Outcomes:
    """Through the columns of the outcomes log; tuples are (prediction, kind, time, label)."""
    prediction, kind, time, label = zip(*batch) if batch else ((), (), (), ())
    table = pa.table(
        {
            "prediction": pa.array(prediction, pa.int64()),
            "kind": pa.array(kind, pa.string()),
            "time": pa.array(time, pa.float64()),
            "label": pa.array(label, pa.float64()),
        }
    )
    return Outcomes.of_table(first, table)


def test_every_reason_has_a_sentence() -> None:
    sentences = [reason.sentence for reason in Reason]
    assert len(set(sentences)) == len(Reason)
    assert [name for name, text in zip(Reason.__members__, sentences) if not text] == ["NONE"]


def test_unknown_predictions() -> None:
    state = State(POLICY)
    joined = step(state, 0, [0.0], Outcomes.of([0, 1, 2], [-1, 1, 10**12], [1.0] * 3, [1.0] * 3), 0.0)
    assert joined.reason.tolist() == [Reason.UNKNOWN_PREDICTION] * 3
    assert joined.counts()["refused"] == 3
    assert state.pending == 1


def test_before_the_first_prediction_all_is_unknown_or_too_old() -> None:
    joined = step(State(POLICY, end=5), 5, [], Outcomes.of([0, 1], [4, 5], [1.0] * 2, [1.0] * 2), 0.0)
    assert joined.reason.tolist() == [Reason.TOO_OLD, Reason.UNKNOWN_PREDICTION]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((3, [1.0], Outcomes.of(), 0.0), "first_position.*continue at position 2; got 3"),
        ((2, [np.nan], Outcomes.of(), 0.0), "time.*finite"),
        ((2, [], Outcomes.of([0], [0], [1.0], [1.0]), 0.0), "position.*continue at position 1; got 0"),
        ((2, [], Outcomes.of(), np.nan), "watermark is NaN"),
    ],
)
def test_bad_input_leaves_the_state_as_it_was(arguments: tuple, words: str) -> None:
    state = State(POLICY)
    step(state, 0, [0.0, 1.0], Outcomes.of([0], [0], [1.0], [1.0]), 5.0)
    before = state.changes()
    with pytest.raises(DataError, match=words):
        step(state, *arguments)
    assert state.changes() == before


def test_outcomes_out_of_order_or_of_unequal_length() -> None:
    with pytest.raises(DataError, match=r"position.*ascend"):
        Outcomes.of([1, 1], [0, 0], [1.0, 1.0], [1.0, 1.0])
    with pytest.raises(DataError, match=r"label.*shape"):
        Outcomes.of([1, 2], [0, 0], [1.0, 1.0], [1.0])


def test_results_are_frozen() -> None:
    joined = step(State(POLICY), 0, [0.0], Outcomes.of(), 500.0)
    with pytest.raises(ValueError, match="read-only"):
        joined.label[0] = 1.0


def test_kinds_are_in_the_order_of_their_codes() -> None:
    assert [Kind[name.upper()] for name in KINDS] == [0, 1, 2]
