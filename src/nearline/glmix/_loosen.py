"""Let go of certainty: after a change of the world an entity is as unsure as its prior, but keeps what it believed.

    θ ← θ,    V ← V + share (V0 − V)

A posterior that many events have made certain takes as many to move. Giving it its prior's covariance back, about the
mean that it has, is one step of adaptive forgetting: what the events of before weigh is set at once, by evidence that
the world has changed, and not by a half-life. With V ⪯ V0 the result lies between the two. Source of the idea: West and
Harrison, "Bayesian Forecasting and Dynamic Models" (1997), section 11.5, intervention after a monitor's signal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nearline.features import Design
from nearline.glmix import _lowrank as lowrank
from nearline.glmix._codes import LOWRANK
from nearline.glmix._layout import local_dimensions
from nearline.glmix._state import Block

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


def loosen(block: Block, codes: Codes, share: float) -> None:
    """Give entities (E) of a block a share of their prior's uncertainty back, in place; means and times stay.

    A low-rank posterior starts from the prior's variances, as a new entity does.

    Examples
    --------
    >>> from nearline import GLMix, Prior, Random, Schema
    >>> model = GLMix(Schema(label="y"), random=[Random("user", prior=Prior(2.0))])
    >>> _ = model.partial_fit({"user": ["ann"] * 50, "y": [1, 0] * 25})
    >>> block = model.block("user")
    >>> block.cov[0].item() < 0.2
    True
    >>> loosen(block, np.array([0]), share=0.5)
    >>> 1.0 < block.cov[0].item() < 1.1
    True
    >>> loosen(block, np.array([0]), share=1.0)
    >>> block.cov[0].item()
    2.0
    """
    if not len(codes):
        return
    prior = block.prior_arrays()[1]
    if share >= 1.0:
        block.cov[codes] = prior
    elif block.kind != LOWRANK:
        block.cov[codes] = (1.0 - share) * block.cov[codes].astype(np.float64) + share * prior
    else:
        variance = block.belief.variance0(block.columns)
        for code in codes.tolist():
            H = lowrank.unpack(block.cov[code], block.d, block.kmax).drifted(1.0 - share, share * variance)
            block.cov[code] = lowrank.pack(H, block.kmax)


def weight_left(blocks: Sequence[Block], n_slots: int, design: Design, variance: Floats, share: float) -> Floats:
    """What is left, after loosening, of what events (n) once taught: s / (s + share (s0 − s)), from 0 to 1.

    `variance` is s, that of each event's score just before it was learned; s0 is its variance under the prior. Means
    keep what the event taught, and covariances do not: without this factor a correction would act with the force of
    the new, wide covariance. A variance that is not known (NaN, minibatch mode) leaves 1 − share.
    """
    s0 = sum((_prior_variance(block, n_slots, design) for block in blocks), np.zeros(design.rows))
    with np.errstate(divide="ignore", invalid="ignore"):
        left = variance / (variance + share * np.maximum(s0 - variance, 0.0))
    return np.where(np.isnan(left), 1.0 - share, left)


def _prior_variance(block: Block, n_slots: int, design: Design) -> Floats:
    """xᵀ V0 x of every row (n) for one block; loadings, whose x is not in the design, count as none."""
    start, stop = design.indptr[0], design.indptr[-1]
    rows = np.repeat(np.arange(design.rows), np.diff(design.indptr))
    dims, x = local_dimensions(block, n_slots)[design.indices[start:stop]], design.values[start:stop]
    rows, dims, x = rows[dims >= 0], dims[dims >= 0], x[dims >= 0]
    variance, covariance = block.belief.variance0(block.columns), block.belief.covariance
    k = 0 if covariance is None else min(len(covariance), block.d)
    alone = dims >= k
    found = np.bincount(rows[alone], np.square(x[alone]) * variance[dims[alone]], design.rows)
    if covariance is None:
        return found.astype(np.float64, copy=False)
    X = np.zeros((design.rows, k))
    X[rows[~alone], dims[~alone]] = x[~alone]
    return np.asarray(found + np.einsum("nj,jk,nk->n", X, covariance[:k, :k], X, optimize=True))
