"""Prediction ids and the runs that gave them out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nearline import StateError
from nearline.store import Run, Runs

EXPIRED = "the prediction is no longer kept"
LOST = "no such prediction was recorded"
MALFORMED = "not a prediction id"
UNKNOWN = "no run of this server gave out such an id"


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    """Two runs: positions 0 to 9 are of the first (which lost what it had given out beyond), 10 on of the second."""
    runs = Runs(tmp_path / "ledger" / "runs.jsonl")
    runs.start(0, 1.0, "aaaaaaaa")
    runs.start(10, 2.0, "bbbbbbbb")
    return runs


@given(first=st.integers(0, 10**15) | st.integers(0, 30_000), n=st.integers(0, 40) | st.integers(9_990, 20_010))
@example(first=9_990, n=20)
@example(first=0, n=20_001)
@settings(max_examples=40, deadline=None)
def test_ids_are_the_same_as_list_and_as_column_and_resolve_to_their_positions(first: int, n: int) -> None:
    run = Run("aaaaaaaa", 0.0, 0)
    assert run(first, n).to_pylist() == run.ids(first, n) == [f"aaaaaaaa-{first + i}" for i in range(n)]


def test_ids_resolve_to_positions_of_the_run_that_gave_them_out(runs: Runs) -> None:
    positions, reasons = runs.resolve(["aaaaaaaa-0", "bbbbbbbb-10", "aaaaaaaa-9", "bbbbbbbb-14"], first=0, end=15)
    assert positions.tolist() == [0, 10, 9, 14]
    assert not reasons


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("aaaaaaaa-10", LOST),
        ("bbbbbbbb-9", LOST),
        ("bbbbbbbb-15", LOST),
        ("bbbbbbbb-999999999999999999", LOST),
        ("aaaaaaaa-4", EXPIRED),
        ("cccccccc-4", UNKNOWN),
        ("aaaaaaaa-04", MALFORMED),
        ("aaaaaaaa--4", MALFORMED),
        ("aaaaaaaa-+4", MALFORMED),
        ("aaaaaaaa-", MALFORMED),
        ("aaaaaaaa-4 ", MALFORMED),
        ("aaaaaaaa-4\n", MALFORMED),
        ("aaaaaaaa-٤", MALFORMED),
        ("aaaaaaaa_4", MALFORMED),
        ("AAAAAAAA-4", MALFORMED),
        ("aaaaaaaa-9999999999999999999", MALFORMED),
        ("", MALFORMED),
        (None, MALFORMED),
        (4, MALFORMED),
        ([1], MALFORMED),
        (b"aaaaaaaa-4", MALFORMED),
        ("aaaaaaaa-" + "9" * 5000, MALFORMED),
        ("aaaaaaaa-1_0", MALFORMED),
    ],
)
def test_an_id_that_is_refused_says_why_and_costs_the_others_nothing(runs: Runs, name: Any, reason: str) -> None:
    positions, reasons = runs.resolve(["bbbbbbbb-12", name, "aaaaaaaa-7"], first=5, end=15)
    assert positions.tolist() == [12, -1, 7]
    assert reasons == {1: reason}


def test_runs_are_read_again_and_go_on(runs: Runs) -> None:
    again = Runs(runs.path)
    assert again.runs == [Run("aaaaaaaa", 1.0, 0), Run("bbbbbbbb", 2.0, 10)]
    drawn = again.start(12, 3.0)
    assert len(drawn.tag) == 8
    assert Runs(runs.path).resolve([*drawn.ids(12, 1), "bbbbbbbb-12"], first=0, end=20)[0].tolist() == [12, -1]
    assert [again.run_of(position).tag for position in (0, 9, 10, 12)] == [
        "aaaaaaaa",
        "aaaaaaaa",
        "bbbbbbbb",
        drawn.tag,
    ]


def test_a_run_that_started_and_predicted_nothing_owns_nothing(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs.jsonl")
    runs.start(0, 1.0, "aaaaaaaa")
    runs.start(0, 2.0, "bbbbbbbb")
    assert runs.resolve(["aaaaaaaa-0", "bbbbbbbb-0"], first=0, end=1)[0].tolist() == [-1, 0]


def test_an_interrupted_line_is_cut_off_at_any_byte(runs: Runs) -> None:
    whole = runs.path.read_bytes()
    line = whole.index(b"\n") + 1
    for size in range(line, len(whole)):
        runs.path.write_bytes(whole[:size])
        again = Runs(runs.path)
        assert [run.tag for run in again.runs] == ["aaaaaaaa"]
        again.start(11, 3.0, "cccccccc")
        assert [run.tag for run in Runs(runs.path).runs] == ["aaaaaaaa", "cccccccc"]


@pytest.mark.parametrize(
    "line", ["{", '{"tag": "aaaaaaaa"}', '{"tag": "x", "started": 1, "predictions": 20}', "[]", '{"a": 1}']
)
def test_a_damaged_line_is_named(runs: Runs, line: str) -> None:
    lines = runs.path.read_text().split("\n")
    runs.path.write_text("\n".join([lines[0], line, *lines[1:]]))
    with pytest.raises(StateError, match=r"runs.jsonl, line 2: not a run"):
        Runs(runs.path)


def test_a_run_cannot_start_before_the_last_one_or_take_its_tag(runs: Runs) -> None:
    with pytest.raises(StateError, match="the log of predictions has lost rows"):
        runs.start(9, 3.0)
    for tag in ("aaaaaaaa", "short", "UPPERCAS"):
        with pytest.raises(StateError, match="is no tag, or one of an earlier run"):
            runs.start(20, 3.0, tag)
    assert json.loads(runs.path.read_text().split("\n")[1])["predictions"] == 10
