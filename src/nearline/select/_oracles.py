"""Loss matching solved exactly, for tests and small windows: dynamic programming and a mixed-integer program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nearline._errors import ConfigError
from nearline.select._rule import Draw, Rule
from nearline.select._scores import Floats, Ints, Scores, standardised
from nearline.select._state import SelectorState


@dataclass(frozen=True)
class Dp(Rule):
    """Exact up to quantisation: which sums can b rows of q_i = round((l_i - min l)/delta) have, delta = range/levels.

    Of the reachable sums the one nearest the target is taken; the mean loss is off by at most delta/2 beyond the
    optimum's. O(n b^2 levels) time, O(b^2 levels) memory: for n up to about a thousand.

    Parameters
    ----------
    levels : int
        Steps between the smallest and the largest loss.
    """

    name: ClassVar[str] = "dp"

    levels: int = 256

    def _draw(
        self, scores: Scores, values: Floats, b: int, rng: np.random.Generator, state: SelectorState | None
    ) -> Draw:
        order = rng.permutation(len(values))
        v = standardised(values)[order] - standardised(values).min()
        delta = float(v.max()) / self.levels or 1.0
        q = np.rint(v / delta).astype(np.int64)
        return Draw(order[subset(q, b, b * float(v.mean()) / delta)])


def subset(q: Ints, b: int, target: float) -> Ints:
    """B positions of the whole numbers q >= 0 whose sum is as near `target` as any.

    first[j, t] is the first item with which j items of sum t exist; each step back looks for what existed before it.

    >>> subset(np.array([1, 5, 9, 20]), 2, 10.0).tolist()
    [0, 2]
    """
    n, most = len(q), int(min(np.sort(q)[-b:].sum(), np.ceil(2 * target) + 1))
    first = np.full((b + 1, most + 1), n, np.int32)
    first[0, 0] = -1
    for i, step in enumerate(q.tolist()):
        if step <= most:
            new = (first[:-1, : most + 1 - step] < i) & (first[1:, step:] == n)
            first[1:, step:][new] = i
    sums = np.flatnonzero(first[b] < n)
    t = int(sums[np.argmin(np.abs(sums - target))])
    chosen = np.empty(b, np.int64)
    for j in range(b, 0, -1):
        chosen[j - 1] = first[j, t]
        t -= int(q[chosen[j - 1]])
    return chosen


@dataclass(frozen=True)
class Milp(Rule):
    """Exact: minimise u subject to -b u <= sum_i z_i l_i - (b/n) sum_i l_i <= b u, sum_i z_i = b, z_i in {0, 1}.

    Needs SciPy. A tenth of a second at n = 128; to prove the last digit optimal takes far longer.

    Parameters
    ----------
    tol : float
        How far the gap may be above the least, in standard deviations of the loss.

    Raises
    ------
    ConfigError
        SciPy is not installed.
    """

    name: ClassVar[str] = "milp"

    tol: float = 1e-4

    def _draw(
        self, scores: Scores, values: Floats, b: int, rng: np.random.Generator, state: SelectorState | None
    ) -> Draw:
        order = rng.permutation(len(values))
        return Draw(order[_solve(standardised(values)[order], b, self.tol)])


def _solve(v: Floats, b: int, tol: float) -> Ints:
    try:
        from scipy.optimize import Bounds, LinearConstraint, milp
    except ImportError as error:
        raise ConfigError(
            "rule 'milp' needs SciPy: pip install nearline[bench], or take rule 'dp' or 'swap'"
        ) from error
    n = len(v)
    z, u, one = np.append(np.ones(n), [0.0, 0.0]), np.append(np.zeros(n), [b, 0.0]), np.append(np.zeros(n), [0.0, 1.0])
    total = np.append(v, [0.0, 0.0])
    # The solver knows a relative tolerance only: a constant one in the objective makes it an absolute one.
    solved = milp(
        u / b + one,
        integrality=z,
        bounds=Bounds(one, np.append(np.ones(n), [np.inf, 1.0])),
        constraints=[
            LinearConstraint(total - u, -np.inf, 0.0),
            LinearConstraint(total + u, 0.0, np.inf),
            LinearConstraint(z, b, b),
        ],
        options={"mip_rel_gap": tol},
    )
    return np.flatnonzero(solved.x[:n] > 0.5)
