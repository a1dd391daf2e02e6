"""A variant's scores as a recalibrated service would have answered: mapped by what was learned of earlier rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nearline._errors import ConfigError
from nearline.features import Design
from nearline.glmix._replay import stops
from nearline.recalibrate import RecalibrationSettings, Recalibrator

Floats = NDArray[np.float64]

_ROWS = 256
"""A map moves slowly: it learns so many rows at a time at least."""


def recalibrated(
    history: Floats | None, past: Design, margin: Floats, rest: Design, every: int | str, recalibrate: bool | str
) -> Floats:
    """Scores (n) of `rest`: those of a batch are mapped, if the map has helped so far, before it learns of the batch.

    Parameters
    ----------
    history
        Scores of `past` from before each row was learned; None where they are not that, and teach nothing.
    recalibrate
        True for one map, or the entity key whose values have maps of their own beside it.

    Raises
    ------
    ConfigError
        A key that the model does not have.
    """
    found = Recalibrator(RecalibrationSettings())
    if history is not None:
        _play(found, history, past, every, recalibrate)
    return _play(found, margin, rest, every, recalibrate)


def _play(found: Recalibrator, margin: Floats, design: Design, every: int | str, recalibrate: bool | str) -> Floats:
    names, out = _segments(design, recalibrate), np.empty(len(margin))
    for start, end in _batches(design.time, every):
        rows = slice(start, end)
        segment = None if names is None else names[rows]
        out[rows] = found.apply(margin[rows], segment)
        found.observe(design.label[rows], margin[rows], design.weight[rows], segment, float(design.time[end - 1]))
    return out


def _segments(design: Design, recalibrate: bool | str) -> NDArray[np.str_] | None:
    if isinstance(recalibrate, bool):
        return None
    codes = {str(key): found for key, found in design.entities.items()}
    if recalibrate not in codes:
        raise ConfigError(f"recalibrate = {recalibrate!r} is no entity key of the model; it is one of {sorted(codes)}")
    return codes[recalibrate].astype(np.str_)


def _batches(time: Floats, every: int | str) -> Iterator[tuple[int, int]]:
    """[start, end) between updates of the served model, joined until each has enough rows."""
    start = 0
    for end in stops(time, every).tolist():
        if end - start >= _ROWS or end == len(time):
            yield start, end
            start = end
