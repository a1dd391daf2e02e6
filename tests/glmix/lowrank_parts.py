"""One entity driven through the low-rank kernels, and rows for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from nearline.glmix import _lowrank
from nearline.glmix._kernels import _lowrank as kernels
from nearline.glmix._kernels import _lowrank_minibatch as minibatch
from nearline.glmix._lowrank import LowRank

Floats = NDArray[np.float64]
LINKS = {"logit": 0, "identity": 1, "log": 2}
seeds = st.integers(0, 2**32 - 1)


@dataclass
class Entity:
    """One entity driven through the kernels, as the event loop drives it."""

    d: int
    kmax: int
    rank: int
    prior: Floats
    dtype: Any = np.float64
    mean: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.row = np.zeros(_lowrank.row_size(self.d, self.kmax), self.dtype)
        # Scratch may hold anything: NaN would show a read before a write.
        self.scratch = np.full(_lowrank.scratch_size(self.d, self.kmax), np.nan)
        self.mean = np.zeros(self.d)
        kernels.start(self.row, self.d, self.kmax, self.prior)

    def call(self, kernel: Callable[..., Any], *arguments: Any) -> Any:
        return kernel(self.row, self.d, self.kmax, *arguments, self.scratch)

    def append(self, idx: NDArray[np.int64], val: Floats, weight: float) -> None:
        self.call(kernels.append, self.rank, idx, val, len(idx), weight)

    def solve(self, idx: NDArray[np.int64], val: Floats) -> tuple[float, Floats]:
        v = np.full(self.d, np.nan)
        return self.call(kernels.solve_sparse, idx, val, len(idx), v), v

    def learn(self, idx: NDArray[np.int64], val: Floats, label: float) -> float:
        """One logistic event: Newton on the line μ + a S x; returns the margin as predicted."""
        s = self.call(kernels.project, idx, val, len(idx))
        z = float(val @ self.mean[idx])
        a, D = newton(z, s, label)
        self.call(kernels.shift, idx, val, len(idx), a, self.mean)
        self.append(idx, val, kernels.block_weight(D, s, s))
        return z

    @property
    def posterior(self) -> LowRank:
        return _lowrank.unpack(self.row, self.d, self.kmax)


def newton(z: float, s: float, label: float) -> tuple[float, float]:
    """(a, D) of η = z − s g(η) for the logistic loss."""
    eta = z
    for _ in range(60):
        p = 1 / (1 + np.exp(-eta))
        eta -= (eta - z + s * (p - label)) / (1 + s * p * (1 - p))
    p = 1 / (1 + np.exp(-eta))
    return label - p, p * (1 - p)


def sparse(rng: np.random.Generator, d: int, nnz: int) -> tuple[NDArray[np.int64], Floats]:
    return rng.choice(d, nnz, replace=False), rng.normal(size=nnz)


def dense(d: int, idx: NDArray[np.int64], val: Floats) -> Floats:
    x = np.zeros(d)
    np.add.at(x, idx, val)
    return x


def entity(seed: int, events: int, d: int = 12, kmax: int = 6, rank: int = 3, dtype: Any = np.float64) -> Entity:
    rng = np.random.default_rng(seed)
    e = Entity(d, kmax, rank, rng.uniform(0.5, 4.0, d), dtype)
    for _ in range(events):
        e.append(*sparse(rng, d, 4), rng.uniform(0.05, 2.0))
    return e


def random_rows(rng: np.random.Generator, n: int, d: int, link: str) -> tuple[Any, ...]:
    nnz = rng.integers(0, 6, n)
    indptr = np.concatenate([[0], np.cumsum(nnz)])
    idx = np.concatenate([np.zeros(0, np.int64), *(rng.choice(d, m, replace=False) for m in nnz)])
    labels = {"logit": rng.integers(0, 2, n), "identity": rng.normal(size=n), "log": rng.poisson(1.5, n)}
    weight = rng.uniform(0.2, 3.0, n) * (rng.random(n) > 0.1)
    return indptr, idx, rng.normal(size=idx.size), labels[link].astype(float), weight, rng.normal(size=n)


def learn_rows(e: Entity, link: str, rows: tuple[Any, ...]) -> tuple[int, int, float]:
    indptr, idx, val, y, w, o = rows
    scratch = np.full(_lowrank.scratch_size(e.d, e.kmax, len(y)), np.nan)
    result: tuple[int, int, float] = minibatch.solve_minibatch(
        LINKS[link], e.row, e.d, e.kmax, e.rank, e.mean, indptr, idx, val, y, w, o, scratch
    )
    return result
