"""A candidate's scores beside the live ones, collected batch by batch from the examples log, and what the gate says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nearline._errors import ConfigError
from nearline.gate import Evidence, HoldOut, PublishGate, PublishSettings, Scores, Verdict
from nearline.loop._examples import LEARNS
from nearline.store import Log

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_PARTS = 4


@dataclass(frozen=True, slots=True)
class Gating:
    """What candidates are judged by.

    Parameters
    ----------
    publish
        Limits of the checks.
    slices
        Recorded columns whose values are judged one by one; numbers in quarters.
    entities
        Recorded columns whose rows depend on each other; the model's keys where none is named.
    rows
        At most so many of the newest examples are looked at.
    holdout
        Where it is given, candidates are judged on what it holds out, and not on progressive scores.

    Raises `ConfigError` for rows below 1.
    """

    publish: PublishSettings = field(default_factory=PublishSettings)
    slices: tuple[str, ...] = ()
    entities: tuple[str, ...] = ()
    rows: int = 200_000
    holdout: HoldOut | None = None

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ConfigError(f"rows must be at least 1; got {self.rows}")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a model costs: p99 of scoring a request in seconds, and bytes; None where it was not measured."""

    latency: float | None = None
    size: float | None = None


class Trial:
    """Scores of both models for every example that live has learned, each from before it was learned.

    In event mode these are the margins just before the event, so that both models know the same; in minibatch mode the
    live score is the served one.
    """

    def __init__(self, link: str, predictions: Log, gating: Gating, entities: Sequence[str] = ()) -> None:
        self._log, self._gating = predictions, gating
        self._settings = replace(gating.publish, link=link)
        self._entities = gating.entities or tuple(entities)
        missing = {*gating.slices, *self._entities} - set(predictions.schema.names)
        if missing:
            raise ConfigError(f"[gate] names {sorted(missing)}, which the ledger does not record as columns")
        self._batches: list[tuple[Any, ...]] = []
        self._later: list[tuple[Ints, Floats]] = []

    def add(self, batch: Any, candidate: Floats) -> None:
        """Take a batch of the examples log, and the candidate's margins (n) from before it learned the rows."""
        label, previous, weight = (_floats(batch, name) for name in ("label", "previous", "weight"))
        action, prediction = batch.column("action"), batch.column("prediction").to_numpy(zero_copy_only=False)
        counts = np.asarray(pc.is_in(action, pa.array(LEARNS))) & ~np.isnan(label)
        live = np.where(np.isnan(_floats(batch, "variance")), _floats(batch, "score"), _floats(batch, "margin"))
        new = counts & np.isnan(previous) & np.isfinite(live) & np.isfinite(candidate)
        self._batches.append((prediction[new], label[new], weight[new], live[new], candidate[new]))
        gone = np.asarray(pc.equal(action, "retract"))
        self._change(prediction, np.where(gone, np.nan, label), (counts & ~np.isnan(previous)) | gone)

    def add_held_out(self, rows: Any, live: Floats, candidate: Floats) -> None:
        """Take held-out rows of the examples log and what came of them later, as both models score them (n)."""
        label, weight = (_floats(rows, name) for name in ("label", "weight"))
        prediction = np.asarray(rows.column("prediction"))
        label = np.where(np.asarray(pc.equal(rows.column("action"), "retract")), np.nan, label)
        scored = np.isfinite(live) & np.isfinite(candidate)
        self._batches.append(tuple(part[scored] for part in (prediction, label, weight, live, candidate)))

    def _change(self, prediction: Ints, label: Floats, rows: NDArray[np.bool_]) -> None:
        self._later.append((prediction[rows], label[rows]))

    def verdict(self, live: Cost = Cost(), candidate: Cost = Cost()) -> Verdict:
        """What the gate says of the newest examples, by the labels that they have in the end."""
        position, label, weight, before, after = self._collected()
        columns = self._log.take(position).select([*dict.fromkeys((*self._entities, *self._gating.slices))])
        entities = {name: _codes(columns.column(name)) for name in self._entities}
        slices = {name: _values(columns.column(name)) for name in self._gating.slices}
        gate = PublishGate(self._settings, Evidence(label, weight, entities, slices))
        return gate.check(
            Scores(before, live.latency, live.size), Scores(after, candidate.latency, candidate.size)
        )  # fmt: skip

    def _collected(self) -> tuple[Ints, Floats, Floats, Floats, Floats]:
        none = (np.zeros(0, np.int64), *(np.zeros(0) for _ in range(4)))
        position, label, weight, before, after = (np.concatenate(part) for part in zip(none, *self._batches))
        label = self._corrected(position, label)
        last = np.sort(len(position) - 1 - np.unique(position[::-1], return_index=True)[1])
        kept = last[~np.isnan(label[last]) & (position[last] >= self._log.first)][-self._gating.rows :]
        return position[kept], label[kept], weight[kept], before[kept], after[kept]

    def _corrected(self, position: Ints, label: Floats) -> Floats:
        """Labels as they are after every correction; NaN where the example was taken back."""
        order = np.argsort(position, kind="stable")
        ordered, label = position[order], label.copy()
        for changed, to in self._later:
            # a prediction may be learned, taken back and learned again: all of its rows get the last label
            first, last = np.searchsorted(ordered, changed, "left"), np.searchsorted(ordered, changed, "right")
            for start, end, value in zip(first.tolist(), last.tolist(), to.tolist()):
                label[order[start:end]] = value
        return label


def _floats(batch: Any, name: str) -> Floats:
    found: Floats = batch.column(name).cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    return found


def _codes(column: Any) -> Ints:
    """Dense codes of values; a missing one is an entity of its own."""
    found = pc.dictionary_encode(column)
    indices = found.combine_chunks().indices if isinstance(found, pa.ChunkedArray) else found.indices
    codes: Ints = indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes


def _values(column: Any) -> NDArray[np.str_]:
    """Names of slices: values as they are, numbers with a fraction in quarters of equal counts."""
    if not pa.types.is_floating(column.type):
        return np.array(["missing" if value is None else str(value) for value in column.to_pylist()], np.str_)
    values = column.fill_null(np.nan).to_numpy()
    known = values[~np.isnan(values)]
    edges = np.unique(np.quantile(known, np.arange(1, _PARTS) / _PARTS)) if len(known) else np.zeros(0)
    ends = [f"{edge:g}" for edge in edges]
    names = [f"{low} to {high}" for low, high in zip(["", *ends], [*ends, ""])]
    names = [name.strip() if name.startswith(" ") else name.replace(" to ", " and more") if name.endswith(" ") else name
             for name in names]  # fmt: skip
    codes = np.searchsorted(edges, np.nan_to_num(values), side="right")
    return np.where(np.isnan(values), "missing", np.array(names)[codes])
