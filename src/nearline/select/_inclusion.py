"""Inclusion probabilities: as near to proportional to the scores as a fixed size and a uniform floor allow."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from nearline.select._scores import Floats

Mix: TypeAlias = Literal["before_cap", "after_cap"]

_LEAST = 1e-18  # a row that no score favours can still be needed to fill the budget


def water_fill(q: Floats, b: int) -> Floats:
    """pi_i = min(1, c q_i) with c such that sum pi = b.

    With q descending and m the smallest number of capped rows for which c = (b - m) / sum_{i>m} q_i gives
    c q_(m+1) <= 1, the first m have pi = 1. O(n + b log b).

    Parameters
    ----------
    q : array (n,)
        Non-negative shares; all zero means equal.
    b : int
        Rows wanted, 0 <= b <= n.

    Examples
    --------
    >>> water_fill(np.array([8.0, 1.0, 1.0]), 2)
    array([1. , 0.5, 0.5])
    """
    n = len(q)
    if b >= n or b == 0:
        return np.full(n, float(b > 0))
    top_q = float(q.max())
    if top_q <= 0:
        return np.full(n, b / n)
    q = np.maximum(q / top_q, _LEAST)
    split = np.partition(q, n - b)
    low, top = split[: n - b], np.sort(split[n - b :])[::-1]
    rest = float(low.sum()) + np.cumsum(top[::-1])[::-1]  # rest[m] = sum of q without the m largest
    fits = (b - np.arange(b)) * top <= rest
    m = int(np.argmax(fits)) if fits.any() else b - 1
    c = (b - m) / rest[m]
    pi: Floats = np.minimum(c * q, 1.0)
    return pi


def mixed(s: Floats, b: int, floor: float, mix: Mix = "before_cap") -> Floats:
    """Inclusion probabilities for scores s with uniform share lambda = `floor` (specification, section 4.1).

    before_cap: pi = water_fill(lambda/n + (1 - lambda) s / sum s);
    after_cap:  pi = lambda b/n + (1 - lambda) water_fill(s), which always keeps both bounds on the second moment.
    Either way pi_i >= min(1, lambda b/n), so that no weight b/(n pi_i) exceeds 1/lambda.

    Examples
    --------
    >>> mixed(np.array([8.0, 1.0, 1.0, 0.0]), 2, floor=1.0)
    array([0.5, 0.5, 0.5, 0.5])
    """
    n, largest = len(s), float(s.max(initial=0.0))
    if largest <= 0 or floor >= 1:
        return np.full(n, b / n)
    s = s / largest
    if mix == "after_cap":
        return floor * b / n + (1 - floor) * water_fill(s, b)
    return water_fill(floor / n + (1 - floor) * s / s.sum(), b)
