"""How much the past counts in the update of every block from one slice: each block's posterior, weighed by ω.

    P = Λ0 + ω (H − Λ0),    m = P⁻¹ (ω H θ + (1 − ω) Λ0 μ0)          (stabilised)
    P = ω H,                m = θ                                     (as published)

Both leave the posterior alone at ω = 1. Stabilised, what is weighed is what the data said: one base prior stays in the
precision for ever, a forgotten coefficient goes back to it, and one that has seen nothing stays there whatever ω. As
published, repeated ω < 1 drives the precision of vanished features to 0, and repeated ω > 1 that of unseen ones beyond
all bounds. ω > 1 says that the past is worth more than it said: it counts ω times, at every update anew.
Source: arXiv 2108.13299, the incremental update of all blocks; the stabilised form is that of arXiv 2010.05154.

**Chosen by evidence.** ω can be read off the slice: it is the one under whose prior the slice is most probable, log
p(slice | m(ω), P(ω)) by Laplace. A world that stands still gives ω = 1, one that has changed less. It is a step of
adaptive forgetting; the slice is predicted before it chooses. *Ours.*
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearline._errors import ConfigError, StateError
from nearline.glmix import _lowrank as lowrank
from nearline.glmix import _lowrank_rows
from nearline.glmix._codes import DIAGONAL, FULL, LOWRANK, STABILISED
from nearline.glmix._lowrank import LowRank
from nearline.glmix._packed import diagonal_indices
from nearline.glmix._state import Block, stabilised_rows

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
PerEffect = float | Mapping[str, float]

CANDIDATES = (1.0, 0.5, 0.25)
"""Weights of the past that evidence chooses from: every one costs a cycle, and halves are told apart well enough."""


@dataclass(frozen=True, slots=True)
class Past:
    """The weight ω of each block's past.

    Parameters
    ----------
    weight
        One number for all effects, or a mapping by effect's name with ``"*"`` for the rest (1 without it).
    stabilise
        Whether the base prior is put back for what is forgotten.

    Examples
    --------
    >>> Past({"fixed": 0.9}).of("fixed"), Past({"fixed": 0.9}).of("user_id")
    (0.9, 1.0)
    """

    weight: PerEffect = 1.0
    stabilise: bool = True

    def of(self, effect: str) -> float:
        """ω of one effect."""
        given = self.weight
        return float(given.get(effect, given.get("*", 1.0)) if isinstance(given, Mapping) else given)

    def check(self, effects: Sequence[str]) -> None:
        """Refuse weights of effects that do not exist and weights that are none."""
        named = list(self.weight) if isinstance(self.weight, Mapping) else []
        unknown = [name for name in named if name not in (*effects, "*")]
        if unknown:
            raise ConfigError(f"past_weight names {unknown[0]!r}; this model's effects are {list(effects)}")
        for effect in effects:
            omega = self.of(effect)
            if not 0.0 <= omega < float("inf"):
                raise ConfigError(f"past_weight of {effect!r} must be >= 0 and finite, got {omega!r}")
            if omega == 0.0 and not self.stabilise:
                raise ConfigError(f"past_weight of {effect!r} is 0 and stabilise=False: that leaves no prior at all")

    def weigh(self, block: Block, codes: Codes) -> None:
        """Make the posteriors of entities (E), in place, the priors of a slice; those that have no past keep theirs."""
        _fill(block, codes)
        omega, codes = self.of(block.name), codes[block.counts[codes] > 0]
        if omega == 1.0 or not len(codes):
            return
        theta, cov = block.mean[codes].astype(np.float64), block.cov[codes].astype(np.float64)
        if block.kind == LOWRANK:
            block.mean[codes], block.cov[codes] = self._weighed_rows(block, omega, theta, cov)
        elif self.stabilise:
            prior = block.prior_arrays()
            block.mean[codes], block.cov[codes] = stabilised_rows(theta, cov, *prior, np.full((len(codes), 1), omega))
        else:
            block.cov[codes] = cov / omega

    def _weighed_rows(self, block: Block, omega: float, theta: Floats, rows: Floats) -> tuple[Floats, Floats]:
        mu0, precision = block.belief.mu0(block.columns), 1.0 / block.belief.variance0(block.columns)
        for e, H in enumerate(_lowrank_rows.unpacked(rows, block.d, block.kmax)):
            after = LowRank(omega * H.h, np.sqrt(omega) * H.Q)
            if self.stabilise:
                theta[e], after = _lowrank_rows.fold(STABILISED, omega, theta[e], H, mu0, precision)
            rows[e] = lowrank.pack(after, block.kmax)
        return theta, rows


def most_probable(log_evidence: Callable[[float], float], candidates: Sequence[float] = CANDIDATES) -> float:
    """The candidate whose evidence is highest, walking down from the first for as long as it rises.

    Examples
    --------
    >>> most_probable(lambda omega: -abs(omega - 0.6)), most_probable(lambda omega: omega)
    (0.5, 1.0)
    """
    best, found = candidates[0], log_evidence(candidates[0])
    for omega in candidates[1:]:
        value = log_evidence(omega)
        if not value > found:
            break
        best, found = omega, value
    return best


def check_precision(block: Block, codes: Codes) -> None:
    """Refuse a block whose entities (E) have no precision to be the prior of an update, or one that cannot be.

    Raises
    ------
    StateError
        When a stored variance is negative or infinite, or when none is stored at all.
    """
    if not len(codes) or not block.d:
        return
    stored = _variances(block, codes)
    if (stored < 0.0).any() or np.isinf(stored).any():
        raise StateError(
            f"effect {block.name!r} holds a negative or infinite variance; restore it from a sound version"
        )
    if not (stored > 0.0).any():
        raise StateError(
            f"effect {block.name!r} carries no precision, and an update of all blocks takes every block's as its "
            "prior; fit it, or keep it as it is with locked=[...]"
        )


def _variances(block: Block, codes: Codes) -> Floats:
    """Stored variances (E, d), of low-rank posteriors the reciprocals of h; NaN or 0 where none is stored."""
    cov = block.cov[codes].astype(np.float64)
    if block.kind == FULL:
        return np.asarray(cov[:, diagonal_indices(block.d)])
    if block.kind == DIAGONAL:
        return cov
    h = np.array([H.h for H in _lowrank_rows.unpacked(cov, block.d, block.kmax)])
    with np.errstate(divide="ignore"):
        return np.where(h == 0.0, np.nan, 1.0 / h)


def _fill(block: Block, codes: Codes) -> None:
    """Give coefficients without a stored variance that of their prior, uncorrelated."""
    missing = ~(_variances(block, codes) > 0.0)
    variance = block.belief.variance0(block.columns)
    for e in np.flatnonzero(missing.any(axis=1)).tolist():
        code, lost = codes[e], missing[e]
        if block.kind == DIAGONAL:
            block.cov[code] = np.where(lost, variance, block.cov[code])
        elif block.kind == FULL:
            j, k = np.tril_indices(block.d)
            own = np.where(j == k, variance[j], 0.0)
            block.cov[code] = np.where(lost[j] | lost[k], own, block.cov[code])
        else:
            H = lowrank.unpack(block.cov[code], block.d, block.kmax)
            kept = LowRank(np.where(lost, 1.0 / variance, H.h), np.where(lost[:, None], 0.0, H.Q))
            block.cov[code] = lowrank.pack(kept, block.kmax)
