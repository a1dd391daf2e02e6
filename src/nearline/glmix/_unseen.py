"""What a feature without a coefficient adds to a score: its prior, N(μ0 x, σ0² x²), for every effect that selects it.

A level that nothing was learned from has no slot in the model and no dimension in any block (`Design.without_slot`).
It scores as it would once it had one: at the prior by column of every block, independent of all else. Loadings act on
dimensions that exist, and so not on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from nearline.features import Design, Unseen
from nearline.glmix._state import Block

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def priors(block: Block, unseen: Unseen) -> tuple[Ints, Floats, Floats]:
    """Which entries a block has a coefficient for, and its prior mean and variance on each of those."""
    selected = np.array([block.selects(column) for column in unseen.columns], dtype=np.bool_)
    prior = block.belief.prior
    mean = np.array([prior.mean_of(column) for column in unseen.columns])
    variance = np.array([prior.variance_of(column) for column in unseen.columns])
    chosen = np.flatnonzero(selected[unseen.levels])
    return chosen, mean[unseen.levels[chosen]], variance[unseen.levels[chosen]]


def add(blocks: Sequence[Block], design: Design, z: Floats, s: Floats) -> None:
    """Add to margins z and their variances s (n each), in place."""
    unseen = design.without_slot
    if unseen is None:
        return
    for block in blocks:
        chosen, mean, variance = priors(block, unseen)
        rows, x = unseen.rows[chosen], unseen.values[chosen]
        z += np.bincount(rows, x * mean, design.rows)
        s += np.bincount(rows, x * x * variance, design.rows)


def add_draws(
    block: Block, which: Ints, design: Design, scale: float, rng: np.random.Generator, z: Floats
) -> None:  # fmt: skip
    """Add to drawn scores z (size, n), in place: one draw per entity and level, `which` naming the row's entity."""
    unseen = design.without_slot
    if unseen is None:
        return
    chosen, mean, variance = priors(block, unseen)
    rows, levels = unseen.rows[chosen], unseen.levels[chosen]
    coefficients, of = np.unique(which[rows] * len(unseen.columns) + levels, return_inverse=True)
    xi = rng.standard_normal((len(z), len(coefficients)))[:, of]
    terms = unseen.values[chosen] * (mean + np.sqrt(scale * variance) * xi)
    for total, drawn in zip(z, terms):
        total += np.bincount(rows, drawn, design.rows)


def contributions(block: Block, design: Design) -> Iterator[tuple[str, float, float, float]]:
    """(name, value, contribution, sd) of every entry of a one-row design that the block has a coefficient for."""
    unseen = design.without_slot
    if unseen is None:
        return
    chosen, mean, variance = priors(block, unseen)
    for place, m, v in zip(chosen.tolist(), mean.tolist(), variance.tolist()):
        x = float(unseen.values[place])
        yield unseen.names[unseen.levels[place]], x, x * m, abs(x) * float(np.sqrt(v))
