"""What the posterior is used for: Thompson draws, intervals, coefficients and the explanation of a score.

All of it in NumPy, per entity, at the posterior as it has relaxed by the row's time (`Forgetting`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearline.features import Design, Encoder
from nearline.glmix import _layout, _lowrank_rows, _unseen
from nearline.glmix._codes import DIAGONAL, LOWRANK
from nearline.glmix._packed import diagonal_indices, unpack
from nearline.glmix._state import Block

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Coefficient:
    """One coefficient's posterior: its name, mean and standard deviation (from diag V, conditional on other blocks)."""

    name: str
    mean: float
    sd: float


@dataclass(frozen=True, slots=True)
class Contribution:
    """One term of a row's score, on the link scale.

    Attributes
    ----------
    effect, entity, feature
        Which block, whose vector (None for the fixed effect; "(new)" when never seen) and which feature of it.
    value
        The feature's value on this row.
    contribution, sd
        value × coefficient and its standard deviation.
    """

    effect: str
    entity: object
    feature: str
    value: float
    contribution: float
    sd: float


def normal_quantile(p: float) -> float:
    """Quantile of the standard normal.

    Examples
    --------
    >>> round(normal_quantile(0.975), 2)
    1.96
    """
    return NormalDist().inv_cdf(p)


def relaxed(block: Block, entity: int, time: float) -> tuple[Floats, Floats]:
    """(θ (d), sd (d)) of one entity, relaxed to `time`; the prior's for entity −1."""
    theta, cov = block.relaxed(np.array([entity]), np.array([time]))
    return theta[0], np.sqrt(variances(block, cov[0]))


def variances(block: Block, cov: Floats) -> Floats:
    """Marginal variances (…, d) of stored posteriors (…, cov_size) of a block."""
    if block.kind == LOWRANK:
        rows = cov.reshape(-1, block.cov_size)
        return _lowrank_rows.variances(rows, block.d, block.kmax).reshape(*cov.shape[:-1], block.d)
    return cov if block.kind == DIAGONAL else cov[..., diagonal_indices(block.d)]


def coefficients(block: Block, names: Sequence[str], entity: int) -> list[Coefficient]:
    """Coefficients of one entity as last updated."""
    sd = np.sqrt(variances(block, block.cov[entity].astype(np.float64)))
    return [Coefficient(name, float(m), float(s)) for name, m, s in zip(names, block.mean[entity], sd)]


def dimension_names(blocks: Sequence[Block], encoder: Encoder, r: int) -> list[str]:
    """Readable names of block r's dimensions."""
    of = _layout.targets(blocks)[r]
    if of >= 0:
        return [f"loading on {encoder.slot_names[slot]}" for slot in blocks[of].slots]
    return [encoder.slot_names[slot] for slot in blocks[r].slots]


def sample(blocks: Sequence[Block], design: Design, size: int, scale: float, rng: np.random.Generator) -> Floats:
    """Scores (size, n) under `size` coefficient draws, each entity's draw shared by all rows of the design.

    Entities never seen draw from the prior, each for itself.
    """
    z = np.repeat(design.offset[None], size, axis=0)
    drawn = [_drawn(block, design, size, scale, rng) for block in blocks]
    start, stop = design.indptr[0], design.indptr[-1]
    indices, values = design.indices[start:stop], design.values[start:stop]
    rows = np.repeat(np.arange(design.rows), np.diff(design.indptr))
    for block, (which, theta), of in zip(blocks, drawn, _layout.targets(blocks)):
        if of >= 0:
            other, coefficients = drawn[of]
            z += np.einsum("knd,knd->kn", theta[:, which], coefficients[:, other])
            continue
        n_slots = 1 + max([*block.slots, int(indices.max(initial=0))])
        local = _layout.local_dimensions(block, n_slots)[indices]
        used = local >= 0
        terms = values[used] * theta[:, which[rows[used]], local[used]]
        z += [np.bincount(rows[used], draw, minlength=design.rows) for draw in terms]
        _unseen.add_draws(block, which, design, scale, rng, z)
    return z


def _drawn(
    block: Block, design: Design, size: int, scale: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], Floats]:
    """Which of the entities drawn each row has (n), and their draws (size, entities, d)."""
    named, first, which = np.unique(_layout.named_codes(block, design), return_index=True, return_inverse=True)
    entities = _layout.known_codes(block, named)
    theta, cov = block.relaxed(entities, design.time[first])
    if block.kind == LOWRANK:
        xi = rng.standard_normal((size, len(entities), block.d + block.kmax))
        return which, _lowrank_rows.draws(theta, cov, block.kmax, scale, xi)
    xi = rng.standard_normal((size, len(entities), block.d))
    if block.kind == DIAGONAL:
        return which, theta + np.sqrt(scale * cov) * xi
    L = np.linalg.cholesky(unpack(cov)) if block.d else np.zeros((len(entities), 0, 0))
    return which, theta + np.sqrt(scale) * np.einsum("eij,kej->kei", L, xi)


def explain(blocks: Sequence[Block], encoder: Encoder, design: Design) -> list[list[Contribution]]:
    """Contributions of every effect and feature to every row's score, largest first; they sum to score − offset."""
    return [_explain_row(blocks, encoder, design.take(row, row + 1)) for row in range(design.rows)]


def _explain_row(blocks: Sequence[Block], encoder: Encoder, design: Design) -> list[Contribution]:
    indices, values, of = design.indices, design.values, _layout.targets(blocks)
    codes = [int(_layout.entity_codes(block, design)[0]) for block in blocks]
    posteriors = [relaxed(block, code, float(design.time[0])) for block, code in zip(blocks, codes)]
    terms: list[Contribution] = []
    dims: NDArray[np.integer[Any]]
    for r, block in enumerate(blocks):
        theta, sd = posteriors[r]
        names = dimension_names(blocks, encoder, r)
        if of[r] >= 0:
            dims, x = np.arange(block.d), posteriors[of[r]][0]
        else:
            local = _layout.local_dimensions(block, encoder.n_slots)[indices]
            dims, x = local[local >= 0], values[local >= 0]
        entity = _entity(block, encoder, codes[r])
        terms += [
            Contribution(block.name, entity, names[j], float(v), float(v * theta[j]), float(abs(v) * sd[j]))
            for j, v in zip(dims.tolist(), x.tolist())
        ]
        terms += [Contribution(block.name, entity, *entry) for entry in _unseen.contributions(block, design)]
    return sorted(terms, key=lambda term: -abs(term.contribution))


def _entity(block: Block, encoder: Encoder, code: int) -> object:
    key = _layout.key_of(block)
    if key is None:
        return None
    return encoder.entity_name(key, code) if code >= 0 else "(new)"
