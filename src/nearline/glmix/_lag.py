"""Fixed-lag smoothing: every block updated from slices, each solved together with the few before it.

An update of all blocks keeps one posterior per block and drops the covariance between blocks; what a slice taught
of one block is then never read anew when the next slice corrects another. Solving the last slices together,

    θ = argmin_β  Σ_{s = t−L … t} Σ_{n ∈ slice s} w_n ℓ(y_n, η_n(β)) + Σ_blocks ½ (β − m)ᵀ P (β − m)

with (m, P) the posterior of before slice t − L, keeps that covariance for L slices, where most of it is used. L = 0 is
`GLMix.update`. The price is L + 1 times the rows per update, and L + 1 copies of the posteriors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nearline._errors import ConfigError
from nearline.features import Design
from nearline.glmix import _layout

if TYPE_CHECKING:
    from nearline.glmix._model import GLMix
    from nearline.glmix._update import Updated


class FixedLag:
    """Updates a model from slices, each together with the `lag` slices before it.

    What the model learns otherwise in between (`partial_fit`, `fit`) becomes its past: smoothing starts anew there.

    Parameters
    ----------
    model
        The model to keep fresh, in place.
    lag
        How many earlier slices are solved again with each new one.

    Examples
    --------
    >>> from nearline import Fixed, GLMix, Random, Schema
    >>> model = GLMix(Schema(label="liked"), fixed=Fixed("genre"), random=[Random("user_id")])
    >>> smoother = FixedLag(model, lag=1)
    >>> for day in (["Drama", "War"], ["War", "War"], ["Drama", "Drama"]):
    ...     done = smoother.update({"user_id": [1, 2], "genre": day, "liked": [1, 0]})
    >>> done.rows, model.events_learned
    (2, 6)
    """

    def __init__(self, model: GLMix, lag: int = 1) -> None:
        if lag < 0:
            raise ConfigError(f"FixedLag(lag=...) is a number of slices, at least 0, got {lag!r}")
        self.model, self.lag = model, lag
        self._window: list[tuple[GLMix, Design]] = []
        self._left_at = model.events_learned

    def update(self, table: Any, **options: Any) -> Updated:
        """Learn a slice; `options` are those of `GLMix.update`, and `past_weight` acts on what is before the window.

        The result counts the rows of this slice; those it refuses may be of an earlier one, whose rows then count
        no more.
        """
        model = self.model
        design, rejects = model.design(table, learn=True, divert=options.pop("divert", False))
        if model.events_learned != self._left_at:
            self._window.clear()
        self._window.append((model.fork(), design))
        del self._window[: -self.lag - 1]
        before, count = self._window[0][0], model.events_learned
        _restore(model, before)
        try:
            done = model.update(_joined([part for _, part in self._window]), **options)
        except Exception:
            _restore(model, self._window.pop()[0])
            raise
        first = sum(part.rows for _, part in self._window[:-1])
        refused = done.refused[done.refused >= first] - first
        rows = int(np.count_nonzero(design.weight > 0)) - len(refused)
        model.events_learned = self._left_at = count + rows
        return replace(done, rows=rows, refused=refused, rejects=rejects)


def _restore(model: GLMix, before: GLMix) -> None:
    model.blocks, model.events_learned = [block.copy() for block in before.blocks], before.events_learned
    _layout.grow(model.blocks, model.encoder)


def _joined(designs: Sequence[Design]) -> Design:
    """Designs of one vocabulary, one after the other."""
    if len(designs) == 1:
        return designs[0]
    sizes = np.concatenate([np.diff(design.indptr) for design in designs])
    label, weight, offset, time = (
        np.concatenate([getattr(design, name) for design in designs]) for name in ("label", "weight", "offset", "time")
    )
    indices, values = (
        np.concatenate([getattr(d, name)[d.indptr[0] : d.indptr[-1]] for d in designs])
        for name in ("indices", "values")
    )
    entities = {key: np.concatenate([d.entities[key] for d in designs]) for key in designs[0].entities}
    indptr = np.concatenate([[0], np.cumsum(sizes)])
    return Design(indptr, indices, values, entities, label, weight, offset, time)
