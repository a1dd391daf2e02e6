"""Plain draws: every row with the same chance, or with the one its label has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nearline.select._inclusion import water_fill
from nearline.select._rule import Draw, Rule
from nearline.select._samplers import poisson, systematic
from nearline.select._scores import Floats, Scores
from nearline.select._state import SelectorState


@dataclass(frozen=True)
class Uniform(Rule):
    """b of n without replacement, pi = b/n: what every other rule has to beat.

    >>> from nearline.select import Scores, by_name
    >>> len(by_name("uniform")(Scores(loss=np.ones(50)), 5, np.random.default_rng(0)))
    5
    """

    name: ClassVar[str] = "uniform"
    unbiased: ClassVar[bool] = True
    column: ClassVar[str | None] = None

    def _draw(
        self, scores: Scores, values: Floats, b: int, rng: np.random.Generator, state: SelectorState | None
    ) -> Draw:
        n = len(values)
        return Draw(rng.choice(n, b, replace=False, shuffle=False), np.full(b, b / n))


@dataclass(frozen=True)
class Poisson(Rule):
    """Every row by itself with probability b/n: a random number of rows, b on average."""

    name: ClassVar[str] = "poisson"
    unbiased: ClassVar[bool] = True
    fixed: ClassVar[bool] = False
    column: ClassVar[str | None] = None

    def _draw(
        self, scores: Scores, values: Floats, b: int, rng: np.random.Generator, state: SelectorState | None
    ) -> Draw:
        n = len(values)
        index = poisson(np.full(n, b / n), rng)
        return Draw(index, np.full(len(index), b / n), np.full(len(index), len(index) / b))


@dataclass(frozen=True)
class WithReplacement(Rule):
    """b draws with replacement, all rows alike: the classical bootstrap draw."""

    name: ClassVar[str] = "with_replacement"
    unbiased: ClassVar[bool] = True
    fixed: ClassVar[bool] = False
    column: ClassVar[str | None] = None

    def _draw(
        self, scores: Scores, values: Floats, b: int, rng: np.random.Generator, state: SelectorState | None
    ) -> Draw:
        n = len(values)
        return Draw(rng.integers(n, size=b), np.full(b, b / n))


@dataclass(frozen=True)
class LabelBalanced(Rule):
    """pi depends on the label only: every label gets the same share of the budget as far as its rows reach.

        pi_i = min(1, c / n_(y_i)),   omega_i = b / (n pi_i)

    With `weighted` false the rows come unweighted; for two labels and a logistic model `undo_label_rates` then repairs
    the logit.
    """

    name: ClassVar[str] = "label_balanced"
    unbiased: ClassVar[bool] = True
    column: ClassVar[str | None] = "label"

    weighted: bool = True

    def _draw(
        self, scores: Scores, values: Floats, b: int, rng: np.random.Generator, state: SelectorState | None
    ) -> Draw:
        _, code, count = np.unique(values, return_inverse=True, return_counts=True)
        pi = water_fill(1.0 / count[code], b)
        index = systematic(pi, rng)
        return Draw(index, pi[index], b / (len(pi) * pi[index]) if self.weighted else None)


def undo_label_rates(logit: Any, positives: float, negatives: float) -> Any:
    """True logit of a model trained on a share of the positives and a share of the negatives, unweighted.

        true logit = trained logit - log(rho_1 / rho_0)

    >>> round(float(undo_label_rates(0.0, positives=1.0, negatives=0.1)), 3)
    -2.303
    """
    return np.asarray(logit) - np.log(positives / negatives)
