"""One sparse design for the rivals that take plain features: the spaces side by side, and their crossings."""

from __future__ import annotations

import numpy as np

from benchmarks._rivals._events import Events, Space, beside

CROSSINGS = ("ub", "ma")
"""User × movie features and movie × user features: the columns of a GLMix, as one linear model sees them."""


def design(events: Events, spaces: str = "umab", crossings: tuple[str, ...] = CROSSINGS) -> Space:
    """All `spaces` and `crossings` side by side, one row per event.

    A crossing of two spaces holds, on each row, the products of all their values.
    """
    crossed = [cross(events.spaces[pair[0]], events.spaces[pair[1]]) for pair in crossings]
    return beside("design", [*(events.spaces[name] for name in spaces), *crossed])


def cross(left: Space, right: Space) -> Space:
    """Row by row outer product: column j of `left` and k of `right` become column j · right.size + k."""
    per_left, per_right = np.diff(left.indptr), np.diff(right.indptr)
    counts = per_left * per_right
    indptr = np.concatenate([[0], np.cumsum(counts)])
    row = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(indptr[-1]) - indptr[row]
    at = left.indptr[row] + place // per_right[row]
    by = right.indptr[row] + place % per_right[row]
    columns = left.indices[at] * right.size + right.indices[by]
    size = left.size * right.size
    return Space(left.name + right.name, indptr, columns, left.values[at] * right.values[by], size)
