"""What fresh scores are to be expected of old records: measured by label and size of the record, at no forward pass.

The best design draws in proportion to the root of the expected square of the fresh gradient norm, given everything that
is recorded. A line through all records (`_trust`) knows that old ones say less; cells know more: that a positive is
still worth a backward pass when its record is worthless, and that what was easy then may be hard now.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nearline.select._scores import Floats, Ints
from nearline.select._state import SelectorState
from nearline.select._trust import KEPT, kappa

EDGES = 2.0 ** np.arange(-3, 4)
"""Between bins of the recorded score over its mean."""
CELLS = 3 * (len(EDGES) + 1)
"""Bins for labels that are positive, that are not, and that are unknown."""
PRIOR = 10.0
"""Chosen rows that the line through all records is worth in a cell."""


def cells(recorded: Floats, label: Floats | None) -> Ints:
    """The cell of each row: bin of s_i / mean(s), and whether its label is positive, is not, or is not known.

    >>> cells(np.array([0.1, 1.5, 1.5]), np.array([0.0, 0.0, 1.0])).tolist()
    [0, 4, 12]
    """
    bins = np.searchsorted(EDGES, recorded, side="right")
    kind = np.full(len(recorded), 2) if label is None else np.where(np.isnan(label), 2, label > 0).astype(np.int64)
    return np.asarray(kind * (len(EDGES) + 1) + bins, dtype=np.int64)


def expected(state: SelectorState, recorded: Floats, cell: Ints) -> Floats:
    """√E[f² | record, label] up to a factor: (1 − κ) + κ s times √((Σ w f² + m) / (Σ w line² + m)) of its cell."""
    fresh, line = _sums(state)
    return np.asarray(_line(state, recorded) * np.sqrt((fresh + PRIOR) / (line + PRIOR))[cell])


def observed(state: SelectorState, recorded: Floats, cell: Ints, fresh: Any, design: Floats) -> SelectorState:
    """The state with one window's squares of fresh scores and of the line by cell, earlier windows discounted.

    Parameters
    ----------
    recorded, fresh : array (b,)
        s_i / mean(s) and f_i of the chosen rows.
    cell : array (b,)
        From `cells`.
    design : array (b,)
        Weights proportional to 1/π_i.
    """
    f = np.asarray(fresh, dtype=np.float64)
    seen = np.isfinite(f) & np.isfinite(recorded)
    w, squares, line2 = design[seen], f[seen] ** 2, _line(state, recorded[seen]) ** 2
    level = float(w @ squares)
    if level <= 0:
        return state
    squares = squares * float(w @ line2) / level
    w = w * len(w) / w.sum()
    new = np.stack([np.bincount(cell[seen], w * x, CELLS) for x in (squares, line2)])
    return state.put(cells=KEPT * np.stack(_sums(state)) + new)


def _line(state: SelectorState, recorded: Floats) -> Floats:
    trust = float(np.clip(kappa(state), 0.0, 1.0))
    return np.asarray(1.0 - trust + trust * recorded)


def _sums(state: SelectorState) -> tuple[Floats, Floats]:
    sums = state.get("cells", np.zeros((2, CELLS)))
    return sums[0], sums[1]
