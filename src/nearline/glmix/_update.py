"""The update of every block, fixed effect included, from one slice of data: sequential Bayes for the whole model.

    θ = argmin_β  Σ_n w_n ℓ(y_n, η_n(β)) + Σ_blocks ½ (β − m)ᵀ P (β − m),      H = P + Xᵀ W X at θ

(m, P) is each block's posterior of before the slice, weighed by ω (`nearline.glmix._past`), and stays what it is while
the blocks are solved in turn, each with the others' current scores as its offset. Source: arXiv 2108.13299.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from nearline._errors import ConfigError
from nearline.features import Design
from nearline.glmix import _declared, _layout, _minibatch_step, _past, _stream
from nearline.glmix._past import Past, PerEffect
from nearline.schema import Rejects

if TYPE_CHECKING:
    from nearline.glmix._model import GLMix


@dataclass(frozen=True, slots=True)
class Updated:
    """What one `GLMix.update` did.

    Attributes
    ----------
    rows
        Rows learned: those of positive weight that were not refused.
    refused
        Numbers of the good rows whose solve failed: nothing was learned from them, put them back in the queue.
    rejects
        Bad rows put aside (with ``divert=True``), each with its reason.
    moved
        Root mean square change of the rows' scores in each cycle over the blocks.
    converged
        Whether the last cycle moved them by no more than the tolerance.
    past_weight
        ω as it was given, or as evidence chose it.
    """

    rows: int
    refused: NDArray[np.int64]
    rejects: Rejects
    moved: tuple[float, ...]
    converged: bool
    past_weight: PerEffect = 1.0


class Updating:
    """The verb of `GLMix` that learns a slice of data with every block."""

    def update(
        self,
        table: Any,
        *,
        past_weight: PerEffect | str = 1.0,
        stabilise: bool = True,
        cycles: int = 20,
        tolerance: float = 1e-2,
        divert: bool = False,
        locked: Sequence[str] = (),
    ) -> Updated:
        """Update every block, the fixed effect included, from one slice of data (sequential Bayes).

            θ = argmin_β  Σ_n w_n ℓ(y_n, η_n(β)) + Σ_blocks ½ (β − m)ᵀ P (β − m),      H = P + Xᵀ W X at θ

        with each block's posterior of before the slice as its prior, P = Λ0 + ω (H − Λ0), m = P⁻¹ (ωHθ + (1−ω) Λ0 μ0).

        Parameters
        ----------
        table
            The slice: what has come since the last one, or a design.
        past_weight
            ω ≥ 0, the weight of the past: a number, or a mapping by effect's name with ``"*"`` for the rest. 1 forgets
            nothing, 0 starts from the base prior, more than 1 trusts the past beyond what it said. It acts on the
            entities of the slice, once per update, besides what `Forgetting` does in time. ``"auto"`` takes the one
            number of 1, 1/2 and 1/4 under whose prior the slice is most probable (its evidence): 1 in a world that
            stands still.
        stabilise
            Put the base prior back for what is forgotten. False is the paper's P = ωH, m = θ, in which a feature that
            has vanished is forgotten altogether.
        cycles, tolerance
            At most so many cycles over the blocks, fewer once one moves the scores of the slice by no more than
            `tolerance` (root mean square, link scale).
        divert
            Put bad rows aside in `Updated.rejects` instead of raising at the first.
        locked
            Names of effects that are scored but not updated.

        Raises
        ------
        DataError
            At the first bad row, unless `divert`; nothing is learned then.
        StateError
            When a block carries no precision, or one that cannot be.

        Examples
        --------
        >>> from nearline import Fixed, GLMix, Random, Schema
        >>> model = GLMix(Schema(label="liked"), fixed=Fixed("genre"), random=[Random("user_id")])
        >>> monday = {"user_id": [1, 2], "genre": ["Drama", "War"], "liked": [1, 0]}
        >>> tuesday = {"user_id": [1, 3], "genre": ["War", "Drama"], "liked": [0, 1]}
        >>> model.update(monday).rows
        2
        >>> model.update(tuesday, past_weight={"fixed": 0.9}).converged
        True
        """
        model = cast("GLMix", self)
        past = Past(1.0 if isinstance(past_weight, str) else past_weight, stabilise)
        past.check([block.name for block in model.blocks])
        if isinstance(past_weight, str) and past_weight != "auto":
            raise ConfigError(f"past_weight is a number, a mapping by effect or 'auto', got {past_weight!r}")
        _declared.check_cycles("update", cycles)
        if not tolerance >= 0.0:
            raise ConfigError(f"update(tolerance=...) must be >= 0, got {tolerance!r}")
        names = model._names(locked)
        design, rejects = model.design(table, learn=True, divert=divert)
        _check_blocks(model, design, names)
        if past_weight == "auto":
            past = replace(
                past, weight=_past.most_probable(partial(_log_evidence, model, _sample(design), past, names))
            )
        descent = _minibatch_step.Descent(cycles, tolerance, past)
        found = _minibatch_step.descend(
            model.blocks, model.encoder.n_slots, design, model.link, descent, model.threads, names
        )
        rows = int(np.count_nonzero(design.weight > 0)) - len(found.refused)
        _stream.count(model, rows, names)
        converged = bool(found.moved) and found.moved[-1] <= tolerance
        return Updated(rows, found.refused, rejects, found.moved, converged, past.weight)


def _check_blocks(model: GLMix, design: Design, locked: frozenset[str]) -> None:
    """Refuse a slice whose update would start from a block without a precision."""
    for block in model.blocks:
        if block.name not in locked:
            codes = np.unique(_layout.entity_codes(block, design)[design.weight > 0.0]).astype(np.int64)
            _past.check_precision(block, codes[codes >= 0])


CYCLES = 1
"""Cycles over the blocks before the evidence of a weight is read: weights are told apart long before the mode is."""
SAMPLE = 1_000
"""Rows, evenly through the slice, whose evidence tells weights apart: all would cost as much as the update itself."""


def _log_evidence(model: GLMix, sample: Design, past: Past, locked: frozenset[str], omega: float) -> float:
    descent = _minibatch_step.Descent(CYCLES, 0.0, replace(past, weight=omega))
    return _minibatch_step.log_evidence(
        model.blocks, model.encoder.n_slots, sample, model.link, descent, model.threads, locked
    )


def _sample(design: Design) -> Design:
    return design.select(np.arange(0, design.rows, max(1, design.rows // SAMPLE)))
