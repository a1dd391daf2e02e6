"""What training cost and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(slots=True)
class Passes:
    """Rows that went forward and backward through a network since it was made.

    A backward pass costs about two forward passes, so that training on n rows costs 3n (`cost`).

    Examples
    --------
    >>> Passes(forwards=100, backwards=10).cost
    120
    """

    forwards: int = 0
    backwards: int = 0

    @property
    def cost(self) -> int:
        """Forward passes, a backward pass counted as two."""
        return self.forwards + 2 * self.backwards


@dataclass(frozen=True, slots=True)
class Trained:
    """What one call of `fit` or `partial_fit` did.

    Attributes
    ----------
    rows, steps
        Rows per pass, and optimiser steps in all.
    loss
        Weighted mean loss per pass, each row's as it was just before the step that used it.
    margin, norm
        Fresh margin and fresh H = √(‖h‖² + 1) of every row (n), from the last pass's own forward: what a selector
        compares with the recorded ones.
    """

    rows: int
    steps: int
    loss: tuple[float, ...]
    margin: Floats
    norm: Floats
