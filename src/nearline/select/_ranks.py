"""Rules that look at the order of the losses only, unweighted: each minimises another risk than the mean.

Biggest-k: the mean of the worst share (CVaR); smallest-k: a trimmed mean. With rare positives the calibration is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nearline._errors import ConfigError
from nearline.select._fresh import FreshOnly
from nearline.select._rule import Draw, ranked
from nearline.select._samplers import by_keys
from nearline.select._scores import Floats, Ints, Scores, known
from nearline.select._state import SelectorState


@dataclass(frozen=True)
class BiggestK(FreshOnly):
    """The b largest losses."""

    name: ClassVar[str] = "biggest_k"

    def _rank(
        self, scores: Scores, values: Floats, b: int, rng: np.random.Generator, state: SelectorState | None
    ) -> Draw:
        return Draw(ranked(values, rng)[-b:])


@dataclass(frozen=True)
class SmallestK(FreshOnly):
    """The b smallest losses."""

    name: ClassVar[str] = "smallest_k"

    def _rank(
        self, scores: Scores, values: Floats, b: int, rng: np.random.Generator, state: SelectorState | None
    ) -> Draw:
        return Draw(ranked(values, rng)[:b])


@dataclass(frozen=True)
class MinKSgd(FreshOnly):
    """Of k rows drawn, train on the one with the lowest loss; b disjoint draws (Shah et al., arXiv 2001.03316)."""

    name: ClassVar[str] = "min_k_sgd"

    k: int = 2

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"k = {self.k}: draw at least one row")

    def _rank(
        self, scores: Scores, values: Floats, b: int, rng: np.random.Generator, state: SelectorState | None
    ) -> Draw:
        k = max(min(self.k, len(values) // b), 1)
        groups = rng.permutation(len(values))[: k * b].reshape(b, k)
        return Draw(groups[np.arange(b), np.argmin(values[groups], axis=1)])


@dataclass(frozen=True)
class RankPower(FreshOnly):
    """Draws without replacement, probability proportional to (rank/n)^(1/r - 1), the largest loss having rank n.

    Published use: on from half to nine tenths of training, every other batch a plain one.
    """

    name: ClassVar[str] = "rank_power"

    def _rank(
        self, scores: Scores, values: Floats, b: int, rng: np.random.Generator, state: SelectorState | None
    ) -> Draw:
        n = len(values)
        return Draw(by_keys((_ranks(values, rng) / n) ** (n / b - 1), b, rng))


@dataclass(frozen=True)
class RankExponential(FreshOnly):
    """Draws without replacement, probability proportional to exp(-log(s_e) rank/n), the largest loss having rank 0.

    `pressure` is s_e, how much likelier the first is than the last (Loshchilov and Hutter, arXiv 1511.06343).
    """

    name: ClassVar[str] = "rank_exponential"

    pressure: float = 100.0

    def _rank(
        self, scores: Scores, values: Floats, b: int, rng: np.random.Generator, state: SelectorState | None
    ) -> Draw:
        n = len(values)
        rank = n - _ranks(values, rng)
        return Draw(by_keys(np.exp(-np.log(self.pressure) * rank / n), b, rng))


@dataclass(frozen=True)
class RhoLoss(FreshOnly):
    """The b rows with the largest loss minus irreducible loss: learnable and not yet learnt (arXiv 2206.07137).

    The irreducible loss is that of a small model trained on held-out data. Published with n = 320, r = 0.1.
    """

    name: ClassVar[str] = "rho_loss"

    def _values(self, scores: Scores) -> tuple[Floats, Any]:
        loss, least = (scores.column(c, "rule 'rho_loss'") for c in ("loss", "irreducible"))
        return known(np.where(np.isfinite(loss) & np.isfinite(least), loss, np.nan) - np.nan_to_num(least))

    def _rank(
        self, scores: Scores, values: Floats, b: int, rng: np.random.Generator, state: SelectorState | None
    ) -> Draw:
        return Draw(ranked(values, rng)[-b:])


def _ranks(values: Floats, rng: np.random.Generator) -> Ints:
    """1 for the smallest, n for the largest, ties in random order."""
    ranks = np.empty(len(values), np.int64)
    ranks[ranked(values, rng)] = np.arange(1, len(values) + 1)
    return ranks
