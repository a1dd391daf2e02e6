"""The same blocks for the event kernels and for their NumPy twin, in many scenarios, and events for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearline.glmix._codes import DIAGONAL, PER_UPDATE, REVERTING, STABILISED
from nearline.glmix._kernels import _event, _score
from nearline.glmix._kernels._records import Blocks, Rows
from nearline.glmix._links import by_name
from nearline.glmix._oracle import Event, Twin
from nearline.glmix._packed import pack, unpack

Floats = NDArray[np.float64]


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


def close(actual: Any, expected: Any, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)
