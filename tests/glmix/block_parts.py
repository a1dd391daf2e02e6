"""Rows of several entities with their states: the compiled update of them, and the oracle's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearline.glmix import _solve
from nearline.glmix._block import BlockResult, LocalDesign, update_block
from nearline.glmix._links import by_name
from nearline.glmix._packed import pack
from nearline.glmix._solve import solve

Floats = NDArray[np.float64]
LINKS = ("logit", "identity", "log")


@dataclass
class Problem:
    """Rows of several entities, and their states."""

    X: Floats
    y: Floats
    w: Floats
    offset: Floats
    codes: NDArray[np.int32]
    mean: Floats
    V: Floats
    link: str

    @classmethod
    def random(cls, seed: int, link: str, d: int, rows: list[int], zeros: float = 0.2, scale: float = 1.0) -> Problem:
        """rows[e] rows for entity e, in shuffled order."""
        rng = np.random.default_rng(seed)
        n = sum(rows)
        codes = rng.permutation(np.repeat(np.arange(len(rows), dtype=np.int32), rows))
        X = rng.normal(size=(n, d)) * (rng.random((n, d)) >= zeros) * scale
        y = {"logit": rng.random(n) < 0.5, "identity": rng.normal(size=n), "log": rng.poisson(1.0, n)}[link]
        A = rng.normal(size=(len(rows), d, d + 2))
        V = A @ A.transpose(0, 2, 1) / d + 0.05 * np.eye(d)
        w = rng.choice([0.0, 0.5, 1.0, 3.0], n, p=[0.1, 0.3, 0.4, 0.2])
        mean = 0.5 * rng.normal(size=(len(rows), d))
        return cls(X, y * 1.0, w, 0.5 * rng.normal(size=n), codes, mean, V, link)

    def design(self, sparse: bool) -> LocalDesign:
        """CSR where `sparse`: without zeros, each row's entries reversed, the first of them in two halves."""
        if not sparse:
            return LocalDesign.dense(self.X)
        indices, values, indptr = [], [], [0]
        for row in self.X:
            used = np.flatnonzero(row)[::-1]
            indices += [*used, *used[:1]]
            values += [*(row[used[:1]] / 2), *row[used[1:]], *(row[used[:1]] / 2)]
            indptr.append(len(indices))
        return LocalDesign(np.array(indptr, np.int64), np.array(indices, np.int32), np.array(values, np.float64))

    def state(self, diagonal: bool, dtype: str = "float64") -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        cov = np.diagonal(self.V, axis1=1, axis2=2) if diagonal else pack(self.V)
        return self.mean.astype(dtype), np.array(cov, dtype=dtype, order="C")

    def update(
        self, mean: NDArray[np.floating], cov: NDArray[np.floating], sparse: bool = False, threads: int = 1
    ) -> BlockResult:
        return update_block(
            self.codes,
            self.design(sparse),
            self.y,
            self.w,
            self.offset,
            mean,
            cov,
            link=by_name(self.link),
            threads=threads,
        )

    def oracle(self, e: int, diagonal: bool) -> _solve.Solution:
        r = self.codes == e
        V = np.diag(np.diag(self.V[e])) if diagonal else self.V[e]
        return solve(
            self.X[r], self.y[r], self.w[r], self.offset[r], self.mean[e], np.linalg.inv(V), by_name(self.link)
        )
