"""Which rows and features a block learns from: down-sampled negatives, entities by their rows, features by correlation.

Every draw is a hash of the seed and of the row's place in history: the same history gives the same rows, and a history
that grows at its end keeps the draws of the rows it had.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nearline._errors import ConfigError
from nearline.glmix._block import Grouping, LocalDesign
from nearline.glmix._fit._settings import FixedFit, RandomFit

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def draws(rows: int, seed: int) -> Floats:
    """A number in [0, 1) for every row (n): SplitMix64 of its place and the seed.

    Examples
    --------
    >>> bool((draws(5, seed=1)[:3] == draws(3, seed=1)).all()), bool((draws(3, seed=2) == draws(3, seed=1)).any())
    (True, False)
    """
    step = (0x9E3779B97F4A7C15 * (2 * seed + 1)) % 2**64
    z = (np.arange(1, rows + 1, dtype=np.uint64)) * np.uint64(step)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def fewer_negatives(label: Floats, weight: Floats, settings: FixedFit) -> Floats:
    """Weights (n) with rows of label 0 kept at rate ρ and weighted by 1/ρ, the others as they were.

    Examples
    --------
    >>> w = fewer_negatives(np.array([1.0, 0.0, 0.0, 0.0]), np.ones(4), FixedFit(negatives=0.5))
    >>> float(w[0]), sorted(set(w[1:].tolist()))
    (1.0, [0.0, 2.0])
    """
    if settings.negatives == 1.0:
        return weight
    kept = draws(len(label), settings.seed) < settings.negatives
    return np.where(label > 0.0, weight, np.where(kept, weight / settings.negatives, 0.0))


def enough_rows(grouping: Grouping, least: int) -> tuple[Grouping, Ints]:
    """The entities with at least so many rows, and the state rows of the others."""
    enough = np.diff(grouping.ptr) >= least
    if enough.all():
        return grouping, np.zeros(0, np.int64)
    return _some(grouping, np.repeat(enough, np.diff(grouping.ptr)), enough), grouping.codes[~enough]


def reservoir(grouping: Grouping, weight: Floats, settings: RandomFit) -> tuple[Grouping, Floats]:
    """At most `most_rows` rows of each entity, those of the smallest hashes, and weights (n) that keep its total.

        w_n ← w_n Σ_all w / Σ_kept w,    0 for a row left out

    Examples
    --------
    >>> three = Grouping(np.array([0]), np.array([0, 3]), np.arange(3), np.zeros(0, np.int64))
    >>> kept, w = reservoir(three, np.array([1.0, 2.0, 3.0]), RandomFit(most_rows=2))
    >>> len(kept.order), round(float(w.sum()), 9)
    (2, 6.0)
    """
    sizes, most = np.diff(grouping.ptr), settings.most_rows
    if most is None or not (sizes > most).any():
        return grouping, weight
    entity = np.repeat(np.arange(len(sizes)), sizes)
    by_hash = np.lexsort((draws(len(weight), settings.seed)[grouping.order], entity))
    kept = np.empty(len(entity), np.bool_)
    kept[by_hash] = np.arange(len(entity)) - grouping.ptr[entity] < most
    given = weight[grouping.order]
    share = np.bincount(entity, given) / np.bincount(entity, given * kept, minlength=len(sizes))
    out = weight.copy()
    out[grouping.order] = np.where(kept, given * np.where(sizes > most, share, 1.0)[entity], 0.0)
    return _some(grouping, kept, np.ones(len(sizes), np.bool_)), out


def _some(grouping: Grouping, kept: NDArray[np.bool_], entities: NDArray[np.bool_]) -> Grouping:
    """The grouping of some of its rows and entities."""
    entity = np.repeat(np.arange(len(entities)), np.diff(grouping.ptr))
    counts = np.bincount(entity[kept], minlength=len(entities))[entities]
    ptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Grouping(grouping.codes[entities], ptr, grouping.order[kept], grouping.unassigned)


def fewer_features(
    design: LocalDesign, grouping: Grouping, label: Floats, weight: Floats, ratio: float, intercept: int, mu0: Floats
) -> tuple[LocalDesign, Floats]:
    """A design with zeros for the features that entities give up, and what those add to each score (n) at the prior.

    Entity e keeps ⌈ratio · n_e⌉ features beside dimension `intercept` (−1 for none).
    """
    from nearline.glmix._kernels._csr import correlated, row_terms

    kept, d = np.ones(len(design.values), np.bool_), len(mu0)
    most = np.ceil(ratio * np.diff(grouping.ptr)).astype(np.int64)
    correlated(
        design.indptr, design.indices, design.values, grouping.ptr, grouping.order, label, weight, most, intercept,
        np.zeros((d, 4)), np.zeros(d, np.int64), kept,
    )  # fmt: skip
    given_up = np.empty(len(design))
    dropped = np.where(kept, 0.0, design.values)
    row_terms(design.indptr, design.indices, dropped, np.zeros(len(design), np.int32), mu0[None, :], given_up)
    return LocalDesign(design.indptr, design.indices, np.where(kept, design.values, 0.0)), given_up


def check(settings: RandomFit, name: str, independent: bool) -> None:
    """Refuse a cap on features where coefficients that are given up would still move with the others."""
    if settings.features_per_row is not None and not independent:
        raise ConfigError(
            f"RandomFit(features_per_row=...) of {name!r} needs independent coefficients, and its learned prior has a "
            "covariance; learn it with structure='diagonal'"
        )
