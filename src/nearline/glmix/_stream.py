"""The speed layer of a model: a stream predicted and learned, its priors re-estimated where that is due."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nearline.features import Design
from nearline.glmix import _minibatch_step, _priors, _replay
from nearline.glmix._learned import LearnedEvents, discounts, recorded
from nearline.glmix._replay import Progress
from nearline.schema import Rejects

if TYPE_CHECKING:
    from nearline.glmix._model import GLMix

Floats = NDArray[np.float64]
NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Learned:
    """What one `GLMix.partial_fit` did.

    Attributes
    ----------
    rows
        Rows learned: those of positive weight that were not refused.
    refused
        Numbers of the good rows whose update was not finite or did not converge: nothing was learned from them, put
        them back in the queue.
    rejects
        Bad rows put aside (with ``divert=True``), each with its reason.
    margin
        The score each row had just before it was learned, on the link scale (event mode).
    events
        What each row taught, for `GLMix.correct` and `GLMix.retract` (event mode with every block learning).
    """

    rows: int
    refused: NDArray[np.int64]
    rejects: Rejects
    margin: Floats
    events: LearnedEvents | None = None


def update(model: GLMix, design: Design, mode: str, cycles: int, locked: frozenset[str], rejects: Rejects) -> Learned:
    """Learn a batch of events in a mode; blocks named in `locked` are scored and stay as they are."""
    if mode == "event":
        late = discounts(model.blocks, design)
        progress = replay(model, design, mode, 1, True, locked)
        refused, margin = np.flatnonzero(progress.refused), progress.margin
        events = None if locked else recorded(design, late, margin, progress.variance)
    else:
        refused = _minibatch_step.learn(
            model.blocks, model.encoder.n_slots, design, model.link, cycles=cycles, threads=model.threads,
            locked=locked,
        )  # fmt: skip
        margin, events = np.full(design.rows, np.nan), None
        count(model, _learned(design, refused), locked)
    return Learned(_learned(design, refused), refused, rejects, margin, events)


def replay(
    model: GLMix, design: Design, mode: str, every: int | str, variances: bool, locked: frozenset[str] = NOTHING
) -> Progress:
    """Predict and learn, re-estimating priors at the first update after every `refresh_every` events."""
    ends = _replay.stops(design.time, every)
    parts, start = [], 0
    while start < design.rows:
        stop = design.rows
        if model.refresh_every is not None:
            due = start + model.refresh_every - model.events_learned % model.refresh_every
            stop = int(ends[min(int(np.searchsorted(ends, due)), len(ends) - 1)])
        part = design if (start, stop) == (0, design.rows) else design.take(start, stop)
        inside = ends[(ends > start) & (ends <= stop)] - start
        parts.append(_part(model, part, mode, inside, variances, locked))
        count(model, _learned(part, np.flatnonzero(parts[-1].refused)), locked)
        start = stop
    return _replay.joined(parts)


def _part(
    model: GLMix, design: Design, mode: str, ends: NDArray[np.int64], variances: bool, locked: frozenset[str]
) -> Progress:
    both = (model.blocks, model.encoder.n_slots, design, model.link, ends, variances)
    if mode == "event":
        return _replay.replay(*both, locked=locked)
    return _minibatch_step.replay(*both, threads=model.threads, locked=locked)


def _learned(design: Design, refused: NDArray[np.int64]) -> int:
    return int(np.count_nonzero(design.weight > 0)) - len(refused)


def count(model: GLMix, events: int, locked: frozenset[str] = NOTHING) -> None:
    """Count events that were learned, and re-estimate the priors where that is due."""
    before, model.events_learned = model.events_learned, model.events_learned + events
    every = model.refresh_every
    if every is not None and before // every < model.events_learned // every:
        _priors.refresh(model.blocks, LEAST, locked)


LEAST = 50
"""Effects with fewer touched entities keep their prior when priors are re-estimated."""
