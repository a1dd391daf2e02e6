"""What age does to a prediction: loss against how old the model was, or how long an entity was not heard of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearline._errors import DataError
from nearline.evaluate._clustered import clustered_ratio
from nearline.evaluate._rows import floats, weights

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Staleness:
    """Mean loss at each age, with its interval; ages without rows are left out (arrays of one length)."""

    lower: Floats
    upper: Floats
    rows: NDArray[np.int64]
    loss: Floats
    low: Floats
    high: Floats


def staleness_curve(
    loss: ArrayLike,
    age: ArrayLike,
    edges: ArrayLike,
    weight: ArrayLike | None = None,
    clusters: Iterable[ArrayLike] = (),
    level: float = 0.95,
) -> Staleness:
    """Weighted mean loss of the rows with edges[j] ≤ age < edges[j + 1].

    Give losses to see what stale predictions cost, or differences of two models' losses to see what freshness gains.

    Parameters
    ----------
    loss, age
        Of each row (n), in any unit; rows of infinite or NaN age (before the first update) are left out.
    clusters
        Entity codes (n) whose rows depend on each other, as for `clustered_ratio`.

    Examples
    --------
    >>> curve = staleness_curve(loss=[1.0, 1.0, 2.0, 4.0], age=[0, 5, 10, 90], edges=[0, 10, 100])
    >>> curve.loss.tolist(), curve.rows.tolist()
    ([1.0, 3.0], [2, 2])
    """
    loss, age, cuts = floats(loss, "loss"), np.asarray(age, np.float64), floats(edges, "edges")
    if age.shape != loss.shape:
        raise DataError(f"age has shape {age.shape}, loss {loss.shape}", column="age", fix="pass one age per row")
    if (np.diff(cuts) <= 0).any():
        raise DataError("edges must rise", column="edges", fix="sort the edges")
    w, codes = weights(weight, len(loss)), [np.asarray(c) for c in clusters]
    parts = [np.flatnonzero((age >= low) & (age < high)) for low, high in pairwise(cuts)]
    held = [k for k, rows in enumerate(parts) if w[rows].sum() > 0]
    found = [clustered_ratio((w * loss)[parts[k]], w[parts[k]], [c[parts[k]] for c in codes]) for k in held]
    ends = np.array([ratio.interval(level) for ratio in found]).reshape(-1, 2)
    return Staleness(
        cuts[:-1][held], cuts[1:][held], np.array([len(parts[k]) for k in held], np.int64),
        np.array([ratio.estimate for ratio in found]), ends[:, 0], ends[:, 1],
    )  # fmt: skip


def age_of_model(time: ArrayLike, updated: ArrayLike) -> Floats:
    """How long before each row (n) the model was last updated; infinite before the first update.

    >>> age_of_model([1.0, 5.0, 12.0], updated=[2.0, 10.0]).tolist()
    [inf, 3.0, 2.0]
    """
    time, updated = floats(time, "time"), np.sort(floats(updated, "updated"))
    last = np.searchsorted(updated, time, side="right") - 1
    return np.where(last >= 0, time - updated[np.maximum(last, 0)] if len(updated) else 0.0, np.inf)


def age_of_entity(time: ArrayLike, entity: ArrayLike) -> Floats:
    """How long before each row (n, in order of time) its entity had its last one; infinite at its first.

    >>> age_of_entity([1.0, 2.0, 5.0], ["a", "b", "a"]).tolist()
    [inf, inf, 4.0]
    """
    clock = floats(time, "time")
    code = np.unique(np.asarray(entity), return_inverse=True)[1]
    order = np.argsort(code, kind="stable")
    age = np.full(len(clock), np.inf)
    again = np.flatnonzero(np.diff(code[order]) == 0) + 1
    age[order[again]] = clock[order[again]] - clock[order[again - 1]]
    return age
