"""Draws of a fixed size with prescribed inclusion probabilities."""

from __future__ import annotations

import numpy as np

from nearline.select._scores import Floats, Ints, scaled

LANDING = 20
_CERTAIN = 1.0 - 1e-9


def systematic(pi: Floats, rng: np.random.Generator, order: Ints | None = None) -> Ints:
    """Rows whose stretch of the cumulated pi holds one of u, u + 1, ..., with u uniform in (0, 1).

    P(i chosen) = pi_i exactly, and exactly b = sum pi rows are chosen; O(n). In random order by default; an `order` by
    something that matters spreads the draw evenly over it.

    Examples
    --------
    >>> len(systematic(np.full(100, 0.1), np.random.default_rng(0)))
    10
    """
    order = rng.permutation(len(pi)) if order is None else order
    share, u = pi[order], rng.random()
    certain = share > _CERTAIN
    if certain.any():
        taken, order, share = order[certain], order[~certain], share[~certain]
    else:
        taken = order[:0]
    size = round(float(share.sum()))
    if size == 0:
        return taken
    passed = np.cumsum(share)
    passed *= size / passed[-1]
    at = np.searchsorted(passed, u + np.arange(size), side="right")
    return np.concatenate([taken, order[np.minimum(at, len(order) - 1)]])


def pivotal(pi: Floats, rng: np.random.Generator) -> Ints:
    """Rows left by duels of two undecided ones, each moving mass until one of the two is 0 or 1 (Deville, Tille 1998).

    O(n); the order is random.

    Examples
    --------
    >>> len(pivotal(np.full(100, 0.1), np.random.default_rng(0)))
    10
    """
    from nearline.select._kernels import duel

    order = rng.permutation(len(pi))
    kept: Ints = order[duel(pi[order], rng.random(len(pi)))]
    return kept


def cube(pi: Floats, auxiliaries: Floats, rng: np.random.Generator, order: Ints | None = None) -> Ints:
    """Rows with sum_S x_i / pi_i = sum x_i up to the landing, of exactly b = sum pi (Deville and Tille 2004).

    The fast flight phase: of Q + 1 undecided rows, Q = q + 1, a null vector u of their rows a_i / pi_i moves pi
    until one is decided, in the direction that keeps E[pi]. When too few are left the last auxiliary is dropped, the
    size last of all. O(n Q^3).

    Parameters
    ----------
    pi : array (n,)
        Inclusion probabilities whose sum is a whole number.
    auxiliaries : array (n, q)
        What to balance, the most important first.
    order : array (n,), optional
        In which the flight meets the rows: it balances neighbours against each other. Random where not given, with the
        lightest rows last.

    Examples
    --------
    >>> x = np.arange(100.0)
    >>> rows = cube(np.full(100, 0.1), x[:, None], np.random.default_rng(0))
    >>> len(rows), bool(abs(x[rows].mean() - x.mean()) < 8)
    (10, True)
    """
    from nearline.select._kernels import fly

    columns = [scaled(x) / np.maximum(pi, 1e-300) for x in auxiliaries.T if x.any()]
    rows = np.column_stack([np.ones(len(pi)), *columns])
    if order is None:
        order = _light_last(np.square(rows[:, 1:]).sum(axis=1), LANDING * rows.shape[1], rng)
    p, rows = pi[order], rows[order]
    kept: Ints = order[fly(p, rows, rng.random(len(p) + 1))]
    return kept


def _light_last(weight: Floats, tail: int, rng: np.random.Generator) -> Ints:
    """A random order with the `tail` lightest rows last: what the landing leaves unbalanced is then small."""
    order = rng.permutation(len(weight))
    light = weight[order] <= np.partition(weight, min(tail, len(weight)) - 1)[min(tail, len(weight)) - 1]
    return np.concatenate([order[~light], order[light]])


def poisson(pi: Floats, rng: np.random.Generator) -> Ints:
    """Every row by itself with probability pi_i: a random size with mean sum pi."""
    return np.flatnonzero(rng.random(len(pi)) < pi)


def by_keys(weight: Floats, b: int, rng: np.random.Generator) -> Ints:
    """B rows drawn one after another without replacement, each time proportional to `weight` (Efraimidis, Spirakis).

    Examples
    --------
    >>> sorted(by_keys(np.array([0.0, 1.0, 1.0]), 2, np.random.default_rng(0)).tolist())
    [1, 2]
    """
    keys = rng.standard_exponential(len(weight)) / np.maximum(weight, 1e-300)
    return np.argpartition(keys, b)[:b] if b < len(weight) else np.arange(len(weight))
