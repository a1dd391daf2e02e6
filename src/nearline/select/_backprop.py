"""Selective backprop (arXiv 1910.00762): keep rows with a probability that grows with the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nearline.select._fresh import FreshOnly
from nearline.select._rule import Draw
from nearline.select._scores import Floats, Scores
from nearline.select._state import SelectorState

_NEVER = 1e-15


@dataclass(frozen=True)
class SelectiveBackprop(FreshOnly):
    """Keep with probability CDF(l)^beta, round after round in random order until b rows are kept.

    CDF is that of the last `history` losses seen before this window; before the first window all are kept alike.
    The round in which a row is first kept is geometric, so that all rounds are one draw.

    Parameters
    ----------
    beta : float or None
        Default 1/r - 1: the mean probability is then r.
    history : int
        Losses that the CDF is made of.
    """

    name: ClassVar[str] = "selective_backprop"

    beta: float | None = None
    history: int = 1024

    def _watch(self, scores: Scores, values: Floats, b: int, state: SelectorState) -> SelectorState:
        return state.put(losses=np.concatenate([state.get("losses"), values])[-self.history :])

    def _rank(
        self, scores: Scores, values: Floats, b: int, rng: np.random.Generator, state: SelectorState | None
    ) -> Draw:
        return Draw(kept(values, b, self._beta(len(values), b), state, rng))

    def _beta(self, n: int, b: int) -> float:
        return n / b - 1 if self.beta is None else self.beta


@dataclass(frozen=True)
class StaleSelectiveBackprop(SelectiveBackprop):
    """Selective backprop that uses the losses of one pass for `epochs` passes over the same rows in the same order."""

    name: ClassVar[str] = "stale_selective_backprop"

    epochs: int = 2

    def _watch(self, scores: Scores, values: Floats, b: int, state: SelectorState) -> SelectorState:
        if self._cached(values, state) is not values:
            return state.put(passes=state.get("passes") + 1)
        return super()._watch(scores, values, b, state).put(cached=values, passes=1)

    def _rank(
        self, scores: Scores, values: Floats, b: int, rng: np.random.Generator, state: SelectorState | None
    ) -> Draw:
        return super()._rank(scores, self._cached(values, state or SelectorState()), b, rng, state)

    def _cached(self, values: Floats, state: SelectorState) -> Floats:
        cached = state.get("cached")
        usable = len(cached) == len(values) and state.get("passes")[0] < self.epochs
        return cached if usable else values


def kept(values: Floats, b: int, beta: float, state: SelectorState | None, rng: np.random.Generator) -> np.ndarray:
    """The b rows kept first."""
    seen = np.sort(state.get("losses")) if state is not None else np.empty(0)
    cdf = np.searchsorted(seen, values, side="right") / len(seen) if len(seen) else np.ones(len(values))
    keep = np.maximum(cdf**beta, _NEVER)
    rounds = np.ceil(np.log1p(-rng.random(len(values))) / np.log1p(-np.minimum(keep, 1 - 1e-16)))
    rounds[keep >= 1] = 1.0
    return np.lexsort((rng.random(len(values)), rounds))[:b]
