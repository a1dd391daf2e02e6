"""What a draw balances, and the order in which it meets the rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nearline._errors import ConfigError
from nearline.select._scores import COLUMNS, Floats, Ints, Scores, known

SLICES = 40
"""Slices that are balanced one by one: by their errors those with the largest sums of |e_i|, by their rows those with
most of them. The cube method takes O(n Q^3): 10,000 rows a tenth of a second with so many, two seconds with 250."""


def balanced(names: Sequence[str]) -> tuple[str, ...]:
    """The columns to balance, each of them one of `Scores`, or "slice_error".

    Raises
    ------
    ConfigError
        One that is neither.
    """
    for name in names:
        if name not in (*COLUMNS, "slice_error"):
            known_names = ", ".join([*COLUMNS, "slice_error"])
            raise ConfigError(f"balance: Scores has no column {name!r}; it has {known_names}")
    return tuple(names)


def auxiliaries(scores: Scores, names: tuple[str, ...]) -> Floats:
    """The columns to balance side by side, (n, q), unknown values at their mean.

    A slice becomes indicators of the `SLICES` most frequent ones, and one of all others together; "slice_error" becomes
    e_i 1[i in slice] for each of the `SLICES` largest, so that the errors of each add up: what its embedding, or its
    random effect, learns from.

    >>> auxiliaries(Scores(loss=[0.5, 1.5], slice=[3, 4]), ("loss", "slice"))
    array([[0.5, 1. , 0. ],
           [1.5, 0. , 1. ]])
    >>> auxiliaries(Scores(error=[0.5, -0.25, 0.5], slice=[3, 4, 3]), ("slice_error",))
    array([[ 0.5 ,  0.  ],
           [ 0.  , -0.25],
           [ 0.5 ,  0.  ]])
    """
    parts: list[Floats] = []
    for name in names:
        if name == "slice_error":
            parts += _errors_by_slice(scores)
            continue
        values = scores.column(name, f"balancing {name!r}")
        if name == "slice":
            values = _indicators(values)
        parts += [known(x)[0] for x in values.reshape(len(values), -1).T]
    return np.column_stack(parts) if parts else np.empty((len(scores), 0))


def _indicators(slices: Ints) -> Floats:
    """1[i in slice] of the most frequent slices, in the order of their values, and of the others together at the end.

    Of slices that are as frequent the one with the lower value comes first.
    """
    values, code, count = np.unique(slices, return_inverse=True, return_counts=True)
    own = np.sort(np.argsort(-count, kind="stable")[:SLICES])
    place = np.full(len(values), len(own))
    place[own] = np.arange(len(own))
    return np.asarray(place[code][:, None] == np.unique(place), np.float64)


def _errors_by_slice(scores: Scores) -> list[Floats]:
    error = known(scores.column("error", "balancing 'slice_error'"))[0]
    _, code = np.unique(scores.column("slice", "balancing 'slice_error'"), return_inverse=True)
    largest = np.argsort(-np.bincount(code, np.abs(error)), kind="stable")[:SLICES]
    return [np.where(code == one, error, 0.0) for one in largest]


def by_slice(group: Ints, error: Floats, rng: np.random.Generator) -> Ints:
    """Positions slice after slice, the slices in random order; within one by error, rising and falling in turn.

    A draw that goes along takes from every slice its share to within a row, spread over its errors (serpentine order,
    implicit stratification).

    >>> by_slice(np.array([5, 5, 5]), np.array([0.5, 0.0, -0.5]), np.random.default_rng(0)).tolist()
    [2, 1, 0]
    """
    _, code = np.unique(group, return_inverse=True)
    place, mixed = rng.permutation(int(code.max()) + 1)[code], rng.permutation(len(group))
    key = np.where(place % 2 == 0, error, -error)
    return np.asarray(mixed[np.lexsort((key[mixed], place[mixed]))], np.int64)
