"""The row losses every solve shares: ℓ(y, η), its derivatives and the mean, for the logit, identity and log links."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearline._errors import ConfigError, DataError

Floats = NDArray[np.float64]
RowFunction = Callable[[Floats, Floats], Floats]


@dataclass(frozen=True, slots=True)
class Link:
    """One link and its negative log-likelihood per row, as functions of label y and margin η.

    ======== ================== ====== ========== ==============
    name     ℓ(y, η)            g      D          c3 = sup|∂³ℓ|
    ======== ================== ====== ========== ==============
    logit    log(1 + e^η) − yη  p − y  p(1 − p)   1/(6√3)
    identity ½(y − η)²          η − y  1          0
    log      e^η − yη           e^η−y  e^η        unbounded
    ======== ================== ====== ========== ==============

    An identity link's dispersion φ divides the row weight: the caller passes w/φ. `code` is the number by which
    the compiled kernels know the link.

    Examples
    --------
    >>> logit = by_name("logit")
    >>> float(logit.loss(np.array([1.0]), np.array([-800.0]))[0])
    800.0
    >>> float(logit.gradient(np.array([1.0]), np.array([-800.0]))[0])
    -1.0
    """

    name: str
    code: int
    c3: float
    loss: RowFunction
    gradient: RowFunction
    curvature: RowFunction
    mean: Callable[[Floats], Floats]
    _labels: Callable[[Floats], Floats | None]

    def labels(self, y: ArrayLike) -> Floats:
        """Labels in the coding of the loss: {0, 1} for logit (also from {−1, +1}), finite reals, counts ≥ 0 for log.

        Raises
        ------
        DataError
            Where a label is outside the set; nothing is mapped silently to a class.

        Examples
        --------
        >>> by_name("logit").labels([-1, 1]).tolist()
        [0.0, 1.0]
        >>> by_name("identity").labels([3.5]).tolist()
        [3.5]
        """
        given = np.asarray(y, dtype=np.float64)
        coded = self._labels(given) if np.isfinite(given).all() else None
        if coded is None:
            raise DataError(f"labels do not suit the {self.name} link", fix=_LABEL_FIX[self.name])
        return coded


_LABEL_FIX = {
    "logit": "use 0 and 1 (or -1 and +1, never mixed)",
    "identity": "use finite numbers",
    "log": "use finite numbers >= 0",
}


def _sigmoid(eta: Floats) -> Floats:
    e = np.exp(-np.abs(eta))
    return np.where(eta >= 0.0, 1.0, e) / (1.0 + e)


def _logit_loss(y: Floats, eta: Floats) -> Floats:
    # max(η, 0) − yη is written per sign so that a right, certain row costs exactly log1p(e^−|η|).
    return np.where(eta >= 0.0, (1.0 - y) * eta, -y * eta) + np.log1p(np.exp(-np.abs(eta)))


def _logit_gradient(y: Floats, eta: Floats) -> Floats:
    tail = _sigmoid(-np.abs(eta))
    return np.where(eta >= 0.0, (1.0 - y) - tail, tail - y)


def _logit_curvature(_: Floats, eta: Floats) -> Floats:
    e = np.exp(-np.abs(eta))
    return e / (1.0 + e) ** 2


def _exp(eta: Floats) -> Floats:
    # An overflow to infinity is found by the finite checks of whoever solves; it is no warning here.
    with np.errstate(over="ignore"):
        return np.exp(eta)


def _binary(y: Floats) -> Floats | None:
    if np.isin(y, (0.0, 1.0)).all():
        return y
    return (y + 1.0) / 2.0 if np.isin(y, (-1.0, 1.0)).all() else None


LOGIT = Link(
    "logit", 0, 1.0 / (6.0 * math.sqrt(3.0)), _logit_loss, _logit_gradient, _logit_curvature, _sigmoid, _binary
)
IDENTITY = Link(
    "identity",
    1,
    0.0,
    lambda y, eta: 0.5 * (y - eta) ** 2,
    lambda y, eta: eta - y,
    lambda _, eta: np.ones_like(eta),
    lambda eta: eta,
    lambda y: y,
)
LOG = Link(
    "log",
    2,
    math.inf,
    lambda y, eta: _exp(eta) - y * eta,
    lambda y, eta: _exp(eta) - y,
    lambda _, eta: _exp(eta),
    _exp,
    lambda y: y if (y >= 0.0).all() else None,
)
_LINKS = {link.name: link for link in (LOGIT, IDENTITY, LOG)}


def by_name(name: str) -> Link:
    """The link called `name`: "logit", "identity" or "log".

    Raises
    ------
    ConfigError
        When there is no such link.

    Examples
    --------
    >>> by_name("log").code
    2
    """
    if name not in _LINKS:
        raise ConfigError(f"no link is called {name!r}; use one of {', '.join(map(repr, _LINKS))}")
    return _LINKS[name]
