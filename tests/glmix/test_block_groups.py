"""The rows of a block update, grouped by entity."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.glmix.block_parts import Problem

from nearline.glmix._block import group, update_block
from nearline.glmix._links import by_name


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(0, 60), capacity=st.integers(1, 400))
def test_grouping_is_a_stable_partition(seed: int, n: int, capacity: int) -> None:
    """Both ways of grouping: counting where rows are many, sorting where the state is large."""
    codes = np.random.default_rng(seed).integers(-1, capacity, n).astype(np.int32)
    grouping = group(codes, capacity)
    assert grouping.codes.tolist() == sorted(set(codes.tolist()) - {-1})
    for e, code in enumerate(grouping.codes):
        assert grouping.order[grouping.ptr[e] : grouping.ptr[e + 1]].tolist() == np.flatnonzero(codes == code).tolist()
    assert grouping.unassigned.tolist() == np.flatnonzero(codes < 0).tolist()
    times = np.arange(n, dtype=float)
    assert grouping.last(times).tolist() == [times[codes == code].max() for code in grouping.codes]


def test_rows_without_an_entity_are_reported() -> None:
    problem = Problem.random(16, "logit", 3, [4, 4])
    problem.codes = np.where(np.arange(8) % 4 == 0, -1, problem.codes).astype(np.int32)
    result = problem.update(*problem.state(False))
    assert result.grouping.unassigned.tolist() == [0, 4]
    nothing = update_block(np.full(8, -1, np.int32), problem.design(False), problem.y, problem.w, problem.offset,
                           *problem.state(False), link=by_name("logit"))  # fmt: skip
    assert (len(nothing.status), nothing.log_evidence, nothing.failed_rows.tolist()) == (0, 0.0, [])
