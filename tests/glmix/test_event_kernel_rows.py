"""What the event and scoring kernels do with rows: weight 0, broken, unseen or none; what they write, and where."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.glmix.event_kernel_parts import SCENARIOS, Model, close, random_events, rows_of

from nearline._errors import StateError
from nearline.glmix import _oracle
from nearline.glmix._kernels import _event, _score
from nearline.glmix._kernels._records import Rows
from nearline.glmix._oracle import Event


def seen(seed: int, scenario: str, link: str, dtype: Any = np.float64) -> tuple[Model, list[Event]]:
    """A model that has learned some events, and more events."""
    rng = np.random.default_rng(seed)
    twins = SCENARIOS[scenario](rng)
    model = Model(twins, link, dtype)
    events = random_events(rng, twins, link, 80)
    model.replay(events[:40])
    return model, events[40:]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_weight_0_predicts_and_changes_no_bit(scenario: str) -> None:
    model, events = seen(3, scenario, "logit")
    before, expected = model.state(), model.score(events)
    z, s, refused = model.replay([replace(event, weight=0.0) for event in events])
    assert model.state() == before
    assert not refused.any()
    np.testing.assert_array_equal([z, s], expected)


BROKEN: dict[str, dict[str, Any]] = {
    "label": {"label": np.nan}, "infinite label": {"label": np.inf}, "weight": {"weight": np.nan},
    "infinite weight": {"weight": np.inf}, "offset": {"offset": np.inf}, "time": {"time": np.nan},
    "infinite time": {"time": np.inf},
}  # fmt: skip


@pytest.mark.parametrize("scenario", ["three blocks", "diagonal", "walks", "everything"])
@pytest.mark.parametrize("broken", [*BROKEN, "feature", "huge feature"])
def test_an_update_that_is_not_finite_changes_no_bit(scenario: str, broken: str) -> None:
    model, events = seen(4, scenario, "identity")
    bad = replace(replace(events[0], weight=1.0), **BROKEN.get(broken, {}))
    if broken not in BROKEN:
        bad = replace(bad, x=np.where(bad.x != 0.0, np.nan if broken == "feature" else 1e200, 0.0))
    before = model.state()
    _, _, refused = model.replay([bad])
    assert refused.tolist() == [True]
    assert model.state() == before
    # The stream goes on as if the row had not been there.
    other, _ = seen(4, scenario, "identity")
    rest = model.replay([bad, *events[1:]])
    np.testing.assert_array_equal([part[1:] for part in rest[:2]], other.replay(events[1:])[:2])
    assert model.state() == other.state()


@pytest.mark.parametrize("scenario", ["three blocks", "loadings", "diagonal", "everything"])
def test_an_unseen_entity_scores_with_the_prior(scenario: str) -> None:
    """Entity −1: z = offset + Σ xᵀ μ0 and s = Σ xᵀ V0 x, as a model that has learned nothing says."""
    model, events = seen(5, scenario, "logit")
    events = [replace(event, entities=(-1,) * len(model.twins)) for event in events]
    expected = np.array([_oracle.predict(model.twins, event)[:2] for event in events]).T
    close(model.score(events), expected)


def test_learning_with_an_unseen_entity_updates_the_others_only() -> None:
    model, events = seen(6, "loadings", "logit")
    before = [a.copy() for a in (*model.mean, *model.cov)]
    model.replay([replace(events[0], entities=(0, -1, 2, -1), weight=1.0)])
    changed = [np.flatnonzero((a != b).any(axis=1)).tolist() for a, b in zip((*model.mean, *model.cov), before)]
    assert changed == [[0], [], [2], [], [0], [], [2], []]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scoring_writes_nothing_and_agrees_with_replay(scenario: str) -> None:
    model, events = seen(7, scenario, "logit")
    before = model.state()
    z, s = model.score(events)
    assert model.state() == before
    for parts in (2, 3):
        np.testing.assert_array_equal(model.score(events, parts), [z, s])
    np.testing.assert_array_equal(model.replay(events, [len(events)])[:2], [z, s])


def test_variances_are_written_only_where_asked_for() -> None:
    model, events = seen(8, "everything", "logit")
    z, s = model.score(events, variances=False)
    assert np.isfinite(z).all()
    assert np.isnan(s).all()
    other, _ = seen(8, "everything", "logit")
    for stops in (None, [len(events)]):
        with_s, without = model.replay(events, stops), other.replay(events, stops, variances=False)
        np.testing.assert_array_equal(with_s[0], without[0])
        assert np.isnan(without[1]).all()
    assert model.state() == other.state()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_float32_storage_stays_near_float64(scenario: str) -> None:
    results = []
    for dtype in (np.float64, np.float32):
        model, events = seen(9, scenario, "logit", dtype)
        results.append((*model.replay(events)[:2], *model.mean))
        assert model.mean[0].dtype == dtype
    for exact, rounded in zip(*results):
        close(rounded, exact, 2e-4)


def test_kernels_compile_once_per_storage_type_whatever_they_are_given() -> None:
    """Blocks, rows, layouts and read-only arrays are addresses to the kernel, so none of them compiles it again."""
    model, events = seen(11, "everything", "logit")
    expected = model.score(events)
    rows = rows_of(events)
    copies: list[Any] = [np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape) for a in rows]
    frozen = Rows(*copies)
    strided = rows._replace(
        entities=np.asfortranarray(rows.entities).astype(np.int64), time=np.repeat(rows.time, 2)[::2],
        indptr=rows.indptr.astype(np.int32),
    )  # fmt: skip
    for given_rows in (frozen, strided):
        z, s = np.zeros(len(events)), np.zeros(len(events))
        _score.score(given_rows, model.blocks, model.sizes, 1, True, z, s)
        np.testing.assert_array_equal([z, s], expected)
    for scenario in SCENARIOS:
        seen(12, scenario, "identity", np.float32)
    assert {signature[5].dtype.bitwidth for signature in _event.run.signatures} == {32, 64}
    assert len(_event.run.signatures) == 2


def test_outputs_that_cannot_be_written_in_place_are_refused() -> None:
    model, events = seen(13, "one block", "logit")
    rows, n = rows_of(events), len(events)
    for z in (np.zeros(n, np.float32), np.zeros(2 * n)[::2]):
        with pytest.raises(StateError, match="z must be a contiguous, writeable array of float64"):
            _score.score(rows, model.blocks, model.sizes, 1, False, z, np.zeros(n))


def test_no_event_is_no_work() -> None:
    model, _ = seen(14, "loadings", "logit")
    before = model.state()
    empty = Rows(
        np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0), np.zeros((4, 0), np.int32), *[np.zeros(0)] * 4
    )
    none, refused = np.zeros(0), np.zeros(0, np.bool_)
    _event.replay(0, empty, model.blocks, np.zeros(0, np.int64), model.sizes, True, none, none, refused)
    _score.score(empty, model.blocks, model.sizes, 1, True, none, none)
    assert model.state() == before
