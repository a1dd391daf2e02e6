"""The stale model and the fixed effect alone, scored on the same traffic as the live model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearline.features import Design
from nearline.glmix import Scorer

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shadow:
    """Scores (n, link scale) that other models would have given to the rows of a tick."""

    stale: Floats
    fixed: Floats


def shadow(stale: Scorer, fixed: Scorer, table: Any, design: Design) -> Shadow:
    """Score rows before they are learned: `table` by the stale model, `design` by the learner's fixed effect."""
    fixed.refresh()
    known, _ = stale.model.design(table, learn=False)
    return Shadow(stale.score(known).margin, fixed.score(design).fixed)
