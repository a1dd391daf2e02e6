"""Parts of the examples that lose by the candidate, whatever the whole does."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nearline.evaluate import holm
from nearline.gate._checks import change, flips
from nearline.gate._evidence import Pair
from nearline.gate._publish_settings import PublishSettings
from nearline.gate._verdict import Check, Slice

Ints = NDArray[np.int64]
_NAMED = 3


def judge_slices(pair: Pair, s: PublishSettings) -> tuple[Slice, ...]:
    """Every slice with enough examples, the worst first; p-values are adjusted for their number."""
    found = [(key, value, pair.take(rows)) for key, value, rows in _parts(pair, s.slice_minimum)]
    changes = [change(part) for _, _, part in found]
    adjusted = holm([ratio.exceeds(s.slice_tolerance) for ratio in changes]).tolist()
    judged = []
    for (key, value, part), ratio, p in zip(found, changes, adjusted):
        flipped, ends = flips(part, s) if pair.link.name == "logit" else (math.nan, (math.nan, math.nan))
        interval = ratio.interval(2 * s.confidence - 1)
        worse = p <= 1 - s.confidence
        judged.append(Slice(key, value, len(part.label), ratio.estimate, interval, flipped, ends, p, worse))
    return tuple(sorted(judged, key=lambda piece: (piece.p, -piece.change)))


def slices(judged: tuple[Slice, ...], s: PublishSettings) -> list[Check]:
    """The check that they make together; none where there are no slices."""
    if not judged:
        return []
    worst, bad = judged[0], [piece for piece in judged if piece.worse]
    said = f"the worst of {len(judged)} is {_named(worst)}"
    if bad:
        more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        said = f"{len(bad)} of {len(judged)} lose more than {s.slice_tolerance:.2%}: "
        said += f"{', '.join(_named(piece) for piece in bad[:_NAMED])}{more}"
    return [Check("slices", worst.change, worst.interval, (-math.inf, s.slice_tolerance), not bad, said)]


def _named(piece: Slice) -> str:
    low, high = piece.interval
    return (
        f"{piece.key} {piece.value} ({piece.change:+.2%} loss, {low:+.2%} to {high:+.2%}, {piece.examples:,} examples)"
    )


def _parts(pair: Pair, least: int) -> Iterator[tuple[str, str, Ints]]:
    for key, values in pair.slices.items():
        names, code, counts = np.unique(values.astype(str), return_inverse=True, return_counts=True)
        rows = np.split(np.argsort(code, kind="stable"), np.cumsum(counts)[:-1])
        yield from ((key, str(names[k]), rows[k]) for k in np.flatnonzero(counts >= least).tolist())
