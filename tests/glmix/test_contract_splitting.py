"""The contract of every model on streams: cutting a table anywhere changes no bit."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.glmix.contract_parts import EFFECTS, POSTERIORS, ROWS, Case, event_only, state, with_column

from nearline import GLMix


def in_pieces(model: GLMix, data: pa.Table, cuts: Sequence[int]) -> np.ndarray:
    parts = [data.slice(start, stop - start) for start, stop in pairwise([0, *cuts, data.num_rows])]
    return np.concatenate([model.partial_fit(part).margin for part in parts])


def meet_levels(case: Case, *models: GLMix) -> None:
    """Let models meet all levels, on rows of other entities."""
    others = case.table()
    for name in ("user", "item", "campaign"):
        others = with_column(others, name, np.zeros(ROWS, int) if name != "item" else ["i0"] * ROWS)
    for model in models:
        model.design(others, learn=True)


@event_only
def test_splitting_a_table_changes_no_bit(case: Case) -> None:
    """Entities may appear at any time."""
    whole, pieces = case.model(), case.model()
    meet_levels(case, whole, pieces)
    margin = whole.partial_fit(case.table()).margin
    assert in_pieces(pieces, case.table(), [1, 2, 19, 40]).tobytes() == margin.tobytes()
    assert state(pieces) == state(whole)


@settings(max_examples=12, deadline=None)
@given(
    cuts=st.lists(st.integers(0, ROWS), max_size=6).map(sorted),
    effects=st.sampled_from(EFFECTS),
    posterior=st.sampled_from(POSTERIORS),
)
def test_splitting_anywhere_changes_no_bit(cuts: list[int], effects: str, posterior: str) -> None:
    case = Case(effects, posterior, "logit", "event")
    whole, pieces = case.model(), case.model()
    meet_levels(case, whole, pieces)
    whole.partial_fit(case.table())
    in_pieces(pieces, case.table(), cuts)
    assert state(pieces) == state(whole)


@event_only
def test_levels_that_appear_mid_stream_change_no_bit(case: Case) -> None:
    """What a level will be called matters to no row before it, though its dimension is there from the table's start."""
    whole, pieces = case.model(), case.model()
    margin = whole.partial_fit(case.table()).margin
    assert in_pieces(pieces, case.table(), [1, 2, 19, 40]).tobytes() == margin.tobytes()
    assert state(pieces) == state(whole)
    assert [(block.d, block.entities) for block in pieces.blocks] == [(b.d, b.entities) for b in whole.blocks]


def wide_table(seed: int, n: int, wide: int) -> pa.Table:
    """Rows whose levels and entities keep appearing, up to about `wide` levels per column."""
    rng = np.random.default_rng(seed)
    known = 1 + (wide * np.arange(n)) // n
    level, user, item = (rng.integers(0, known) for _ in range(3))
    tags = [[f"t{i}" for i in rng.integers(0, k, size=rng.integers(0, 6))] for k in known]
    columns = {
        "user": user // 3,
        "item": [f"i{i // 2}" for i in item],
        "campaign": item // 6,
        "x": rng.normal(size=n),
        "g": [f"g{i}" for i in level],
        "tags": tags,
        "y": (rng.random(n) < 0.5).astype(float),
        "t": 1e9 + np.cumsum(rng.exponential(300.0, n)),
        "w": rng.choice([0.5, 1.0, 2.0], n),
        "o": rng.normal(scale=0.3, size=n),
    }
    return pa.table(columns)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    wide=st.integers(1, 24),
    cuts=st.lists(st.integers(0, 150), max_size=6).map(sorted),
    effects=st.sampled_from(EFFECTS),
    posterior=st.sampled_from(POSTERIORS),
    dtype=st.sampled_from(["float64", "float32"]),
)
def test_any_cutting_of_any_stream_gives_the_same_bits(
    seed: int, wide: int, cuts: list[int], effects: str, posterior: str, dtype: Any
) -> None:
    """New levels and entities mid-stream included: appended dimensions decide the rounding of no other one."""
    case, data = Case(effects, posterior, "logit", "event"), wide_table(seed, 150, wide)
    whole, pieces = case.model(dtype=dtype), case.model(dtype=dtype)
    margin = whole.partial_fit(data).margin
    assert np.array_equal(in_pieces(pieces, data, cuts), margin)
    for one, other in zip(whole.blocks, pieces.blocks):
        n = one.entities
        assert (one.d, n) == (other.d, other.entities)
        for array in ("mean", "cov", "counts", "last"):
            assert np.array_equal(getattr(one, array)[:n], getattr(other, array)[:n], equal_nan=True), array
