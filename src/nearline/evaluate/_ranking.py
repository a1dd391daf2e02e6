"""How well predictions order the rows, over all of them and within each entity.

Symbols, shapes and errors as in `_losses`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearline._errors import DataError
from nearline.evaluate._rows import average, binary, dot, ratio, starts, sums, totals

Floats = NDArray[np.float64]


def auc(y: ArrayLike, p: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Probability that a positive is scored above a negative, a tie counting one half.

    AUC = Σ_{i: y=1} Σ_{j: y=0} w_i w_j ([p_i > p_j] + ½ [p_i = p_j]) / (Σ_{y=1} w_i Σ_{y=0} w_j), by one sort.
    NaN when a class is absent.

    >>> auc([0, 1, 0, 1], [0.1, 0.4, 0.4, 0.8])
    0.875
    """
    positive, negative = _by_score(*binary(y, p, weight))
    pairs = float(positive.sum() * negative.sum())
    return ratio(dot(positive, np.cumsum(negative) - negative / 2), pairs)


def pr_auc(y: ArrayLike, p: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Area under precision over recall, as a step function (average precision); no interpolation.

    AP = Σ_k (R_k − R_{k−1}) P_k over the distinct scores from the highest down, P_k and R_k being the precision and
    recall of the rows scored at least that. NaN without positives.

    >>> round(pr_auc([0, 1, 0, 1], [0.1, 0.4, 0.35, 0.8]), 6)
    1.0
    """
    positive, negative = (side[::-1] for side in _by_score(*binary(y, p, weight)))
    hits, shown = np.cumsum(positive), np.cumsum(positive + negative)
    precision = np.divide(hits, shown, out=np.zeros_like(hits), where=shown > 0)
    return ratio(dot(positive, precision), float(positive.sum()))


def entity_auc(
    y: ArrayLike, p: ArrayLike, entity: ArrayLike, weight: ArrayLike | None = None
) -> tuple[NDArray[np.generic], Floats, Floats]:
    """AUC within each entity: (entities in sorted order, their AUC, their weight); NaN where one class is absent.

    >>> entity_auc([0, 1, 1, 0, 1], [0.1, 0.9, 0.2, 0.8, 0.5], ["a", "a", "b", "b", "c"])[1].tolist()
    [1.0, 0.0, nan]
    """
    y, p, w = binary(y, p, weight)
    names, code = np.unique(np.asarray(entity), return_inverse=True)
    if len(code) != len(y):
        raise DataError(f"entity has {len(code)} rows, y has {len(y)}", fix="pass one entity per row")
    order = np.lexsort((p, code))
    y, p, w, code = y[order], p[order], w[order], code[order]
    start = starts((p[1:] != p[:-1]) | (code[1:] != code[:-1]), len(p))
    positive, negative, owner = sums(w * y, start), sums(w * (1 - y), start), code[start]
    total, hits = totals(owner, negative, len(names)), totals(owner, positive, len(names))
    below = np.cumsum(negative) - negative / 2 - (np.cumsum(total) - total)[owner]
    won = totals(owner, positive * below, len(names))
    pairs = total * hits
    return names, np.divide(won, pairs, out=np.full(len(names), np.nan), where=pairs > 0), total + hits


def grouped_auc(y: ArrayLike, p: ArrayLike, entity: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Mean of the AUC within each entity, weighted by the entity's weight, over entities with both classes.

    GAUC = Σ_e W_e AUC_e / Σ_e W_e: how well each entity's own rows are ranked, whatever the level of the entity.
    NaN when no entity has both classes. Source: Zhu et al., "Optimized Cost per Click in Taobao", KDD 2017, section 5.

    >>> grouped_auc([0, 1, 1, 0, 1], [0.1, 0.9, 0.2, 0.8, 0.5], ["a", "a", "b", "b", "c"])
    0.5
    """
    _, each, mass = entity_auc(y, p, entity, weight)
    known = ~np.isnan(each)
    return average(each[known], mass[known])


def _by_score(y: Floats, p: Floats, w: Floats) -> tuple[Floats, Floats]:
    """Weight of positives and of negatives at each distinct score, ascending."""
    order = np.argsort(p)
    p = p[order]
    start = starts(p[1:] != p[:-1], len(p))
    # one random gather of ±w is cheaper than one for each class
    signed = np.where(y == 1, w, -w)[order]
    return sums(np.maximum(signed, 0), start), sums(np.maximum(-signed, 0), start)
