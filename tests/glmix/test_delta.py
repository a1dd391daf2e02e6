"""Deltas: a replica has the learner's bits after every tick, however the stream is cut; so has a restored model."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline import Fixed, Forgetting, GLMix, Hashed, Loadings, Multi, Numeric, Prior, Random, Schema, StateError
from nearline.glmix import _state, _stream
from nearline.glmix._codes import DIAGONAL, FULL, LOWRANK
from nearline.glmix._delta import Delta, Mark, touched_by, union
from nearline.glmix._persist import dump_delta, parse_delta

SCHEMA = Schema(label="y", time="t", weight="w", columns={"text": Hashed(bits=4), "tags": Multi("|")})
WALK = Forgetting(half_life=3e4, form="stabilised", walk_per_event={"*": 0.01})
MODELS: dict[str, tuple[Fixed | None, list[Any], dict[str, Any]]] = {
    "full": (Fixed("x", "tags", posterior="full"), [Random("user", on=["tags"], posterior="full")], {}),
    "float32": (Fixed("x", "tags"), [Random("user", on=["x"], forgetting=WALK)], {"dtype": "float32"}),
    "diagonal": (Fixed("x", posterior="diagonal"), [Random(("user", "item"), on=["text"], posterior="diagonal")], {}),
    "low rank": (Fixed("x"), [Random("user", on=["text"], posterior="lowrank", rank=2)], {"dtype": "float32"}),
    "no fixed": (Fixed(intercept=False), [Random("user", on=["x"])], {"mode": "minibatch"}),
    "auto": (Fixed("tags"), [Random("user", on=["text", "tags"], rank=2), Random("item", on=["x"])], {}),
    "parent": (Fixed(), [Random("item", on=["x"], parent="user", prior=Prior(0.5, 0.1))], {"refresh_every": 11}),
    "refreshed": (Fixed("x"), [Random("user", on=["tags", "text"], rank=2)], {"refresh_every": 9, "mode": "minibatch"}),
    "loadings": (Fixed("x"), [Random("user", on=["tags"]), Loadings("item", of="user")], {"refresh_every": 17}),
}  # fmt: skip


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """An "auto" posterior goes from full to low-rank to diagonal within a few levels, and priors learn from few."""
    monkeypatch.setattr(_state, "FULL_RANDOM", 5)
    monkeypatch.setattr(_state, "LOWRANK_MOST", 9)
    monkeypatch.setattr(_stream, "LEAST", 3)


def stream(seed: int, n: int) -> dict[str, Any]:
    """Rows whose users, items, words and tags keep appearing; some weigh nothing."""
    rng = np.random.default_rng(seed)
    reach = 1 + np.arange(n) // 3
    return {
        "user": [f"u{int(k)}" for k in rng.integers(0, reach)],
        "item": rng.integers(0, reach),
        "x": np.where(np.arange(n) < n // 4, np.nan, rng.normal(size=n)),
        "text": [f"word{int(k)}" for k in rng.integers(0, reach)],
        "tags": ["|".join({f"t{int(k % 9)}", f"t{int(k % 4)}"}) for k in rng.integers(0, reach)],
        "y": rng.integers(0, 2, n),
        "t": np.sort(rng.uniform(0, 1e5, n)),
        "w": rng.choice([0.0, 1.0, 2.0], n),
    }


def part(table: dict[str, Any], start: int, stop: int) -> dict[str, Any]:
    return {name: column[start:stop] for name, column in table.items()}


def same(one: GLMix, two: GLMix) -> None:
    """Bit for bit: posteriors, beliefs, vocabulary."""
    assert one.encoder.extent() == two.encoder.extent()
    assert one.encoder.slot_names == two.encoder.slot_names
    assert one.encoder.slot_columns == two.encoder.slot_columns
    assert one.events_learned == two.events_learned
    for key in one.encoder.keys:
        assert dict(one.encoder.entity_codes(key)) == dict(two.encoder.entity_codes(key))
    for a, b in zip(one.blocks, two.blocks, strict=True):
        for name in ("kind", "kmax", "d", "entities", "slots", "columns", "known_slots", "dtype"):
            assert getattr(a, name) == getattr(b, name), (a.name, name)
        assert (a.belief.prior, a.belief.forgetting) == (b.belief.prior, b.belief.forgetting)
        for old, new in ((a.belief.mean, b.belief.mean), (a.belief.covariance, b.belief.covariance)):
            assert (old is None) == (new is None)
            assert old is None or old.tobytes() == new.tobytes()
        for name in ("mean", "cov", "last", "counts"):
            old, new = getattr(a, name)[: a.entities], getattr(b, name)[: b.entities]
            assert (old.dtype, old.shape) == (new.dtype, new.shape)
            assert np.array_equal(old, new, equal_nan=True), (a.name, name)
            assert old.tobytes() == new.tobytes(), (a.name, name)


def tick(learner: GLMix, table: dict[str, Any], mark: Mark, parts: int = 1) -> Delta:
    """Learn a table, in some designs, and say what changed."""
    n = len(table["y"])
    cuts = [n * k // parts for k in range(parts + 1)]
    touched = []
    for start, stop in pairwise(cuts):
        design, _ = learner.design(part(table, start, stop), learn=True)
        learner.partial_fit(design)
        touched.append(touched_by(design, learner.blocks))
    return Delta.of(learner, union(*touched), mark)


class Disk:
    """Tables as a store keeps them: the last value of every key."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[bytes, bytes]] = {}

    def commit(self, delta: Delta) -> None:
        for name, rows in dump_delta(delta).items():
            self.tables.setdefault(name, {}).update((bytes(key), bytes(value)) for key, value in rows.items())

    def restore(self, base: GLMix) -> GLMix:
        sorted_tables = {name: dict(sorted(rows.items())) for name, rows in self.tables.items()}
        replica = base.replica()
        parse_delta(sorted_tables, base).apply(replica)
        return replica


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(1, 59), max_size=6), parts=st.integers(1, 3))
def test_a_replica_and_a_restored_model_have_the_learners_bits(
    name: str, seed: int, cuts: list[int], parts: int
) -> None:
    """Replica == learner after every tick; base + stored rows == never stopped; at any cut of the stream."""
    fixed, random, options = MODELS[name]
    table = stream(seed, 60)
    ends = [0, *sorted(set(cuts)), 60]
    learner = GLMix(SCHEMA, fixed, random, **options)
    learner.partial_fit(part(table, 0, ends[1]))  # the base version has learned, too
    base, replica, mark, disk = learner.replica(), learner.replica(), Mark.of(learner), Disk()
    for start, stop in pairwise(ends[1:]):
        before = replica.encoder.n_slots
        delta = tick(learner, part(table, start, stop), mark, parts)
        assert replica.encoder.n_slots == before  # growth of the learner is not half visible
        mark = Mark.of(learner)
        delta.apply(replica)
        same(learner, replica)
        disk.commit(delta)
        restored = disk.restore(base)
        same(learner, restored)
    assert replica.decision_function(stream(seed + 1, 20)).tobytes() == learner.decision_function(
        stream(seed + 1, 20)
    ).tobytes()  # fmt: skip
    if len(ends) > 2:
        # And both go on alike.
        for model in (learner, restored):
            model.partial_fit(stream(seed + 2, 12))
        same(learner, restored)


def test_the_streams_above_change_kinds_beliefs_and_dimensions() -> None:
    """The property is not about nothing: "auto" ends diagonal by way of low rank, "refreshed" changes beliefs."""
    learner = GLMix(SCHEMA, *MODELS["auto"][:2])
    kinds, table = set(), stream(3, 60)
    for start in range(60):
        learner.partial_fit(part(table, start, start + 1))
        kinds.add(learner.block("user").kind)
    assert {FULL, LOWRANK, DIAGONAL} == kinds
    learner = GLMix(SCHEMA, *MODELS["refreshed"][:2], **MODELS["refreshed"][2])
    before = learner.block("user").belief
    learner.partial_fit(table)
    assert learner.block("user").belief is not before


def test_only_touched_rows_travel() -> None:
    learner = GLMix(SCHEMA, Fixed(), [Random("user")])
    learner.partial_fit(stream(0, 60))
    mark = Mark.of(learner)
    delta = tick(learner, part(stream(0, 60), 0, 1), mark)
    assert [(b.name, [r.codes.tolist() for r in b.rows], b.whole) for b in delta.blocks] == [
        ("fixed", [[0]], False), ("user", [[0]], False),
    ]  # fmt: skip
    assert delta.rows == 2
    assert not delta.growth.slots
    learner.partial_fit(part(stream(0, 60), 0, 1))
    assert delta.blocks[1].rows[0].counts[0] == learner.block("user").counts[0] - 1  # a copy, not a view


def test_an_empty_tick_changes_nothing() -> None:
    learner = GLMix(SCHEMA, Fixed("x"), [Random("user")])
    learner.partial_fit(stream(0, 20))
    replica = learner.replica()
    delta = Delta.of(learner, {}, Mark.of(learner))
    assert delta.rows == 0
    delta.apply(replica)
    same(learner, replica)


def test_a_delta_is_applied_in_order_and_once() -> None:
    learner = GLMix(SCHEMA, Fixed("tags"), [Random("user")])
    replica, mark = learner.replica(), Mark.of(learner)
    first = tick(learner, part(stream(0, 60), 0, 20), mark)
    second = tick(learner, part(stream(0, 60), 20, 60), Mark.of(learner))
    with pytest.raises(StateError, match="apply deltas in their order"):
        second.apply(replica)
    same(replica, GLMix(SCHEMA, Fixed("tags"), [Random("user")]))
    first.apply(replica)
    with pytest.raises(StateError, match="apply deltas in their order"):
        first.apply(replica)
    second.apply(replica)
    same(learner, replica)


def test_a_delta_of_another_model_is_refused() -> None:
    learner = GLMix(SCHEMA, Fixed("tags"), [Random("user")])
    delta = tick(learner, stream(0, 9), Mark.of(learner))
    with pytest.raises(StateError, match="does not fit"):
        delta.apply(GLMix(SCHEMA, Fixed("tags"), [Random("item")]))


def test_a_damaged_row_is_refused_and_named() -> None:
    learner = GLMix(SCHEMA, Fixed("tags"), [Random("user")])
    base, disk = learner.replica(), Disk()
    disk.commit(tick(learner, stream(0, 30), Mark.of(learner)))
    rows = disk.tables["rows"]
    key = sorted(rows)[3]
    good = rows[key]
    for bad in (good[:-8], good + b"12345678", good[:10], b"\xff" * len(good)):
        rows[key] = bad
        with pytest.raises(StateError, match=r"stored row.*user"):
            disk.restore(base)
    rows[key] = good
    same(disk.restore(base), learner)


def test_vocabulary_of_every_family_survives() -> None:
    schema = Schema(label="y", columns={"v": Hashed(bits=8), "big": Numeric()})
    learner = GLMix(schema, Fixed("v", "big", "flag"), [Random(("n", "flag"), on=["big"], name="pair")])
    base, disk, mark = learner.replica(), Disk(), Mark.of(learner)
    tables: list[dict[str, Any]] = [
        {"n": [2**63 - 1, -5], "flag": [True, False], "big": [None, None], "v": ["ü", None], "y": [0, 1]},
        {"n": [2**63 - 1, 7], "flag": [True, True], "big": [3.0, 5.0], "v": ["ü", "\x00"], "y": [0, 1]},
    ]
    for table in tables:
        disk.commit(tick(learner, table, mark))
        mark = Mark.of(learner)
        same(disk.restore(base), learner)
