"""A mixture of simple rules whose shares follow what each of them gained (after AdaSelection, arXiv 2306.10728)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nearline.select._fresh import FreshOnly
from nearline.select._rule import Draw
from nearline.select._samplers import by_keys
from nearline.select._scores import Floats, Scores, known, scaled, standardised
from nearline.select._state import SelectorState


@dataclass(frozen=True)
class AdaSelection(FreshOnly):
    """Draws without replacement proportional to sum_m w_m alpha_m(i); unweighted.

    The families alpha_m, each with sum 1: uniform, exp(l), exp(-l) with standardised losses, and s. From window to
    window w_m is multiplied by exp(rate * d_m), d_m the relative decrease of the family's mean loss
    sum_i alpha_m(i) l_i.

    Parameters
    ----------
    rate : float
        Of the multiplicative update.
    """

    name: ClassVar[str] = "ada_selection"

    rate: float = 0.1

    def _watch(self, scores: Scores, values: Floats, b: int, state: SelectorState) -> SelectorState:
        level = _families(scores, values) @ scaled(values) * float(np.abs(values).max(initial=0.0))
        before = state.get("level", level)
        share = state.get("mixture", np.full(len(level), 1 / len(level)))
        fall = np.divide(before - level, before, out=np.zeros_like(level), where=before > 0)
        share = share * np.exp(self.rate * np.clip(fall, -10, 10))
        return state.put(level=level, mixture=share / share.sum())

    def _rank(
        self, scores: Scores, values: Floats, b: int, rng: np.random.Generator, state: SelectorState | None
    ) -> Draw:
        families = _families(scores, values)
        share = (state or SelectorState()).get("mixture", np.full(len(families), 1 / len(families)))
        return Draw(by_keys(share @ families, b, rng))


def _families(scores: Scores, values: Floats) -> Floats:
    """Alpha (4, n): uniform, large losses, small losses, large scores; every row sums to 1."""
    n, z = len(values), np.clip(standardised(values), -30, 30)
    norm = scaled(known(scores.column("score", "rule 'ada_selection'"), 0.0)[0])
    raw = np.stack([np.ones(n), np.exp(z), np.exp(-z), norm if norm.any() else np.ones(n)])
    return np.asarray(raw / raw.sum(axis=1, keepdims=True))
