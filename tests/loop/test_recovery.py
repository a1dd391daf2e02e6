"""Wherever a learner stops and however its ledger is cut into ticks, it ends where it would have been."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.loop.parts import Bench, rows, same_model, standing
from tests.loop.recovery_parts import DOINGS, PLAIN, Doing, bench_of, live

from nearline import GLMix

# What a tick reads and does not commit is read again after a crash, together with what came since.
VOID_FIRST = [("void",), ("void",), ("tick", 1.0, "crash"), ("happened", 0, None, "retract")]


@pytest.mark.parametrize("mode", ["event", "minibatch"])
@PLAIN
@given(doings=DOINGS, batch=st.sampled_from([1, 3, 5_000]))
@example(doings=VOID_FIRST, batch=1)
def test_a_learner_that_crashed_is_one_that_never_did(mode: str, doings: list[Doing], batch: int) -> None:
    crashed, whole = bench_of(mode, batch), bench_of(mode, batch)
    live(crashed, doings, faults=True)
    live(whole, doings, faults=False)
    assert standing(crashed.learner) == standing(whole.learner)
    assert same_model(crashed.model, whole.model)
    whole.crash()
    assert same_model(crashed.model, whole.model)
    assert crashed.held() == whole.held()


@PLAIN
@given(doings=DOINGS, cuts=st.lists(st.integers(1, 4), min_size=1, max_size=8))
def test_the_labels_that_are_held_do_not_depend_on_the_cutting_into_ticks(doings: list[Doing], cuts: list[int]) -> None:
    told, known = [], 0
    for doing in doings:
        # A service accepts outcomes of recorded predictions only.
        if doing[0] in ("predict", "void") or (doing[0] == "happened" and doing[1] < known):
            told.append(doing)
        known += {"predict": len(doing[1]) if doing[0] == "predict" else 0, "void": 1}.get(doing[0], 0)
    one, cut = bench_of("event"), bench_of("event")
    live(one, told, faults=False)
    for number, doing in enumerate(told):
        # Time stands still until the end: no window closes on the way.
        live_one(cut, doing)
        if number % cuts[number % len(cuts)] == 0:
            cut.tick(0.0)
    cut.tick(3.0)
    assert one.held() == cut.held()


def live_one(bench: Bench, doing: Doing) -> None:
    if doing[0] == "predict":
        bench.predict(rows(doing[1], doing[2]), time=bench.now - doing[2] / 10)
    elif doing[0] == "happened":
        bench.happened([doing[1]], doing[2], kind=doing[3])
    else:
        bench.void(1)


@PLAIN
@given(st.lists(st.tuples(st.integers(0, 14), st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_single_outcomes_teach_the_same_bits_however_they_are_cut(told: list[tuple[int, bool, bool]]) -> None:
    """Event mode: the same bits however a stream is cut into calls (docs/model.md)."""
    whole, cut = bench_of("event"), bench_of("event")
    for number, (member, label, ticks) in enumerate(told):
        given_row = rows([member], number)
        for bench in (whole, cut):
            bench.happened(bench.predict(given_row), float(label))
        if ticks:
            cut.tick(0.0)
    whole.tick()
    cut.tick()
    assert same_model(whole.model, cut.model)


def test_a_learner_that_only_read_predictions_loses_nothing() -> None:
    bench, twin = bench_of("event"), bench_of("event")
    for it in (bench, twin):
        it.predict(rows([1, 2, 3]))
        it.tick()
    bench.crash()
    for it in (bench, twin):
        it.tick(30.0)
    assert bench.examples("action") == ["negative"] * 3
    assert standing(bench.learner) == standing(twin.learner)
    assert same_model(bench.model, twin.model)


def test_new_members_and_ads_survive_a_crash() -> None:
    bench = bench_of("event")
    given_rows = {"member": [100, 101], "ad": ["new", "newer"], "price": [1.0, 2.0]}
    bench.happened(bench.predict(given_rows), 1.0)
    bench.tick()
    before, model = standing(bench.learner), bench.model
    score = model.decision_function({**given_rows, "when": np.full(2, bench.now)})
    bench.crash()
    assert standing(bench.learner) == before
    assert same_model(bench.model, model)
    again: GLMix = bench.model
    assert np.array_equal(again.decision_function({**given_rows, "when": np.full(2, bench.now)}), score)
