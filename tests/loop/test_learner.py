"""The learner against the model's own verbs: partial_fit, correct and retract."""

from __future__ import annotations

import numpy as np
import pytest
from tests.loop.parts import BASE, Bench, events, rows, same_model, trained

from nearline import StateError
from nearline.join import Policy


def test_a_tick_leaves_the_posteriors_of_partial_fit_on_the_same_rows() -> None:
    bench, twin = Bench(), trained()
    given, labels = rows([1, 2, 1, 77]), [1.0, 0.0, 1.0, 1.0]
    bench.happened(bench.predict(given), labels)
    tick = bench.tick()
    assert tick is not None
    assert str(tick.version) == "1.0.4" == str(bench.learner.version)
    twin.partial_fit(events(given, labels, 1_000.0))
    assert same_model(bench.model, twin)
    assert bench.held() == dict(enumerate(labels))


def test_a_correction_and_a_retraction_are_the_models_own() -> None:
    bench, twin = Bench(), trained()
    given, labels = rows([1, 2, 3]), [1.0, 0.0, 1.0]
    positions = bench.predict(given)
    bench.happened(positions, labels)
    bench.tick()
    learned = twin.partial_fit(events(given, labels, 1_000.0)).events
    bench.happened(positions[:2], [0.0, 1.0], kind="correct")
    bench.tick()
    first = {name: column[:2] for name, column in events(given, labels, 1_000.0).items()}
    corrected = twin.correct(first, [0.0, 1.0], learned.take(np.arange(2)))
    assert same_model(bench.model, twin)
    bench.happened(positions[:1], None, kind="retract")
    bench.tick()
    twin.retract({name: column[:1] for name, column in first.items()}, corrected.events.take(np.arange(1)))
    assert same_model(bench.model, twin)
    assert bench.held() == {1: 1.0, 2: 1.0}
    assert bench.learner.counts == {"learn": 3, "correct": 2, "retract": 1}


def test_what_was_retracted_is_learned_anew_when_an_outcome_comes() -> None:
    bench = Bench()
    (position,) = bench.predict(rows([1]))
    bench.happened([position], 1.0)
    bench.tick()
    bench.happened([position], None, kind="retract")
    bench.tick()
    assert bench.held() == {}
    bench.happened([position], 0.0, kind="correct")
    bench.tick()
    assert bench.held() == {position: 0.0}


def test_a_window_that_closes_is_a_negative_and_a_late_outcome_corrects_it() -> None:
    bench, twin = Bench(), trained()
    given = rows([4, 5])
    positions = bench.predict(given)
    bench.tick()
    assert bench.tick(100.0) is None
    tick = bench.tick(11.0)
    assert tick is not None
    assert bench.examples("action") == ["negative"] * 2
    learned = twin.partial_fit(events(given, [0.0, 0.0], 1_000.0)).events
    assert same_model(bench.model, twin)
    bench.happened(positions[1:], 1.0)
    bench.tick()
    assert bench.examples("action", "previous", "label")[-1] == ("late", 0.0, 1.0)
    twin.correct(
        {name: column[1:] for name, column in events(given, [0.0, 0.0], 1_000.0).items()}, [1.0],
        learned.take(np.array([1])),
    )  # fmt: skip
    assert same_model(bench.model, twin)


def test_without_negatives_a_window_that_closes_teaches_nothing() -> None:
    bench = Bench(policy=Policy(window=100.0, no_outcome="discard", horizon=1_000.0))
    bench.predict(rows([4]))
    bench.tick()
    bench.tick(200.0)
    assert bench.examples("action") == ["discard"]
    assert same_model(bench.model, bench.base)


def test_an_outcome_that_comes_twice_counts_once() -> None:
    bench, once = Bench(), Bench()
    for it in (bench, once):
        it.predict(rows([1, 2]))
        it.happened([0, 1], [1.0, 0.0])
        it.tick()
    bench.happened([0, 1], [1.0, 0.0])
    bench.happened([0], [1.0])
    bench.tick()
    once.tick()
    assert same_model(bench.model, once.model)
    assert bench.learner.counts["repeat"] == 3


def test_of_several_outcomes_in_one_tick_the_last_counts() -> None:
    bench, twin = Bench(), trained()
    given = rows([1])
    (position,) = bench.predict(given)
    for label in (1.0, 0.0, 1.0, 0.0):
        bench.happened([position], label)
    bench.tick()
    twin.partial_fit(events(given, [0.0], 1_000.0))
    assert same_model(bench.model, twin)
    assert bench.examples("action") == ["superseded"] * 3 + ["correct"]
    bench.happened([position], 1.0)
    bench.happened([position], None, kind="retract")
    bench.tick()
    assert bench.held() == {}
    assert bench.examples("action")[-2:] == ["superseded", "retract"]


def test_what_another_line_predicted_is_not_held_against_this_one() -> None:
    bench = Bench()
    positions = bench.predict(rows([1, 2, 3]))
    bench.happened(positions[:1], 1.0)
    bench.tick()
    other = bench.predict(rows([4, 5]))
    bench.models[bench.learner.version] = bench.model.replica()
    bench.learner.begin(BASE, 2, bench.now)
    own = bench.predict(rows([6]))
    assert [str(bench.learner.version), bench.learner.line.batch] == ["1.0.0", 1]
    bench.happened([*other, *own], 1.0)
    bench.tick()
    assert bench.learner.guard.summary()["window"] == 1


def test_going_back_to_a_model_recalls_what_that_model_holds() -> None:
    bench = Bench()
    positions = bench.predict(rows([1, 2, 3]))
    bench.happened(positions, [1.0, 1.0, 0.0])
    bench.tick()
    middle, kept = bench.learner.version, bench.storage.examples.end
    bench.models[middle] = bench.model.replica()
    bench.happened(positions[:1], 0.0, kind="correct")
    bench.happened(positions[1:2], None, kind="retract")
    bench.tick()
    assert bench.held() == {0: 0.0, 2: 0.0}
    bench.learner.begin(BASE, 2, bench.now)
    assert bench.held() == {}
    assert same_model(bench.model, bench.base)
    bench.learner.begin(middle, 3, bench.now, [(0, kept)])
    assert bench.held() == {0: 1.0, 1: 1.0, 2: 0.0}
    assert same_model(bench.model, bench.models[middle])
    bench.happened(positions[:1], 1.0, kind="correct")
    bench.tick()
    assert bench.held()[0] == 1.0
    assert bench.learner.version.batch == 2
    before = bench.held()
    bench.crash()
    assert bench.held() == before


def test_a_commit_that_fails_is_done_again() -> None:
    bench, twin = Bench(), Bench()
    for it in (bench, twin):
        it.happened(it.predict(rows([1, 2])), 1.0)
    bench.state.full = True
    for _ in range(2):
        with pytest.raises(StateError, match="full"):
            bench.tick(0.0)
        assert bench.learner.restore()
        assert bench.storage.examples.end == 0
    bench.state.full = False
    bench.tick()
    twin.tick()
    assert same_model(bench.model, twin.model)
    assert bench.held() == twin.held()
