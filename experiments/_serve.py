"""Streaming as Lambda Learner does it: score a mini-batch at the coefficients as last updated, then learn it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import nearline as nl
from nearline.features import Design

Floats = NDArray[np.float64]
Learn = Callable[[nl.GLMix, Design], object]


@dataclass(frozen=True)
class Streamed:
    """Margins (n) as predicted before their mini-batch was learned, and the seconds that learning took."""

    margin: Floats
    seconds: float


def edges(rows: int, start: int, batches: int) -> list[int]:
    """Row numbers that cut rows start … rows − 1 into equal mini-batches.

    >>> edges(10, 4, 3)
    [4, 6, 8, 10]
    """
    return [start, *(start + np.cumsum([len(p) for p in np.array_split(np.arange(rows - start), batches)])).tolist()]


def stream(model: nl.GLMix, design: Design, cuts: list[int], learn: Learn) -> Streamed:
    """Predict each mini-batch, then learn it."""
    found, seconds = [], 0.0
    for start, stop in itertools.pairwise(cuts):
        part = design.take(start, stop)
        found.append(model.decision_function(part))
        before = time.perf_counter()
        learn(model, part)
        seconds += time.perf_counter() - before
    return Streamed(np.concatenate(found), seconds)


def refit(model: nl.GLMix, design: Design, cuts: list[int], *, cycles: int = 1, warm: bool = False) -> Streamed:
    """Before each mini-batch, refit on everything before it."""
    found, seconds = [], 0.0
    for start, stop in itertools.pairwise(cuts):
        before = time.perf_counter()
        model.fit(design.take(0, start), cycles=cycles, tolerance=0.0, warm=warm)
        seconds += time.perf_counter() - before
        found.append(model.decision_function(design.take(start, stop)))
    return Streamed(np.concatenate(found), seconds)


def update(model: nl.GLMix, part: Design) -> None:
    """Lambda Learner's update of every block."""
    assert not len(model.partial_fit(part).refused)


def nothing(model: nl.GLMix, part: Design) -> None:
    """A stale model."""


def last_window(model: nl.GLMix, part: Design) -> None:
    """δ = 0: the entities of the mini-batch start afresh from their prior."""
    for block in model.blocks:
        if isinstance(block.effect, nl.Random):
            fresh = np.unique(part.entities[block.effect.key[0]])
            block.mean[fresh], block.cov[fresh] = block.prior_arrays()
    update(model, part)
