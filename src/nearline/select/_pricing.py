"""Loss, error and score of a row from its recorded prediction, once the label is known: no forward pass.

The score is the norm of the gradient with respect to the last layer's weights, H_i = sqrt(||h_i||^2 + 1) its input's
share; where the input's norm was not recorded, H_i = 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nearline._errors import DataError
from nearline.select._record import Flag
from nearline.select._scores import Floats, Scores

LOGIT_LIMIT = 30.0


def price_binary(logit: Any, label: Any, norm: Any = None) -> Scores:
    """L = softplus(z) - y z,  e = sigmoid(z) - y,  s = |e| H, with z clamped to +-30.

    Parameters
    ----------
    logit, label : array (n,)
        Recorded z, and y in [0, 1].
    norm : array (n,), optional
        ||h||, the recorded norm of the last layer's input.

    Examples
    --------
    >>> scores = price_binary([0.0, 2.0], [1, 0])
    >>> scores.loss.round(3), scores.error.round(3)
    (array([0.693, 2.127]), array([-0.5  ,  0.881]))
    """
    z = np.clip(np.asarray(logit, dtype=np.float64), -LOGIT_LIMIT, LOGIT_LIMIT)
    y = np.asarray(label, dtype=np.float64)
    error = 1.0 / (1.0 + np.exp(-z)) - y
    return Scores(loss=np.logaddexp(0.0, z) - y * z, error=error, score=np.abs(error) * _input(norm), label=y)


def price_regression(prediction: Any, label: Any, norm: Any = None) -> Scores:
    """L = e^2, e = prediction - y, s = |e| H.

    >>> price_regression([1.0, 5.0], [0.0, 2.0]).loss
    array([1., 9.])
    """
    y = np.asarray(label, dtype=np.float64)
    error = np.asarray(prediction, dtype=np.float64) - y
    return Scores(loss=error**2, error=error, score=np.abs(error) * _input(norm), label=y)


def price_classes(log_p: Any, label: Any, norm: Any = None) -> Scores:
    """L = -log p_y, s = sqrt(sum p^2 - 2 p_y + 1) H from all C log-probabilities; the error is 1 - p_y.

    Parameters
    ----------
    log_p : array (n, C)
        Recorded.
    label : array (n,) of int
        y in 0 .. C - 1.

    Examples
    --------
    >>> price_classes(np.log([[0.5, 0.25, 0.25]]), [0]).score.round(3)
    array([0.612])

    Raises
    ------
    DataError
        A label that is no class.
    """
    log_p, y = np.asarray(log_p, dtype=np.float64), np.asarray(label)
    if len(bad := np.flatnonzero((y < 0) | (y >= log_p.shape[1]))):
        raise DataError(f"{y[bad[0]]} is none of {log_p.shape[1]} classes", column="label", row=int(bad[0]))
    own = log_p[np.arange(len(y)), y.astype(np.int64)]
    return _classes(own, np.exp(2 * log_p).sum(axis=1), y, norm, np.zeros(len(y), bool))


def price_top_k(ids: Any, log_p: Any, square: Any, label: Any, norm: Any = None) -> Scores:
    """As `price_classes` from the k likeliest classes and sum p^2; a label outside gets a bound and the flag CENSORED.

    p_y <= min(p_k, 1 - sum of the stored p), hence l >= -log of that.

    Parameters
    ----------
    ids, log_p : array (n, k)
        Recorded classes and their log-probabilities.
    square : array (n,)
        Recorded sum of p^2 over all classes.

    Examples
    --------
    >>> scores = price_top_k([[7, 3]], np.log([[0.6, 0.2]]), [0.42], [5])
    >>> scores.loss.round(3), Flag(int(scores.flags[0])).name
    (array([1.609]), 'CENSORED')
    """
    ids, log_p, y = np.asarray(ids), np.asarray(log_p, dtype=np.float64), np.asarray(label)
    hit = ids == y[:, None]
    censored = ~hit.any(axis=1)
    rest = np.maximum(1.0 - np.exp(log_p).sum(axis=1), np.exp(-LOGIT_LIMIT))
    bound = np.minimum(log_p.min(axis=1), np.log(rest))
    own = np.where(censored, bound, np.max(np.where(hit, log_p, -np.inf), axis=1))
    return _classes(own, np.asarray(square, dtype=np.float64), y, norm, censored)


def _classes(own: Floats, square: Floats, label: Any, norm: Any, censored: Any) -> Scores:
    p = np.exp(own)
    score = np.sqrt(np.maximum(square - 2 * p + 1, 0.0)) * _input(norm)
    return Scores(loss=-own, error=1.0 - p, score=score, label=label, flags=censored * int(Flag.CENSORED))


def _input(norm: Any) -> Any:
    return 1.0 if norm is None else np.sqrt(np.square(np.asarray(norm, dtype=np.float64)) + 1.0)
