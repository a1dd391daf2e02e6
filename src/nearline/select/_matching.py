"""Loss matching (OBFTF, arXiv 2104.13114): b rows whose mean loss is the window's.

(P)   min over z   | (1/n) sum_i l_i - (1/b) sum_i z_i l_i |   s.t.  sum_i z_i = b,  z_i in {0, 1}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nearline.select._rule import Draw, Rule, ranked
from nearline.select._scores import Floats, Ints, Scores, ascending, nearest_to, standardised
from nearline.select._state import SelectorState


@dataclass(frozen=True)
class Swap(Rule):
    """A random subset improved by the best single exchange, again and again; the default for (P).

    With v the sorted losses and D = b mean(v) - sum over S of v: exchange the i in S and the o outside S for which
    |v_o - v_i - D| is least, until that is no less than |D| or |D|/b <= tol std(v). |D| falls strictly.

    Equal weights: pi is not known for single rows. The expected gradient is the window's only as far as the loss
    explains it.

    Parameters
    ----------
    tol : float
        Gap at which to stop, in standard deviations of the loss.
    exchanges : int
        At most so many.

    Examples
    --------
    >>> from nearline.select import Scores, by_name
    >>> rng = np.random.default_rng(0)
    >>> bool(by_name("swap")(Scores(loss=rng.exponential(size=1024)), 102, rng).report.gap < 1e-6)
    True
    """

    name: ClassVar[str] = "swap"

    tol: float = 1e-9
    exchanges: int = 64

    def _draw(
        self, scores: Scores, values: Floats, b: int, rng: np.random.Generator, state: SelectorState | None
    ) -> Draw:
        order = ascending(values)
        v = standardised(values[order])
        start = np.sort(rng.choice(len(v), b, replace=False, shuffle=False))
        return Draw(order[exchanged(v, start, self.tol, self.exchanges)])


def exchanged(v: Floats, start: Ints, tol: float, most: int) -> Ints:
    """The ranks `start` after the best exchanges; v ascending with mean 0 and standard deviation 1."""
    chosen = np.zeros(len(v), bool)
    chosen[start] = True
    inside, outside = start.copy(), np.flatnonzero(~chosen)
    for _ in range(most):
        v_in, v_out = v[inside], v[outside]
        deficit = -float(v_in.sum())
        if abs(deficit) <= tol * len(inside):
            break
        wanted = v_in + deficit
        partner = nearest_to(wanted, v_out)
        residual = np.abs(v_out[partner] - wanted)
        i = int(np.argmin(residual))
        if residual[i] >= abs(deficit):
            break
        leaving, entering = inside[i], outside[partner[i]]
        _replace(inside, i, entering)
        _replace(outside, int(partner[i]), leaving)
    return inside


def _replace(ranks: Ints, at: int, new: int) -> None:
    """Put `new` for the entry at `at` of an ascending array, in place, and keep it ascending."""
    to = int(np.searchsorted(ranks, new))
    if to > at:
        ranks[at : to - 1] = ranks[at + 1 : to]
        ranks[to - 1] = new
    else:
        ranks[to + 1 : at + 1] = ranks[to:at].copy()
        ranks[to] = new


@dataclass(frozen=True)
class Stride(Rule):
    """Every (n/b)-th row by loss: ranks floor(u + k n/b) with u uniform in [0, n/b); pi_i = b/n exactly."""

    name: ClassVar[str] = "stride"
    unbiased: ClassVar[bool] = True

    def _draw(
        self, scores: Scores, values: Floats, b: int, rng: np.random.Generator, state: SelectorState | None
    ) -> Draw:
        n = len(values)
        ranks = ((rng.random() + np.arange(b)) * n / b).astype(np.int64)
        return Draw(ascending(values)[np.minimum(ranks, n - 1)], np.full(b, b / n))


@dataclass(frozen=True)
class Stratified(Rule):
    """One uniform draw from each of b consecutive strata by loss; pi_i = 1/size, omega_i = b size / n.

    Where b does not divide n the strata differ in size: equal weights would be biased.
    """

    name: ClassVar[str] = "stratified"
    unbiased: ClassVar[bool] = True

    def _draw(
        self, scores: Scores, values: Floats, b: int, rng: np.random.Generator, state: SelectorState | None
    ) -> Draw:
        n = len(values)
        bounds = np.arange(b + 1) * n // b
        ranks = rng.integers(bounds[:-1], bounds[1:])
        size = np.diff(bounds).astype(np.float64)
        return Draw(ascending(values)[ranks], 1.0 / size, b * size / n)


@dataclass(frozen=True)
class BestOf(Rule):
    """The one of `k` uniform subsets whose mean loss is nearest the window's; the gap falls like 1/k."""

    name: ClassVar[str] = "best_of"

    k: int = 32

    def _draw(
        self, scores: Scores, values: Floats, b: int, rng: np.random.Generator, state: SelectorState | None
    ) -> Draw:
        v = standardised(values)
        tries = [rng.choice(len(v), b, replace=False, shuffle=False) for _ in range(self.k)]
        return Draw(min(tries, key=lambda rows: abs(float(v[rows].sum()))))


@dataclass(frozen=True)
class Nearest(Rule):
    """The b rows whose losses are nearest the mean: degenerate, for comparison only."""

    name: ClassVar[str] = "nearest"

    def _draw(
        self, scores: Scores, values: Floats, b: int, rng: np.random.Generator, state: SelectorState | None
    ) -> Draw:
        return Draw(ranked(np.abs(standardised(values)), rng)[:b])
