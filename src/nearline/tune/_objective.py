"""What a setting is worth: the progressive loss of a stream under it, read off at growing prefixes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nearline.features import Design
from nearline.glmix import GLMix, adjust_priors
from nearline.glmix._links import by_name
from nearline.glmix._replay import stops
from nearline.glmix._state import Belief
from nearline.tune._space import Settings, Space

Floats = NDArray[np.float64]

REDUCTION = 3
"""Every rung of successive halving is so many times as long as the one before, and of so many trials one goes on."""
RUNGS = 3

Report = Callable[[int, float], bool]
"""Told the rung (in units of the first) and the mean loss so far; answers whether the trial ends here."""


class Objective:
    """Progressive losses of one stream under any settings of a space, from the learned beliefs of each structure.

        loss_n = ℓ(y_n, z_n),   z_n predicted before row n is learned

    Parameters
    ----------
    model
        Knows the design's vocabulary; used as scratch, its posteriors and beliefs change.
    learned
        Beliefs by block name, for each prior structure; the first is the default.
    every
        Update interval where the space has no axis for it.
    """

    def __init__(
        self, model: GLMix, space: Space, learned: Mapping[str, Mapping[str, Belief]], every: int | str
    ) -> None:
        self.model, self.space, self.learned, self.every = model, space, learned, every

    def prepare(self, settings: Settings) -> None:
        """Give the model the priors of these settings, and no memory."""
        restore(self.model, self.learned[str(settings.get("structure", next(iter(self.learned))))])
        adjust_priors(self.model, self.space.changes(settings))

    def losses(self, settings: Settings, design: Design, report: Report | None = None) -> Floats | None:
        """Loss (n) of every row of a stream; None where `report` ended it before its last row.

        A candidate whose scores are not finite has an infinite loss.
        """
        self.prepare(settings)
        ends = stops(design.time, self._interval(settings))
        loss = np.zeros(design.rows)
        start = 0
        for units, stop in rungs(ends, report is not None):
            part = design if (start, stop) == (0, design.rows) else design.take(start, stop)
            loss[start:stop] = self.going_on(settings, part)
            start = stop
            if report is not None and report(units, mean(loss[:stop], design.weight[:stop])) and stop < design.rows:
                return None
        return loss

    def _interval(self, settings: Settings) -> int | str:
        every = settings.get("every", self.every)
        return every if isinstance(every, str) else int(every)

    def going_on(self, settings: Settings, part: Design) -> Floats:
        """Loss (n) of every row of a stream, predicted and learned by a model that remembers what it has learned."""
        margin = self.model.progressive(part, every=self._interval(settings)).margin
        with np.errstate(invalid="ignore", over="ignore"):
            loss: Floats = by_name(self.model.link).loss(part.label, margin)
        return np.where(np.isfinite(loss), loss, np.inf)


def rungs(ends: NDArray[np.int64], several: bool) -> list[tuple[int, int]]:
    """(units, rows) of every prefix after which a trial may be ended: a ninth, a third, all; each at an update's end.

    Examples
    --------
    >>> rungs(np.arange(1, 91), several=True)
    [(1, 10), (3, 30), (9, 90)]
    """
    rows = int(ends[-1])
    units = [REDUCTION**k for k in range(RUNGS)] if several else [1]
    places = [int(ends[min(int(np.searchsorted(ends, rows * u // units[-1])), len(ends) - 1)]) for u in units]
    return [(u, place) for k, (u, place) in enumerate(zip(units, places)) if place not in places[:k]]


def mean(loss: Floats, weight: Floats) -> float:
    """Weighted mean loss; 0 without weight."""
    total = float(weight.sum())
    return float(np.dot(loss, weight) / total) if total > 0 else 0.0


def beliefs(model: GLMix) -> dict[str, Belief]:
    """What every block believes now."""
    return {block.name: block.belief for block in model.blocks}


def restore(model: GLMix, known: Mapping[str, Belief]) -> None:
    """Give every block a belief, and the model no memory."""
    for block in model.blocks:
        block.belief = known[block.name]
    model.reset()


def learn(
    model: GLMix, past: Design, structures: Sequence[str], how: Mapping[str, object]
) -> dict[str, dict[str, Belief]]:
    """Learned beliefs of every structure, each from the declared ones.

    By one-step-ahead loss the diagonal structure is what the full one starts from, so it is not learned again.
    """
    declared = beliefs(model)
    found: dict[str, dict[str, Belief]] = {}
    for structure in structures:
        if structure == "diagonal" and "full" in found and how.get("method", "one_step") == "one_step":
            found[structure] = {name: belief.with_prior(belief.prior) for name, belief in found["full"].items()}
            continue
        restore(model, declared)
        model.learn_priors(past, structure=structure, **how)  # type: ignore[arg-type]
        found[structure] = beliefs(model)
    return found
