"""Is the state what the ledger says? Every example counted once, and the posteriors those of an uninterrupted run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nearline.gate import GuardSettings
from nearline.glmix import GLMix, Safety
from nearline.join import Policy
from nearline.loop._examples import LEARNS, loosening
from nearline.loop._held import Span, recalled
from nearline.loop._learner import Learner
from nearline.loop._relearn import relearn
from nearline.loop._settings import Recording
from nearline.loop._storage import Storage
from nearline.loop._teach import Teacher
from nearline.loop._versions import Versions


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit of a state directory found.

    Attributes
    ----------
    predictions
        Ids of the predictions that are recorded.
    labels
        Label that the model holds of each prediction, by id.
    doubled
        Examples that were learned although the model already held one of the same prediction.
    posteriors_differ
        Entities, over all effects, whose posterior is not bit for bit that of the replay.
    committed, replayed
        The model as committed, and as it comes out of the ledger without interruption.
    """

    predictions: frozenset[str]
    labels: dict[str, float]
    doubled: int
    posteriors_differ: int
    committed: GLMix
    replayed: GLMix


def audit(folder: Path, safety: Safety | None = None) -> Audit:
    """Read the whole ledger of a state directory that no process has open, and compare.

    Raises
    ------
    StateError
        The directory is open elsewhere, or a part of it is damaged.
    """
    storage, learner, versions = _opened(folder, safety or Safety())
    try:
        held = [piece for span in learner.held for piece in _without(span, learner.copies)]
        labels, doubled = _counted(storage, (*held, (learner.line.start, storage.examples.end)))
        replayed = _replay(storage, learner)
        names = storage.predictions.read(storage.predictions.first).column("prediction_id")
        found = frozenset(names.to_pylist())
        return Audit(found, labels, doubled, differing(learner.model, replayed), learner.model, replayed)
    finally:
        versions.close()
        storage.close()


def replay(folder: Path, safety: Safety | None = None) -> GLMix:
    """The model that the examples of the live line make of its base, in the batches in which they were learned."""
    storage, learner, versions = _opened(folder, safety or Safety())
    try:
        return _replay(storage, learner)
    finally:
        versions.close()
        storage.close()


def _opened(folder: Path, safety: Safety) -> tuple[Storage, Learner, Versions]:
    from nearline.loop._events import predictions_of

    versions = Versions(folder, lambda: 0.0, 1)
    model = versions.load(versions.pointer().version)
    storage = Storage.open(folder, predictions_of(model), Recording())
    learner = Learner(storage, Policy(1.0), safety, versions.load, GuardSettings(link=model.link))
    learner.restore()
    return storage, learner, versions


def _replay(storage: Storage, learner: Learner) -> GLMix:
    """Teach a replica of the base what the line's examples say, batch by batch."""
    model = learner.stale.replica()
    teacher = Teacher(model, learner.stale, learner.safety, storage.examples)
    recall = recalled(storage.examples, learner.held, storage.predictions.first)
    teacher.loosened = learner.loosened_before
    for start, batch in storage.examples.batches(learner.line.start):
        relearn(teacher, recall, storage.predictions, batch, start)
        share = loosening(batch)
        if share is not None:
            teacher.loosen(start + batch.num_rows, share)
    return model


def _without(span: Span, copies: Iterable[Span]) -> list[Span]:
    """What is left of a span without those that say again what an earlier stretch said.

    >>> _without((0, 100), [(10, 20), (90, 120), (200, 210)])
    [(0, 10), (20, 90)]
    """
    at, end = span
    pieces = []
    for start, stop in sorted(copies):
        if start < end and stop > at:
            pieces.append((at, start))
            at = stop
    return [(start, stop) for start, stop in [*pieces, (at, end)] if start < stop]


def _counted(storage: Storage, spans: tuple[Span, ...]) -> tuple[dict[str, float], int]:
    """Labels that the examples of these spans come to, and how many of them were learned twice."""
    labels: dict[str, float] = {}
    doubled = 0
    for name, label, previous, action in _rows(storage, sorted(spans)):
        if action == "retract":
            labels.pop(name, None)
        elif action in LEARNS and label is not None:
            doubled += previous is None and name in labels
            labels[name] = label
    return labels, doubled


def _rows(storage: Storage, spans: list[Span]) -> Iterator[tuple[str, float | None, float | None, str]]:
    names = ["prediction_id", "label", "previous", "action"]
    for start, end in spans:
        table = storage.examples.read(start, end - start).select(names)
        yield from zip(*(table.column(name).to_pylist() for name in names))


def differing(one: GLMix, other: GLMix) -> int:
    """Entities whose posteriors are not the same to the bit; all of an effect where its shape differs."""
    found = 0
    for a, b in zip(one.blocks, other.blocks):
        n = a.entities
        if (a.d, a.kind, n) != (b.d, b.kind, b.entities):
            found += max(n, b.entities)
            continue
        same = np.ones(n, bool)
        for x, y in ((a.mean, b.mean), (a.cov, b.cov), (a.last, b.last), (a.counts, b.counts)):
            equal = (x[:n] == y[:n]) | ((x[:n] != x[:n]) & (y[:n] != y[:n]))
            same &= equal.reshape(n, -1).all(axis=1)
        found += int(np.count_nonzero(~same))
    return found
