"""Rows and weights whose gradient sketches sum to the window's (GradMatch, arXiv 2103.00123)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from nearline.select._rule import Draw, Rule
from nearline.select._scores import Bools, Floats, Ints, Scores, known, scaled
from nearline.select._state import SelectorState


@dataclass(frozen=True)
class GradMatch(Rule):
    """Orthogonal matching pursuit with non-negative weights on recorded sketches a_i.

        min over w >= 0 with at most b entries   || sum_i a_i - sum_i w_i a_i ||^2 + ridge ||w||^2
        omega_i = b w_i / n

    with sketches scaled to a mean square of 1. At most b rows: the pursuit ends when no row points to what is left.

    Parameters
    ----------
    ridge : float
        Keeps single weights small.
    per : {"window", "label"}
        Match the whole window, or every label by itself with its share of the budget.
    """

    name: ClassVar[str] = "gradmatch"
    fixed: ClassVar[bool] = False
    column: ClassVar[str | None] = None

    ridge: float = 0.5
    per: Literal["window", "label"] = "window"

    @property
    def sketched(self) -> bool:
        """Always."""
        return True

    def _values(self, scores: Scores) -> tuple[Floats, Bools]:
        sketch = scores.column("sketch", "rule 'gradmatch'")
        return np.ones(len(sketch)), ~np.isfinite(sketch).all(axis=1)

    def _draw(
        self, scores: Scores, values: Floats, b: int, rng: np.random.Generator, state: SelectorState | None
    ) -> Draw:
        A = np.column_stack([known(x)[0] for x in scores.sketch.T])
        A = scaled(A.ravel()).reshape(A.shape)
        A /= np.sqrt(np.mean(np.sum(A * A, axis=1))) or 1.0
        w = np.zeros(len(A))
        for rows in self._groups(scores, rng):
            w[rows] = _pursued(A[rows], max(round(b * len(rows) / len(A)), 1), self.ridge)
        index = np.flatnonzero(w > 0)
        index = index[np.argsort(-w[index], kind="stable")[:b]]
        return Draw(index, weight=len(index) * w[index] / len(A))

    def _groups(self, scores: Scores, rng: np.random.Generator) -> list[Ints]:
        order = rng.permutation(len(scores))
        if self.per == "window":
            return [order]
        label = scores.column("label", "gradmatch per label")[order]
        return [order[label == y] for y in np.unique(label[np.isfinite(label)])]


def _pursued(A: Floats, b: int, ridge: float) -> Any:
    from nearline.select._kernels import pursue

    return pursue(np.ascontiguousarray(A), A.sum(axis=0), b, ridge)
