"""Updates between predictions: where a stream stops to learn, and that the model stands still in between."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.glmix.model_parts import rows_of

from nearline import ConfigError, Fixed, GLMix, Numeric, Random, Schema
from nearline.glmix._replay import seconds, stops


@given(n=st.integers(0, 50), every=st.integers(1, 60))
def test_stops_every_so_many_rows(n: int, every: int) -> None:
    ends = stops(np.arange(n, dtype=float), every).tolist()
    assert ends == [*range(every, n, every), *([n] if n else [])]


@given(st.lists(st.floats(0, 1e6), max_size=40).map(sorted), st.sampled_from(["1s", "10min", "6h", "0.5d"]))
def test_stops_at_the_end_of_every_interval(times: list[float], every: str) -> None:
    ends = stops(np.array(times), every).tolist()
    assert ends[-1:] == ([len(times)] if times else [])
    window = [t // seconds(every) for t in times]
    assert ends[:-1] == [k for k in range(1, len(times)) if window[k] != window[k - 1]]


@pytest.mark.parametrize("wrong", ["", "h", "10", "-1h", "0s", "infd", "1 week", "nan h"])
def test_durations_are_checked(wrong: str) -> None:
    with pytest.raises(ConfigError, match="duration"):
        seconds(wrong)
    with pytest.raises(ConfigError, match="must be at least 1 row"):
        stops(np.zeros(3), 0)


def test_between_two_updates_the_model_stands_still() -> None:
    schema = Schema("y", time="t", columns={"x0": Numeric(0, 1)})
    rows = {**rows_of(), "t": np.repeat([0.0, 3600.0, 7300.0], 10)}
    stale, hourly, live = (GLMix(schema, Fixed("x0"), [Random("user")]) for _ in range(3))
    first = stale.progressive(rows, every=30)
    assert not first.margin.any()
    second = hourly.progressive(rows, every="1h")
    third = live.progressive(rows)
    assert not second.margin[:10].any()
    assert second.margin[10:].all()
    assert third.margin[1:].all()
    # All have learned the same rows in the same order.
    for block, other in zip(stale.blocks, live.blocks):
        assert block.mean.tobytes() == other.mean.tobytes()
    empty = live.progressive({name: np.asarray(column)[:0] for name, column in rows.items()})
    assert (empty.margin.size, empty.variance.size, empty.refused.size) == (0, 0, 0)
