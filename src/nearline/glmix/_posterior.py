"""What the posterior is used for: Thompson draws, intervals, coefficients and the explanation of a score.

All of it in NumPy, per entity, at the posterior as it has relaxed by the row's time (`Forgetting`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from nearline.features import Design, Encoder
from nearline.glmix import _fold, _layout
from nearline.glmix._codes import DIAGONAL, NEVER, PER_UPDATE, REVERTING
from nearline.glmix._packed import unpack
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
    """(θ, V) of one entity, relaxed to `time`; the prior for entity −1. V is (d, d), diagonal for a diagonal block."""
    mu0, V0 = block.belief.mu0(block.columns), block.belief.V0(block.columns)
    if entity < 0:
        return mu0, V0
    theta = block.mean[entity].astype(np.float64)
    cov = block.cov[entity].astype(np.float64)
    V = np.diag(cov) if block.kind == DIAGONAL else unpack(cov)
    since = time - block.last[entity]
    if not since > 0:
        return theta, V
    theta, V = _forgotten(block, theta, V, mu0, V0, since)
    event, second = block.belief.walks(block.columns)
    headroom = np.maximum(np.diagonal(V0) - np.diagonal(V), 0.0)
    return theta, V + np.diag(np.minimum(event + second * since, headroom))


def _forgotten(
    block: Block, theta: Floats, V: Floats, mu0: Floats, V0: Floats, since: float
) -> tuple[Floats, Floats]:
    form, rate = block.belief.form, block.belief.rate
    if form == NEVER:
        return theta, V
    factor = rate if form == PER_UPDATE else float(_fold.time_factor(since, rate))
    if form == REVERTING:
        return _fold.ornstein_uhlenbeck(theta, V, mu0, V0, factor)
    m, P = _fold.stabilised(theta, np.linalg.inv(V), mu0, np.linalg.inv(V0), factor)
    return m, np.linalg.inv(P)


def coefficients(block: Block, encoder: Encoder, entity: int) -> list[Coefficient]:
    """Coefficients of one entity as last updated."""
    cov = block.cov[entity].astype(np.float64)
    variances = cov if block.kind == DIAGONAL else np.diagonal(unpack(cov))
    names = dimension_names(block, encoder)
    return [
        Coefficient(name, float(m), float(np.sqrt(v))) for name, m, v in zip(names, block.mean[entity], variances)
    ]


def dimension_names(block: Block, encoder: Encoder) -> list[str]:
    """Readable names of a block's dimensions."""
    if block.slots:
        return [encoder.slot_names[slot] for slot in block.slots]
    return [f"loading on {column}" for column in block.columns]


def sample(blocks: Sequence[Block], design: Design, size: int, scale: float, rng: np.random.Generator) -> Floats:
    """Scores (size, n) under `size` coefficient draws, each entity's draw shared by all rows of the design."""
    draws = [_drawn(block, design, size, scale, rng) for block in blocks]
    return np.stack([_margins(blocks, design, [draw[k] for draw in draws]) for k in range(size)])


def _drawn(
    block: Block, design: Design, size: int, scale: float, rng: np.random.Generator
) -> list[Mapping[int, Floats]]:
    codes = _codes(block, design)
    entities, first = np.unique(codes, return_index=True)
    out: list[dict[int, Floats]] = [{} for _ in range(size)]
    for entity, row in zip(entities.tolist(), first.tolist()):
        theta, V = relaxed(block, entity, float(design.time[row]))
        L = np.linalg.cholesky(V)
        for k in range(size):
            out[k][entity] = theta + np.sqrt(scale) * (L @ rng.standard_normal(block.d))
    return list(out)


def _margins(blocks: Sequence[Block], design: Design, draws: Sequence[Mapping[int, Floats]]) -> Floats:
    z = design.offset.copy()
    of = _layout.targets(blocks)
    rows = np.repeat(np.arange(design.rows), np.diff(design.indptr))
    start, stop = design.indptr[0], design.indptr[-1]
    indices, values = design.indices[start:stop], design.values[start:stop]
    for r, block in enumerate(blocks):
        theta = np.stack([draws[r][code] for code in _codes(block, design).tolist()]) if design.rows else z
        if of[r] >= 0:
            target = np.stack([draws[of[r]][code] for code in _codes(blocks[of[r]], design).tolist()])
            z += np.einsum("nd,nd->n", theta, target)
            continue
        local = _layout.local_dimensions(block, 1 + max([*block.slots, int(indices.max(initial=0))]))[indices]
        used = local >= 0
        np.add.at(z, rows[used], values[used] * theta[rows[used], local[used]])
    return z


def _codes(block: Block, design: Design) -> NDArray[np.int32]:
    key = _layout.key_of(block)
    return np.zeros(design.rows, np.int32) if key is None else design.entities[key]


def explain(blocks: Sequence[Block], encoder: Encoder, design: Design) -> list[list[Contribution]]:
    """Contributions of every effect and feature to every row's score, largest first; they sum to score − offset."""
    return [_explain_row(blocks, encoder, design, row) for row in range(design.rows)]


def _explain_row(blocks: Sequence[Block], encoder: Encoder, design: Design, row: int) -> list[Contribution]:
    start, stop = design.indptr[row], design.indptr[row + 1]
    indices, values = design.indices[start:stop], design.values[start:stop]
    of, time = _layout.targets(blocks), float(design.time[row])
    codes = [int(_codes(block, design)[row]) for block in blocks]
    posteriors = [relaxed(block, code, time) for block, code in zip(blocks, codes)]
    terms: list[Contribution] = []
    for r, block in enumerate(blocks):
        theta, V = posteriors[r]
        sd = np.sqrt(np.diagonal(V))
        names = dimension_names(block, encoder)
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
    return sorted(terms, key=lambda term: -abs(term.contribution))


def _entity(block: Block, encoder: Encoder, code: int) -> object:
    key = _layout.key_of(block)
    if key is None:
        return None
    return encoder.entity_name(key, code) if code >= 0 else "(new)"
