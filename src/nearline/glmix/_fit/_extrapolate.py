"""Going on where cycles of block coordinate descent are heading: blocks that compete converge slowly, but steadily.

With s = Θ' − Θ the move of a cycle and p what the descent moved before that cycle, Φ(Θ' + t s + u p) is minimised over
(t, u), a convex function of two numbers: locally optimal momentum, as in conjugate gradients with a cycle as their
preconditioner (Knyazev 2001). Scores move along, so it costs a few passes over them and none over the rows' features.
Φ cannot increase.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nearline.glmix._codes import FULL
from nearline.glmix._effects import Fixed
from nearline.glmix._fit._part import Part
from nearline.glmix._links import Link
from nearline.glmix._state import Block
from nearline.glmix._terms import Terms

Floats = NDArray[np.float64]

STEPS, HALVINGS = 4, 8


class Extrapolation:
    """The descent's place and last moves: `begin` before every cycle, `apply` after it."""

    def __init__(self, parts: Sequence[Part], terms: Terms) -> None:
        self.parts, self.terms = parts, terms
        self._means, self._scores = self._here()
        self._before: tuple[list[Floats], list[Floats]] | None = None

    @staticmethod
    def suits(parts: Sequence[Part], terms: Terms) -> bool:
        """Whether all blocks minimise one smooth Φ: no row is aged or sampled, no product, penalty or bound."""
        smooth = all(not isinstance(p.block.effect, Fixed) or p.block.effect.fit.smooth for p in parts)
        same = all(np.array_equal(p.weight, terms.design.weight) for p in parts)
        whole = all(not isinstance(p.given_up, np.ndarray) for p in parts)
        return len(parts) > 1 and smooth and same and whole and max(terms.of) < 0

    def _here(self) -> tuple[list[Floats], list[Floats]]:
        """Means (E, d) and scores (n) of every block."""
        means = [part.block.mean[part.grouping.codes].astype(np.float64) for part in self.parts]
        return means, [self.terms.terms[part.number] for part in self.parts]

    def apply(self, link: Link) -> bool:
        """Move every block on from the end of a cycle, which began where the last call left it; whether it moved."""
        means, scores = self._here()
        move = [a - b for a, b in zip(means, self._means)], [a - b for a, b in zip(scores, self._scores)]
        past = self._before or ([np.zeros_like(m) for m in means], [np.zeros_like(z) for z in scores])
        t = self._best(link, means, [move, past])
        if t is not None:
            for k, part in enumerate(self.parts):
                part.block.mean[part.grouping.codes] = means[k] + t[0] * move[0][k] + t[1] * past[0][k]
                self.terms.terms[part.number] = scores[k] + t[0] * move[1][k] + t[1] * past[1][k]
        there = self._here()
        self._before = tuple([a - b for a, b in zip(x, y)] for x, y in zip(there, (self._means, self._scores)))  # type: ignore[assignment]
        self._means, self._scores = there
        return t is not None

    def _best(
        self, link: Link, means: list[Floats], directions: list[tuple[list[Floats], list[Floats]]]
    ) -> Floats | None:
        """The t (2) that minimises Φ along two directions, or None where nothing is gained."""
        from nearline.glmix._kernels._csr import slopes_along, total_loss

        label, weight, margin = self.terms.design.label, self.terms.design.weight, self.terms.margin
        changes = np.stack([np.sum(scores, axis=0) for _, scores in directions])
        centred = [m - part.block.belief.mu0(part.block.columns) for m, part in zip(means, self.parts)]
        pull = np.array([self._inner(centred, moved) for moved, _ in directions])
        P = np.array([[self._inner(a, b) for a, _ in directions] for b, _ in directions])
        t, first, second = np.zeros(2), np.zeros(2), np.zeros((2, 2))
        for _ in range(STEPS):
            slopes_along(link.code, label, margin, changes, weight, t, first, second)
            step = np.linalg.lstsq(second + P, -(first + pull + P @ t), rcond=1e-12)[0]
            if not np.isfinite(step).all():
                return None
            t = t + step
            if np.abs(step).max() < 0.05:
                break
        now = total_loss(link.code, label, margin, weight)
        for _ in range(HALVINGS):
            ahead = total_loss(link.code, label, margin + t @ changes, weight) + float(pull @ t + 0.5 * t @ P @ t)
            if ahead < now:
                return t
            t = 0.5 * t
        return None

    def _inner(self, left: list[Floats], right: list[Floats]) -> float:
        """Σ_blocks Σ_e leftᵀ Λ0 right."""
        return sum(_inner(part.block, a, b) for part, a, b in zip(self.parts, left, right))


def _inner(block: Block, left: Floats, right: Floats) -> float:
    if block.kind == FULL and not block.belief.independent:
        return float((left * np.linalg.solve(block.belief.V0(block.columns), right.T).T).sum())
    return float((left * right / block.belief.variance0(block.columns)).sum())
