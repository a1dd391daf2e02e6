"""What learning needs is compiled before the first outcome waits for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from nearline.glmix import GLMix, LearnedEvents, Safety
from nearline.loop._events import events


def warm(model: GLMix, safety: Safety, taken: Any) -> None:
    """Learn, correct and retract rows of the predictions log, in a model of the same make that is thrown away."""
    twin = GLMix(
        model.schema, model.fixed, model.random, link=model.link, mode=model.mode, dtype=model.dtype,
        dispersion=model.dispersion, threads=model.threads, refresh_every=model.refresh_every,
    )  # fmt: skip
    ones, zeros = np.ones(taken.num_rows), np.zeros(taken.num_rows)
    design, _ = twin.design(pa.table(events(taken, twin, ones)), learn=True, divert=True)
    if not design.rows:
        return
    learned = twin.try_learn(design, safety)
    corrected = twin.correct(design, zeros[: design.rows], LearnedEvents.of(design, learned.events.columns()))
    twin.retract(design, LearnedEvents.of(design, corrected.events.columns(), zeros[: design.rows]))
