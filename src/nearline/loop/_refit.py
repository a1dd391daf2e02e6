"""Random effects re-fitted on one global fit, from the ledger: the batch layer between two fits of the whole model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nearline.glmix import Fixed, GLMix
from nearline.glmix._links import by_name

_STEPS = 100
"""So many minibatches history is cut into for the first pass of a model that learns by minibatch."""


@dataclass(frozen=True, slots=True)
class Refitted:
    """A re-fitted model, and how it did on the way.

    Attributes
    ----------
    events
        Rows that were learned.
    loss
        Mean loss of predicting each row before learning it.
    """

    model: GLMix
    events: int
    loss: float


def refit(base: GLMix, table: Any, *, fixed: str = "learned") -> Refitted:
    """Learn history anew from a global fit's posteriors, then its random effects once more on the fixed effect found.

        b, β ← learn(posterior of g; history)          all blocks, in order of time
        β    ← learn(posterior of g; history | b)      the random effects, with the fixed effect locked

    Labels are final here and in order of time, where the speed layer learned them as they came.

    Parameters
    ----------
    base
        The global fit, which is not changed.
    table
        What came after its cut-off (n rows, in order of time), as `History.table` makes it.
    fixed
        ``"learned"`` as above; ``"kept"`` keeps the global fit's own fixed effect: the first pass is left out.

    Examples
    --------
    >>> from nearline import Random, Schema
    >>> base = GLMix(Schema(label="y"), random=[Random("user")])
    >>> found = refit(base, {"user": ["ann", "bob", "ann"], "y": [1, 0, 1]})
    >>> found.events, bool(found.model.predict_proba({"user": ["ann"]})[0] > 0.5), base.events_learned
    (3, True, 0)
    """
    learned, again = base.replica(), base.replica()
    design, _ = learned.design(table, learn=True)
    # By minibatch a row at a time would be a solve per row.
    every = 1 if base.mode == "event" else max(1, design.rows // _STEPS)
    margin = learned.decision_function(table) if fixed == "kept" else learned.progressive(design, every=every).margin
    same, _ = again.design(table, learn=True)
    names = [block.name for block in again.blocks if isinstance(block.effect, Fixed)]
    if fixed == "learned":
        again.blocks = [learned.block(block.name) if block.name in names else block for block in again.blocks]
    again.partial_fit(same, locked=names)
    loss = by_name(base.link).loss(design.label, margin)
    mean = float(np.average(loss, weights=design.weight)) if design.rows else float("nan")
    return Refitted(again, design.rows, mean)
