"""The event and scoring kernels against their NumPy twin and exact answers (docs/architecture.md, "The update")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nearline._errors import StateError
from nearline.glmix import _oracle
from nearline.glmix._codes import DIAGONAL, FULL, NEVER, PER_UPDATE, REVERTING, STABILISED
from nearline.glmix._kernels import _event, _score
from nearline.glmix._kernels._records import Blocks, Rows
from nearline.glmix._links import by_name
from nearline.glmix._oracle import Event, Twin
from nearline.glmix._packed import pack, unpack

Floats = NDArray[np.float64]
LINKS = ("logit", "identity", "log")
SLOTS = 14


@dataclass
class Model:
    """The same blocks as a list of twins, in the layout of the kernels."""

    twins: Sequence[Twin]
    link: str = "logit"
    dtype: Any = np.float64

    def __post_init__(self) -> None:
        priors = [self.stored(b, b.V0) for b in self.twins]
        self.mean = [np.tile(b.mu0.astype(self.dtype), (b.entities, 1)) for b in self.twins]
        self.cov = [np.tile(p, (b.entities, 1)) for b, p in zip(self.twins, priors)]
        self.last = [np.full(b.entities, np.nan) for b in self.twins]
        self.count = [np.zeros(b.entities, np.int32) for b in self.twins]
        of = [b.of for b in self.twins]
        self.blocks = Blocks(
            local=np.stack([_local(b) for b in self.twins]),
            d=np.array([len(b.mu0) for b in self.twins]),
            size=np.array([len(p) for p in priors]),
            kinds=np.array([b.kind for b in self.twins]),
            of=np.array(of),
            loaded=np.array([r in of for r in range(len(of))]),
            forms=np.array([b.form for b in self.twins]),
            rates=np.array([b.rate for b in self.twins], dtype=np.float64),
            walks=np.array([bool(b.walk_event.any() or b.walk_second.any()) for b in self.twins]),
            mean_at=_addresses(self.mean),
            cov_at=_addresses(self.cov),
            last_at=_addresses(self.last),
            count_at=_addresses(self.count),
            mu0=_padded([b.mu0 for b in self.twins], self.dtype),
            cov0=_padded(priors, self.dtype),
            walk_event=_padded([b.walk_event for b in self.twins], np.float64),
            walk_second=_padded([b.walk_second for b in self.twins], np.float64),
            like=np.empty(0, self.dtype),
        )

    def stored(self, block: Twin, V: Floats) -> NDArray[Any]:
        """A covariance as the block stores it."""
        return (np.diag(V) if block.kind == DIAGONAL else pack(V)).astype(self.dtype)

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        return len(self.twins), self.blocks.mu0.shape[1], self.blocks.cov0.shape[1], SLOTS

    def replay(
        self, events: Sequence[Event], stops: Sequence[int] | None = None, variances: bool = True
    ) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """(z, s, refused) of the events, learned one by one or in chunks up to each of `stops`."""
        n = len(events)
        z, s, refused = np.full(n, np.nan), np.full(n, np.nan), np.zeros(n, np.bool_)
        ends = np.arange(1, n + 1) if stops is None else np.array(stops)
        _event.replay(by_name(self.link).code, rows_of(events), self.blocks, ends, self.sizes, variances, z, s, refused)
        return z, s, refused

    def score(self, events: Sequence[Event], parts: int = 1, variances: bool = True) -> tuple[Floats, Floats]:
        z, s = np.full(len(events), np.nan), np.full(len(events), np.nan)
        _score.score(rows_of(events), self.blocks, self.sizes, parts, variances, z, s)
        return z, s

    def state(self) -> list[bytes]:
        """Every bit of every posterior."""
        return [a.tobytes() for arrays in (self.mean, self.cov, self.last, self.count) for a in arrays]

    def dense(self, r: int) -> Floats:
        """The covariances (entities, d, d) of block r."""
        rows = [row.astype(np.float64) for row in self.cov[r]]
        return np.stack([np.diag(row) if self.twins[r].kind == DIAGONAL else unpack(row) for row in rows])


def _local(block: Twin) -> NDArray[np.int32]:
    local = np.full(SLOTS, -1, np.int32)
    local[block.slots] = np.arange(len(block.slots), dtype=np.int32)
    return local


def _addresses(arrays: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    return np.array([a.ctypes.data for a in arrays])


def _padded(vectors: Sequence[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    out = np.zeros((len(vectors), max(len(v) for v in vectors)), dtype)
    for row, vector in zip(out, vectors):
        row[: len(vector)] = vector
    return out


def rows_of(events: Sequence[Event]) -> Rows:
    """Events as rows; a feature of value 0 is not stored."""
    used = [np.flatnonzero(event.x) for event in events]
    return Rows(
        np.cumsum([0, *map(len, used)]),
        np.concatenate(used).astype(np.int32),
        np.concatenate([event.x[u] for event, u in zip(events, used)]),
        np.array([event.entities for event in events], np.int32).T.copy(),
        *(np.array([getattr(event, name) for event in events]) for name in ("label", "weight", "offset", "time")),
    )


def random_prior(rng: np.random.Generator, d: int) -> Floats:
    root = rng.normal(size=(d, d)) / d
    return root @ root.T + np.diag(rng.uniform(0.2, 0.6, d))


def random_twin(rng: np.random.Generator, d: int, entities: int, **options: Any) -> Twin:
    V0 = random_prior(rng, d)
    if options.get("kind") == DIAGONAL:
        V0 = np.diag(np.diag(V0))
    slots = rng.choice(SLOTS, 0 if options.get("of", -1) >= 0 else d, replace=False)
    return Twin(slots, rng.normal(size=d) * 0.2, V0, entities, **options)


def walking(rng: np.random.Generator, d: int) -> dict[str, Floats]:
    """Random-walk noise on about half of the dimensions."""
    on = rng.random(d) < 0.5
    return {"walk_event": on * rng.uniform(0.0, 0.02, d), "walk_second": on * rng.uniform(0.0, 0.001, d)}


SCENARIOS: dict[str, Callable[[np.random.Generator], list[Twin]]] = {
    "one block": lambda rng: [random_twin(rng, 9, 1)],
    "three blocks": lambda rng: [random_twin(rng, 14, 1), random_twin(rng, 6, 4), random_twin(rng, 3, 3)],
    "loadings": lambda rng: [
        random_twin(rng, 13, 1), random_twin(rng, 11, 4), random_twin(rng, 4, 3), random_twin(rng, 11, 3, of=1),
    ],
    "diagonal": lambda rng: [
        random_twin(rng, 8, 1, kind=DIAGONAL), random_twin(rng, 5, 4, kind=DIAGONAL, **walking(rng, 5)),
        random_twin(rng, 5, 3, of=1), random_twin(rng, 5, 2, of=1, kind=DIAGONAL),
    ],
    "reverting": lambda rng: [random_twin(rng, 9, 1), random_twin(rng, 7, 4, form=REVERTING, rate=40.0)],
    "stabilised": lambda rng: [
        random_twin(rng, 9, 1, form=STABILISED, rate=90.0),
        random_twin(rng, 5, 4, form=STABILISED, rate=40.0, kind=DIAGONAL),
    ],
    "per update": lambda rng: [
        random_twin(rng, 9, 1, form=PER_UPDATE, rate=0.97), random_twin(rng, 4, 4, form=PER_UPDATE, rate=1.0),
        random_twin(rng, 5, 4, form=PER_UPDATE, rate=0.8, kind=DIAGONAL),
    ],
    "walks": lambda rng: [random_twin(rng, 14, 1, **walking(rng, 14)), random_twin(rng, 7, 4, **walking(rng, 7))],
    "everything": lambda rng: [
        random_twin(rng, 14, 1, form=REVERTING, rate=300.0, **walking(rng, 14)),
        random_twin(rng, 10, 4, form=STABILISED, rate=50.0, **walking(rng, 10)),
        random_twin(rng, 4, 3, kind=DIAGONAL, form=REVERTING, rate=20.0, **walking(rng, 4)),
        random_twin(rng, 10, 3, of=1, form=PER_UPDATE, rate=0.95, **walking(rng, 10)),
    ],
}  # fmt: skip


def labels(rng: np.random.Generator, link: str, n: int) -> Floats:
    if link == "identity":
        return rng.normal(size=n)
    return rng.integers(0, 2 if link == "logit" else 6, n).astype(np.float64)


def random_events(
    rng: np.random.Generator, blocks: Sequence[Twin], link: str, n: int = 60, unseen: bool = True
) -> list[Event]:
    """Events of 1 to 8 features, some late, some of weight 0 and some of entities that a block does not know."""
    time = 1e9 + np.cumsum(rng.exponential(10.0, n)) - rng.choice([0.0, 30.0], n, p=[0.8, 0.2])
    events = []
    for y, t in zip(labels(rng, link, n), time):
        x = np.zeros(SLOTS)
        x[rng.choice(SLOTS, rng.integers(1, 9), replace=False)] = rng.normal(size=8)[:1]
        x *= rng.uniform(0.5, 1.5, SLOTS)
        entities = tuple(int(rng.integers(-1 if unseen and b.entities > 1 else 0, b.entities)) for b in blocks)
        weight = float(rng.choice([0.0, 0.5, 1.0, 3.0]))
        events.append(Event(x, entities, float(y), weight, float(rng.normal() * 0.3), float(t)))
    return events


def drive(twins: Sequence[Twin], link: str, events: Sequence[Event], stops: Sequence[int]) -> tuple[Floats, Floats]:
    """The oracle's (z, s), predicted and then learned chunk by chunk."""
    z, s = [], []
    for start, stop in pairwise([0, *stops]):
        for event in events[start:stop]:
            margin, variance, *_ = _oracle.predict(twins, event)
            z.append(margin)
            s.append(variance)
        for event in events[start:stop]:
            if event.weight != 0.0:
                _oracle.learn(twins, by_name(link), event)
    return np.array(z), np.array(s)


def close(actual: Any, expected: Any, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def same_state(model: Model, tolerance: float = 1e-9) -> None:
    for r, twin in enumerate(model.twins):
        close(model.mean[r], twin.mean, tolerance)
        close(model.dense(r), twin.V, tolerance)
        np.testing.assert_array_equal(model.last[r], twin.last)
        np.testing.assert_array_equal(model.count[r], twin.count)


def check(scenario: str, link: str, seed: int, stops: Sequence[int] | None = None, n: int = 60) -> None:
    rng = np.random.default_rng(seed)
    twins = SCENARIOS[scenario](rng)
    model, events = Model(twins, link), random_events(rng, twins, link, n)
    z, s, refused = model.replay(events, stops)
    expected_z, expected_s = drive(twins, link, events, range(1, n + 1) if stops is None else stops)
    assert not refused.any()
    close(z, expected_z)
    close(s, expected_s)
    same_state(model)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_event_does_what_the_twin_does(scenario: str, link: str) -> None:
    """Joint update: η = z − s w g(η), μ_b −= w g S_b x_b, S_b −= c (S_b x_b)(S_b x_b)ᵀ; forgetting of section 5."""
    check(scenario, link, seed=len(scenario))


@settings(max_examples=15, deadline=None)
@given(
    scenario=st.sampled_from(sorted(SCENARIOS)), link=st.sampled_from(LINKS), seed=st.integers(0, 2**32 - 1),
    cuts=st.sets(st.integers(1, 39), max_size=8),
)  # fmt: skip
def test_a_chunk_is_predicted_before_it_is_learned(scenario: str, link: str, seed: int, cuts: set[int]) -> None:
    """Delayed updates: rows up to each stop are scored by the model as it stood at the stop before."""
    check(scenario, link, seed, [*sorted(cuts), 40], n=40)


def moments(twin: Twin, events: Sequence[Event]) -> tuple[Floats, Floats]:
    """The batch posterior of Bayesian linear regression: V = (Λ0 + XᵀWX)⁻¹, m = V (Λ0 μ0 + XᵀW(y − offset))."""
    X, w = np.array([e.x[twin.slots] for e in events]), np.array([e.weight for e in events])
    target = np.array([e.label - e.offset for e in events])
    precision = np.linalg.inv(twin.V0)
    V = np.linalg.inv(precision + X.T @ (w[:, None] * X))
    return V @ (precision @ twin.mu0 + X.T @ (w * target)), V


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), d=st.integers(1, SLOTS), n=st.integers(1, 120))
def test_one_linear_block_is_exact_bayesian_regression(seed: int, d: int, n: int) -> None:
    """Identity link, one block: event by event gives the batch posterior, in closed form."""
    rng = np.random.default_rng(seed)
    model = Model([random_twin(rng, d, 1)], "identity")
    events = random_events(rng, model.twins, "identity", n)
    model.replay(events)
    m, V = moments(model.twins[0], events)
    close(model.mean[0][0], m, 1e-8)
    close(model.dense(0)[0], V, 1e-8)


@given(seed=st.integers(0, 2**32 - 1), copies=st.integers(1, 6))
@settings(max_examples=10, deadline=None)
def test_a_linear_event_of_weight_k_is_k_events(seed: int, copies: int) -> None:
    """Identity link, one block: w = k and k copies add the same information k x xᵀ."""
    rng = np.random.default_rng(seed)
    twin = random_twin(rng, 7, 1)
    event = replace(random_events(rng, [twin], "identity", 1)[0], weight=1.0)
    once, often = Model([twin], "identity"), Model([twin], "identity")
    once.replay([replace(event, weight=float(copies))])
    often.replay([event] * copies)
    close(once.mean[0], often.mean[0])
    close(once.cov[0], often.cov[0])


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_linear_events_may_arrive_in_any_order(seed: int) -> None:
    """A late event enters with weight w 2^(−s/τ); half-lives are a semigroup, so order is nothing (section 5.3)."""
    rng = np.random.default_rng(seed)
    twin = random_twin(rng, 6, 1, form=STABILISED, rate=60.0)
    events = sorted(random_events(rng, [twin], "identity", 12), key=lambda e: e.time)
    events = [replace(e, weight=1.0) for e in events]
    straight, shuffled = Model([twin], "identity"), Model([twin], "identity")
    straight.replay(events)
    shuffled.replay([events[i] for i in rng.permutation(len(events))])
    close(shuffled.mean[0], straight.mean[0])
    close(shuffled.cov[0], straight.cov[0])
    assert straight.last == shuffled.last


GRID = {
    "logit": product((0.0, 0.3, 1.0), (1e-9, 1e-3, 0.1, 1.0, 30.0, 1e4, 1e6), (-30.0, -4.0, 0.0, 0.7, 5.0, 20.0)),
    "log": product((0.0, 1.0, 7.0, 1e4), (1e-9, 1e-3, 0.1, 1.0, 30.0, 1e4), (-30.0, -4.0, 0.0, 0.7, 5.0, 20.0)),
}


@pytest.mark.parametrize("link", GRID)
def test_the_new_margin_is_found_from_far_away(link: str) -> None:
    """η = z − s w g(η): one dimension, x = 1, so the mean after the event is η itself."""
    grid = list(GRID[link])
    twin = Twin(np.array([0]), np.zeros(1), np.eye(1), len(grid))
    model = Model([twin], link)
    x = np.zeros(SLOTS)
    x[0] = 1.0
    for e, (y, sw, z) in enumerate(grid):
        model.mean[0][e] = z
        model.replay([Event(x, (e,), y, sw)])
        eta = _oracle.solve(by_name(link), y, sw, z)
        # A margin is known no better than s w g is: g = p − y loses the digits of y.
        slack = 1e-9 + 8 * np.finfo(float).eps * sw * max(1.0, y)
        close(model.mean[0][e, 0], eta, slack)


def test_a_log_margin_that_overflows_is_brought_down_or_refused() -> None:
    """Learning y = 0 at z = 800 has a finite root, although e^z is not finite; at infinite z there is none."""
    twin = Twin(np.array([0]), np.zeros(1), np.eye(1), 2)
    model = Model([twin], "log")
    model.mean[0][:] = [[800.0], [np.inf]]
    x = np.zeros(SLOTS)
    x[0] = 1.0
    _, _, refused = model.replay([Event(x, (0,), 0.0), Event(x, (1,), 0.0)])
    assert refused.tolist() == [False, True]
    eta = model.mean[0][0, 0]
    close(eta + np.exp(eta), 800.0)


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


def test_a_walk_never_exceeds_the_prior_variance() -> None:
    """Random-walk noise is capped: S_jj ≤ V0_jj, and an entity left alone ends up there."""
    rng = np.random.default_rng(10)
    twin = random_twin(rng, 6, 1, walk_event=np.full(6, 0.05), walk_second=np.full(6, 1e-4))
    model = Model([twin], "logit")
    events = random_events(rng, [twin], "logit", 200)
    model.replay(events)
    assert (np.diagonal(model.dense(0)[0]) <= np.diag(twin.V0) * (1 + 1e-12)).all()
    for j, slot in enumerate(twin.slots):
        x = np.eye(SLOTS)[slot]
        _, s = model.score([Event(x, (0,), time=events[-1].time + 1e9)])
        close(s, twin.V0[j, j])


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


def test_the_codes_of_the_twin_are_the_kernels() -> None:
    """One definition: what a block stores is read the same by both."""
    assert len({FULL, DIAGONAL}) == 2
    assert len({NEVER, REVERTING, STABILISED, PER_UPDATE}) == 4
