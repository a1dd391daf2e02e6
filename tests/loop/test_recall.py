"""Recall is a map from predictions to examples, in pages; what an older model holds is read from the ledger."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline import StateError
from nearline.loop._examples import SCHEMA
from nearline.loop._held import recalled
from nearline.loop._recall import NEVER, ROWS, Recall
from nearline.store import MemoryLog

PREDICTION = st.integers(0, 4 * ROWS)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("set"), st.dictionaries(PREDICTION, st.integers(NEVER, 99), min_size=1)),
            st.tuples(st.just("drop"), st.sets(st.integers(0, 5))),
            st.tuples(st.just("committed")),
        )
    )
)
def test_it_is_a_map_and_so_is_its_store(doings: list[tuple[Any, ...]]) -> None:
    recall, twin, store = Recall(), dict[int, int](), dict[int, bytes]()
    asked = np.arange(5 * ROWS)
    for what, *how in [*doings, ("committed",)]:
        if what == "set":
            recall.set(np.array(list(how[0])), np.array(list(how[0].values())))
            twin |= how[0]
        elif what == "drop":
            recall.drop(how[0])
            twin = {p: e for p, e in twin.items() if p // ROWS not in how[0]}
        else:
            pages, gone = recall.changes()
            assert not pages.keys() & set(gone)
            store = {number: data for number, data in {**store, **pages}.items() if number not in gone}
            recall.committed()
        wanted = np.array([twin.get(p, NEVER) for p in asked.tolist()])
        assert np.array_equal(recall.get(asked), wanted)
    assert np.array_equal(Recall.load(store.items()).get(asked), recall.get(asked))
    held = [e for e in twin.values() if e >= 0]
    assert recall.first == min(held, default=np.iinfo(np.int64).max)


def test_a_page_of_another_size_is_refused() -> None:
    with pytest.raises(StateError, match="page 3 has 5 bytes"):
        Recall.load([(3, b"short")])


ACTION = st.sampled_from(["learn", "negative", "late", "correct", "retract", "superseded", "quarantined", "refused"])


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 9), ACTION), min_size=1, max_size=5), max_size=6),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=3),
    st.integers(0, 9),
)
def test_an_older_models_examples_are_those_of_its_spans(
    ticks: list[list[tuple[int, str]]], spans: list[tuple[int, int]], first: int
) -> None:
    log, told = MemoryLog(SCHEMA), []
    for tick in ticks:
        rows = list(dict(tick).items())  # one row of a prediction counts in a tick
        told += rows
        columns: dict[str, Any] = {"prediction": [p for p, _ in rows], "action": [action for _, action in rows]}
        columns["label"] = [None if action in ("retract", "refused") else 1.0 for _, action in rows]
        arrays = [pa.array(columns.get(f.name, [None] * len(rows)), f.type) for f in SCHEMA]
        log.append(pa.RecordBatch.from_arrays(arrays, schema=SCHEMA))
    log.commit()
    spans = [(min(a, b), min(max(a, b), log.end)) for a, b in spans if min(a, b) < log.end]
    twin: dict[int, int] = {}
    for start, end in sorted(spans):
        for at in range(start, end):
            prediction, action = told[at]
            if prediction >= first and action in ("learn", "negative", "late", "correct"):
                twin[prediction] = at
            elif action == "retract":
                twin.pop(prediction, None)
    found = recalled(log, spans, first).get(np.arange(10))
    assert found.tolist() == [twin.get(p, NEVER) for p in range(10)]
