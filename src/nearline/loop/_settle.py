"""What one tick has to learn and to undo: the net effect of its joined rows, per prediction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearline.join import Joined

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Settled:
    """Row numbers of a `Joined` by what follows from them.

    A prediction with several rows in one tick counts once: what was in force before the tick is undone, what is in
    force after it is learned. Its earlier rows are superseded.

    learn       int64 (k)  rows to learn; nothing of their predictions is to be undone
    undo        int64 (m)  rows whose prediction has something to undo, in `previous`
    previous    float64 (m)  the label to undo
    superseded  int64 (s)  rows of the same predictions that no longer count
    """

    learn: Ints
    undo: Ints
    previous: NDArray[np.float64]
    superseded: Ints


def settle(joined: Joined) -> Settled:
    """Net effect of a tick, rows in the order of the tick.

    Examples
    --------
    >>> from nearline.join import Outcomes, Policy, State, step
    >>> state = State(Policy(window=60.0))
    >>> rows = Outcomes.of([0, 1, 2], [0, 0, 1], [5.0, 6.0, 6.0], [1.0, 0.0, 1.0])
    >>> found = settle(step(state, 0, [0.0, 1.0], rows, watermark=6.0))
    >>> found.learn.tolist(), found.undo.tolist(), found.superseded.tolist()
    ([1, 2], [], [0])
    """
    acts = np.flatnonzero(~np.isnan(joined.label) | ~np.isnan(joined.previous))
    _, first, which = np.unique(joined.prediction[acts], return_index=True, return_inverse=True)
    last = np.zeros(len(first), np.int64)
    last[which] = np.arange(len(acts))  # the last write wins
    before, after = joined.previous[acts[first]], joined.label[acts[last]]
    rows = acts[last]
    undoes = ~np.isnan(before) & (before != after)
    learns = np.isnan(before) & ~np.isnan(after)
    order = np.argsort(rows[undoes])
    counted = np.zeros(len(joined), bool)
    counted[rows[undoes | learns]] = True
    return Settled(np.sort(rows[learns]), rows[undoes][order], before[undoes][order], acts[~counted[acts]])
