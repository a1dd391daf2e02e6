"""What the learner refuses or puts into quarantine, and that it says so."""

from __future__ import annotations

import numpy as np
import pytest
from tests.loop.parts import Bench, events, rows, same_model, trained

from nearline import GLMix, StateError
from nearline.glmix import Safety
from nearline.loop._teach import GONE, UNFORESEEN, VOID


def test_outcomes_that_nobody_can_count_are_refused_with_a_reason() -> None:
    bench = Bench()
    (good,) = bench.predict(rows([1]))
    bench.happened([good, 900, -1], 1.0)
    bench.happened([good], 1.0, kind="odd")
    bench.happened([good], None)
    bench.happened([good], 1.0, time=good - 1e6)
    bench.tick()
    found = bench.examples("action", "reason")
    assert found[0] == ("learn", None)
    assert {action for action, _ in found[1:]} == {"refused"}
    assert all(reason for _, reason in found[1:])
    assert bench.learner.counts == {"learn": 1, "refused": 5}


@pytest.mark.parametrize("before", [0, 2])
def test_predictions_that_were_never_written_are_refused(before: int) -> None:
    bench = Bench()
    seen = bench.predict(rows([1] * before)) if before else []
    lost = bench.void(2)
    bench.tick()
    seen += bench.predict(rows([3]))
    bench.happened([*lost, *seen], 1.0)
    bench.tick()
    assert bench.held() == dict.fromkeys(seen, 1.0)
    at = [reason for action, reason in bench.examples("action", "reason") if action == "refused"]
    assert at.count(VOID) >= 2


def test_predictions_that_were_deleted_are_refused() -> None:
    bench = Bench()
    old, new = bench.predict(rows([1])), bench.predict(rows([2]))
    bench.tick()
    bench.storage.predictions.retain(1)
    bench.happened([*old, *new], 1.0)
    bench.tick()
    assert bench.examples("action", "reason") == [("refused", GONE), ("learn", None)]


def test_a_row_that_is_unsafe_is_quarantined_and_the_others_are_learned() -> None:
    bench, twin = Bench(safety=Safety(margin=20.0)), trained()
    given = rows([1, 2, 3])
    given["price"][1] = 1e9
    bench.happened(bench.predict(given), 1.0)
    bench.tick()
    assert bench.examples("action", "reason")[1] == ("quarantined", "the score is beyond the limit")
    twin.partial_fit(events({name: [v[0], v[2]] for name, v in given.items()}, [1.0, 1.0], 1_000.0))
    assert not [e for p, e in bench.held().items() if p == 1]
    assert bench.held() == {0: 1.0, 2: 1.0}
    # corrected by hand later: there is nothing to undo, and the row is as unsafe as it was
    bench.happened([1], 0.0, kind="correct")
    bench.tick()
    assert bench.examples("action")[-1] == "quarantined"
    assert 1 not in bench.held()


def test_a_label_that_does_not_suit_the_link_is_quarantined() -> None:
    bench = Bench()
    positions = bench.predict(rows([1, 2]))
    bench.happened(positions, [0.5, 1.0])
    bench.tick()
    (action, reason), second = bench.examples("action", "reason")
    assert action == "quarantined"
    assert "clicked" in reason
    assert second == ("learn", None)
    bench.happened(positions[1:], 0.5, kind="correct")
    bench.tick()
    assert bench.examples("action")[-1] == "failed"
    assert bench.held() == {1: 1.0}
    bench.happened(positions[1:], 0.0, kind="correct")
    bench.tick()
    assert bench.held() == {1: 0.0}


def test_surprise_is_rejected_until_it_lasts() -> None:
    model = trained()
    for _ in range(30):
        model.partial_fit(events(rows(list(range(10))), [0.0] * 10, -1.0))
    bench = Bench(model, safety=Safety())
    for number in range(5):
        bench.happened(bench.predict(rows(list(range(10)) * 5, number)), 1.0)
        bench.tick()
        if number < 3:
            assert bench.examples("action")[-1] == "quarantined"
            assert same_model_apart_from_names(bench, model)
            assert bench.learner._teacher.rejected == number + 1
        assert (bench.examples("action")[-1] == "learn") == (number >= 3)
    # as long as it surprises, it is learned at once; then patience is back
    for number in range(5, 30):
        bench.happened(bench.predict(rows(list(range(10)) * 5, number)), 1.0)
        bench.tick()
        assert bench.examples("action")[-1] == "learn"
        if bench.learner._teacher.rejected == 0:
            break
    else:
        pytest.fail("patience never came back")


def same_model_apart_from_names(bench: Bench, model: GLMix) -> bool:
    old = [(block.mean[: block.entities].copy(), block.cov[: block.entities].copy()) for block in model.blocks]
    return all(
        np.array_equal(new.mean[: len(mean)], mean) and np.array_equal(new.cov[: len(cov)], cov)
        for new, (mean, cov) in zip(bench.model.blocks, old)
    )


def test_a_tick_that_is_refused_as_a_whole_says_so() -> None:
    bench = Bench()
    positions = bench.predict(rows([1, 2]))
    bench.happened(positions, 1.0)
    bench.tick(quarantine="cosmic ray")
    assert bench.examples("action", "reason") == [("quarantined", f"{UNFORESEEN}cosmic ray")] * 2
    assert same_model(bench.model, bench.base)
    assert bench.held() == {}
    bench.happened(positions[:1], 0.0, kind="correct")
    bench.tick()
    assert bench.held() == {0: 0.0}


def test_a_ledger_that_lost_rows_is_noticed() -> None:
    bench = Bench()
    bench.happened(bench.predict(rows([1, 2])), 1.0)
    bench.tick()
    for log in (bench.storage.examples, bench.storage.outcomes, bench.storage.predictions):
        log.truncate(1)
        with pytest.raises(StateError, match=r"ends at 1, but .* restore both"):
            bench.learner.restore()
        log.append(log.read(0).to_batches()[0])
        log.commit()


def test_a_state_that_was_lost_is_noticed() -> None:
    bench = Bench()
    bench.happened(bench.predict(rows([1])), 1.0)
    bench.tick()
    bench.storage = type(bench.storage)(*bench.storage.logs, type(bench.state)(), None)  # type: ignore[arg-type]
    with pytest.raises(StateError, match="1 examples were learned; restore it from a copy, or move the folder ledger"):
        bench.crash()
