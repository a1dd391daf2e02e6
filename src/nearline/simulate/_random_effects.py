"""The random-effects simulation that the reference measurements are made on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline._errors import ConfigError
from nearline.simulate._truth import sigmoid

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RandomEffects:
    """Mini-batches of logistic data for many entities, with the coefficients that made them.

    Shapes, with B mini-batches, E entities, r rows and d coefficients (the intercept first): X (B, E, r, d),
    offset, probability and y (B, E, r), coefficients (B, E, d).
    """

    X: Floats
    offset: Floats
    y: NDArray[np.int8]
    probability: Floats
    coefficients: Floats

    def table(self, batch: int) -> pa.Table:
        """Mini-batch as a table: entity, x1 … x{d−1}, offset, y, true_probability; sorted by entity."""
        _, entities, rows, d = self.X.shape
        flat = self.X[batch].reshape(-1, d)
        columns = {"entity": np.repeat(np.arange(entities, dtype=np.int64), rows)}
        columns |= {f"x{j}": flat[:, j].copy() for j in range(1, d)}
        columns |= {"offset": self.offset[batch].ravel(), "y": self.y[batch].ravel()}
        return pa.table(columns | {"true_probability": self.probability[batch].ravel()})


def random_effects(
    seed: int,
    rho: float = 0.0,
    drift: bool = False,
    entities: int = 600,
    batches: int = 25,
    rows: int = 20,
    features: int = 9,
    size: float = 0.7,
    keep: float = 0.96,
) -> RandomEffects:
    """Logistic mini-batches, y ~ Bernoulli(σ(xᵀβ_e + o)), with one coefficient vector per entity.

    x = (1, u), u ~ N(0, (1 − ρ) I + ρ 11ᵀ); β_e ~ N(0, size² I); o ~ N(−1, 1). With `drift`, before each mini-batch but
    the first, β ← √keep β + √(1 − keep) size N(0, I), which leaves its distribution as it is; the defaults give √.96 β
    + .14 N(0, I).
    Raises `ConfigError` for rho outside [0, 1] or keep outside [0, 1].

    >>> data = random_effects(seed=0, rho=0.5, entities=3, batches=2)
    >>> data.X.shape, data.y.shape, data.coefficients.shape
    ((2, 3, 20, 10), (2, 3, 20), (2, 3, 10))
    """
    if not (0 <= rho <= 1 and 0 <= keep <= 1):
        raise ConfigError(f"random_effects needs rho and keep in [0, 1]; got {rho}, {keep}")
    rng = np.random.default_rng(seed)
    beta = _walk(rng, (batches, entities, features + 1), size, keep if drift else 1.0)
    shape = (batches, entities, rows)
    common = rng.standard_normal((*shape, 1))
    u = np.sqrt(1 - rho) * rng.standard_normal((*shape, features)) + np.sqrt(rho) * common
    X = np.concatenate([np.ones((*shape, 1)), u], axis=-1)
    offset = rng.normal(-1.0, 1.0, shape)
    p = sigmoid(np.einsum("berd,bed->ber", X, beta) + offset)
    return RandomEffects(X, offset, (rng.random(shape) < p).astype(np.int8), p, beta)


def _walk(rng: np.random.Generator, shape: tuple[int, int, int], size: float, keep: float) -> Floats:
    beta = size * rng.standard_normal(shape)
    for k in range(1, len(beta)):
        beta[k] = np.sqrt(keep) * beta[k - 1] + np.sqrt(1 - keep) * beta[k]
    return beta
