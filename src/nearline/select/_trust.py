"""How far to trust what was recorded: the uniform share lambda, measured at no cost from the trainer's own forward."""

from __future__ import annotations

from typing import Any

import numpy as np

from nearline.select._scores import Floats
from nearline.select._state import SelectorState

KEPT = 0.95


def observed(state: SelectorState, recorded: Floats, fresh: Any, design: Floats, kept: float = KEPT) -> SelectorState:
    """The state with one window's moments of fresh on recorded scores, earlier windows discounted by `kept`.

    Parameters
    ----------
    state : SelectorState
        Holds the discounted sums of 1, x, y, x^2, xy under the name "trust".
    recorded, fresh : array (b,)
        s_i / mean(s) and f_i of the chosen rows.
    design : array (b,)
        Weights proportional to 1/pi_i, which make the chosen rows stand for the window.
    """
    f = np.asarray(fresh, dtype=np.float64)
    seen = np.isfinite(f) & np.isfinite(recorded)
    w, x, y = design[seen], recorded[seen], f[seen]
    total, level = float(w.sum()), float(w @ y)
    if total <= 0 or level <= 0:
        return state
    w, y = w / total, y * total / level
    moments = np.array([1.0, w @ x, w @ y, w @ (x * x), w @ (x * y)])
    return state.put(trust=kept * state.get("trust", np.zeros(5)) + moments)


def kappa(state: SelectorState | None) -> float:
    """Slope of f/mean(f) on s/mean(s), least squares over the discounted windows; 0 before the first.

    1: the records say what fresh scores would; 0: they say nothing, and uniform draws are best.

    Examples
    --------
    >>> s = np.array([0.5, 1.0, 1.5])
    >>> round(kappa(observed(SelectorState(), s, 3 * s, np.ones(3))), 6)
    1.0
    """
    if state is None or not len(state.get("trust")):
        return 0.0
    one, x, y, xx, xy = state.get("trust")
    spread = xx / one - (x / one) ** 2
    return float((xy / one - x * y / one**2) / spread * (x / y)) if spread > 1e-12 * xx / one else 0.0


def uniform_share(state: SelectorState | None, least: float) -> float:
    """Lambda = clip(1 - kappa, lambda_0, 1); lambda_0 where no state is kept, 1 before the first fresh scores.

    >>> uniform_share(None, 0.2), uniform_share(SelectorState(), 0.2)
    (0.2, 1.0)
    """
    return least if state is None else float(np.clip(1.0 - kappa(state), least, 1.0))
