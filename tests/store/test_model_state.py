"""A model in a store: base version and stored rows are the learner, bit for bit; lines do not mix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearline import Fixed, GLMix, Random, Schema, StateError
from nearline.glmix import Delta, Mark, touched_by
from nearline.store import LmdbStateStore, MemoryStateStore, StateStore, line, new_line, restore, save_delta


def table(seed: int, n: int = 40) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "user": [f"u{k}" for k in rng.integers(0, 5 + 5 * seed, n)],
        "genre": [f"g{k}" for k in rng.integers(0, 2 + seed, n)],
        "x": rng.normal(size=n),
        "y": rng.integers(0, 2, n),
    }


def base_model() -> GLMix:
    model = GLMix(Schema(label="y"), Fixed("x", "genre"), [Random("user", on=["genre"])])
    model.partial_fit(table(0))
    return model


def learn(model: GLMix, store: StateStore, seed: int) -> None:
    mark = Mark.of(model)
    design, _ = model.design(table(seed), learn=True)
    model.partial_fit(design)
    store.commit(save_delta(Delta.of(model, touched_by(design, model.blocks), mark)), {"examples": 40 * seed})


def same(one: GLMix, two: GLMix) -> None:
    assert one.encoder.extent() == two.encoder.extent()
    assert one.events_learned == two.events_learned
    for a, b in zip(one.blocks, two.blocks, strict=True):
        assert (a.columns, a.slots, a.kind, a.entities) == (b.columns, b.slots, b.kind, b.entities)
        for name in ("mean", "cov", "last", "counts"):
            assert getattr(a, name)[: a.entities].tobytes() == getattr(b, name)[: b.entities].tobytes()


@pytest.fixture(params=["memory", "lmdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> StateStore:
    return MemoryStateStore() if request.param == "memory" else LmdbStateStore(tmp_path / "live", map_size=1 << 17)


def test_a_restored_learner_goes_on_as_if_it_had_never_stopped(store: StateStore, tmp_path: Path) -> None:
    base_model().save(tmp_path / "1.0.0")
    base = GLMix.load(tmp_path / "1.0.0")
    store.commit(new_line("1.0.0"), {"examples": 0})
    steady, stopping = base.replica(), base.replica()
    for seed in range(1, 7):
        steady.partial_fit(table(seed))
        learn(stopping, store, seed)
        # The process ends here; the next one knows the folder and the store.
        with store.snapshot() as state:
            assert state.positions == {"examples": 40 * seed}
            stopping = restore(GLMix.load(tmp_path / "1.0.0"), state, line="1.0.0")
        same(steady, stopping)
    store.close()


def test_a_rollback_is_another_line(store: StateStore) -> None:
    base = base_model()
    with store.snapshot() as state:
        assert line(state) is None
        with pytest.raises(StateError, match=r"laid over version None, not '1\.0\.0'"):
            restore(base, state, line="1.0.0")
    store.commit(new_line("1.0.0"), {"examples": 0})
    learner = base.replica()
    learn(learner, store, 1)
    store.commit(new_line("0.9.0"), {})
    with store.snapshot() as state:
        assert (line(state), dict(state.positions)) == ("0.9.0", {"examples": 40})
        same(restore(base, state, line="0.9.0"), base)
        with pytest.raises(StateError, match="load that version as the base, or begin a new line"):
            restore(base, state, line="1.0.0")
    store.close()


def test_a_base_that_is_not_the_lines_is_refused(store: StateStore) -> None:
    base, other = base_model(), base_model()
    store.commit(new_line("1.0.0"), {})
    learn(base, store, 3)
    other.partial_fit(table(5))
    with store.snapshot() as state, pytest.raises(StateError, match="was laid over another base version"):
        restore(other, state, line="1.0.0")
    store.close()
