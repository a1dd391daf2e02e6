"""Robust trimming for regression: rows whose error no noise explains, unless there are too many of them to be noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearline.select._scores import Bools, Floats, Ints

_LEAST = 1e-12
_NORMAL = 1.4826


@dataclass(frozen=True, eq=False)
class Trimmed:
    """Which rows stay (n,), and whether a group was too large to be dropped: a change of the world, not noise."""

    keep: Bools
    alarm: bool


def trimmed_by_mad(error: Floats, slices: Ints | None = None, cut: float = 5.0, most: float = 0.1) -> Trimmed:
    """Drop i when |e_i - M| > c s, with M = median(e) and s = 1.4826 median|e - M|, in every slice by itself.

    Where more than `most` of a slice would go nothing is dropped there and `alarm` is raised. Unknown errors stay.

    Examples
    --------
    >>> error = np.r_[np.linspace(-1, 1, 99), 20.0]
    >>> np.flatnonzero(~trimmed_by_mad(error).keep)
    array([99])
    """
    keep, alarm = np.ones(len(error), bool), False
    codes = np.zeros(len(error), np.int64) if slices is None else slices
    first = np.unique(np.sort(codes), return_index=True)[1]
    for rows in np.split(np.argsort(codes, kind="stable"), first[1:]):
        out = rows[_outlying(error[rows], cut)]
        if len(out) > most * len(rows):
            alarm = True
        else:
            keep[out] = False
    return Trimmed(keep, alarm)


def _outlying(error: Floats, cut: float) -> Bools:
    known = error[np.isfinite(error)]
    if not len(known):
        return np.zeros(len(error), bool)
    middle = float(np.median(known))
    scale = max(_NORMAL * float(np.median(np.abs(known - middle))), _LEAST)
    return np.asarray(np.abs(error - middle) > cut * scale)
