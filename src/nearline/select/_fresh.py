"""The base of rules that must not rank old losses: they would train again what is already learnt."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from nearline._errors import NearlineWarning
from nearline.select._rule import Draw, Rule
from nearline.select._scores import Floats, Scores
from nearline.select._state import SelectorState


@dataclass(frozen=True)
class FreshOnly(Rule):
    """Ranks the rows recorded at most `max_staleness` versions ago; the others keep their share, drawn uniformly.

    Warns with a `NearlineWarning` when a window has such rows; without a `lag` column all rows count as fresh.
    """

    max_staleness: float = 2.0

    def _draw(
        self, scores: Scores, values: Floats, b: int, rng: np.random.Generator, state: SelectorState | None
    ) -> Draw:
        old = np.zeros(len(values), bool) if scores.lag is None else ~(scores.lag <= self.max_staleness)
        if not old.any():
            return self._rank(scores, values, b, rng, state)
        warnings.warn(
            f"{int(old.sum())} of {len(old)} rows are older than {self.max_staleness:g} versions: rule {self.name!r} "
            "draws from them uniformly; re-score them, or take rule 'pps'",
            NearlineWarning,
            stacklevel=3,
        )
        stale, fresh = np.flatnonzero(old), np.flatnonzero(~old)
        share = round(b * len(stale) / len(old))
        drawn = rng.choice(stale, share, replace=False, shuffle=False)
        rest = fresh[: b - share]
        if 0 < b - share < len(fresh):
            rest = fresh[self._rank(scores.take(fresh), values[fresh], b - share, rng, state).index]
        return Draw(np.concatenate([drawn, rest]), facts={"stale": len(stale)})

    @abstractmethod
    def _rank(
        self, scores: Scores, values: Floats, b: int, rng: np.random.Generator, state: SelectorState | None
    ) -> Draw:
        """B of n fresh rows, 0 < b < n."""
