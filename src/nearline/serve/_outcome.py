"""POST /outcome: what happened, checked, resolved to its predictions and recorded before it is acknowledged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline._errors import DataError
from nearline.features._row_columns import seconds_of
from nearline.serve import _arrow
from nearline.serve._acknowledge import Acknowledger
from nearline.serve._asgi import ARROW, JSON, Answer
from nearline.serve._messages import Accepted, Outcome, Rejected, outcomes_request
from nearline.serve._problems import Problem
from nearline.serve._service import Service

_encode = msgspec.json.Encoder().encode
KINDS = ("outcome", "correct", "retract")
EXPECTED = {"logit": "0 or 1", "log": "a finite number of at least 0", "identity": "a finite number"}


@dataclass(frozen=True, slots=True)
class _Given:
    """Outcomes as columns; `where` names the list in errors, "" for a single outcome."""

    ids: Sequence[str]
    labels: Sequence[Any]
    times: Sequence[Any]
    kinds: Sequence[str]
    where: str = "outcomes"

    def field(self, row: int, name: str) -> str:
        return f"{self.where}[{row}].{name}" if self.where else name


class TakeOutcomes:
    """The route."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._one = msgspec.json.Decoder(Outcome)
        self._many: Any = msgspec.json.Decoder(outcomes_request(service.limits.rows))

    async def __call__(self, body: bytes, media: str, query: bytes, waiter: Acknowledger) -> Answer:
        """Answer one request once its outcomes are durable.

        Raises
        ------
        Problem, msgspec.DecodeError, Overloaded
            What the request is refused for; nothing is recorded then.
        """
        given = self._given(body, media)
        n, now = len(given.ids), self._service.now()
        labels = self._labels(given)
        times = self._times(given, now)
        positions, reasons = self._service.resolve(given.ids)
        good = [row for row in range(n) if row not in reasons] if reasons else range(n)
        if good:
            columns: dict[str, Any] = {
                "prediction_id": given.ids, "prediction": positions, "time": times, "received": np.full(n, now),
                "label": labels, "kind": given.kinds,
            }  # fmt: skip
            await self._record(columns if len(good) == n else _picked(columns, good), len(good), waiter)
        rejected = [Rejected(row, given.ids[row], reason) for row, reason in sorted(reasons.items())]
        return Answer(_answer(len(good), rejected, media), media, len(good))

    async def _record(self, columns: Mapping[str, Any], n: int, waiter: Acknowledger) -> None:
        future, done = waiter.future()
        self._service.outcomes.submit(n, columns, done)
        await future

    def _given(self, body: bytes, media: str) -> _Given:
        if media == ARROW:
            return _from_table(_arrow.read(body, self._service.limits.rows))
        several = b'"outcomes"' in body
        found = self._many.decode(body).outcomes if several else [self._one.decode(body)]
        return _Given(
            [outcome.prediction_id for outcome in found], [outcome.label for outcome in found],
            [outcome.time for outcome in found], [outcome.kind for outcome in found], "outcomes" if several else "",
        )  # fmt: skip

    def _labels(self, given: _Given) -> NDArray[np.float64] | list[float | None]:
        """Labels as numbers; None for a retraction, which has none."""
        link = self._service.live.scorer.model.link
        labels = np.array(given.labels, np.float64)
        retracted = np.array([kind == "retract" for kind in given.kinds], bool)
        if link == "logit":
            good = (labels == 0) | (labels == 1)
        else:
            good = np.isfinite(labels) & ((labels >= 0) | (link != "log"))
        bad = np.where(retracted, ~np.isnan(labels), ~good)
        if bad.any():
            row = int(np.argmax(bad))
            wanted = "none: it is a retraction" if retracted[row] else EXPECTED[link]
            value = msgspec.json.encode(given.labels[row]).decode()
            raise Problem("invalid", f"label is {value}, expected {wanted}", given.field(row, "label"))
        if not retracted.any():
            return labels
        return [None if without else label for without, label in zip(retracted, labels.tolist())]

    def _times(self, given: _Given, now: float) -> NDArray[np.float64]:
        try:
            times = seconds_of(given.times, "time", now)
        except DataError as error:
            raise Problem("invalid", error.problem, given.field(error.row or 0, "time")) from error
        late = times > now + self._service.limits.ahead_seconds
        if late.any():
            row = int(np.argmax(late))
            raise Problem("invalid", f"time {float(times[row])!r} is in the future", given.field(row, "time"))
        return times


def _picked(columns: Mapping[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    return {
        name: values[list(rows)] if isinstance(values, np.ndarray) else [values[row] for row in rows]
        for name, values in columns.items()
    }


_TYPES = {"prediction_id": pa.string(), "label": pa.float64(), "time": pa.float64(), "kind": pa.string()}


def _from_table(table: Any) -> _Given:
    """Outcomes of a table with the columns prediction_id and label, and perhaps time and kind."""
    unknown = [name for name in table.column_names if name not in _TYPES]
    if unknown:
        raise Problem("invalid", f"outcomes have the columns {list(_TYPES)}", unknown[0])
    found = {name: _column(table, name, dtype) for name, dtype in _TYPES.items()}
    kinds = ["outcome" if kind is None else kind for kind in found["kind"]]
    for name, bad in (
        ("prediction_id", [value is None for value in found["prediction_id"]]),
        ("kind", [kind not in KINDS for kind in kinds]),
    ):
        if any(bad):
            raise Problem(
                "invalid", f"{found[name][bad.index(True)]!r} is no {name}", f"rows[{bad.index(True)}].{name}"
            )
    return _Given(found["prediction_id"], found["label"], found["time"], kinds, "rows")


def _column(table: Any, name: str, dtype: Any) -> list[Any]:
    if name not in table.column_names:
        if name in ("prediction_id", "label"):
            raise Problem("invalid", "the table has no such column", name)
        return [None] * table.num_rows
    column = table.column(name)
    if name == "time" and pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us", tz=column.type.tz)).to_pylist()  # type: ignore[no-any-return]
    try:
        return column.cast(dtype).to_pylist()  # type: ignore[no-any-return]
    except pa.ArrowException as error:
        raise Problem("invalid", str(error), name) from error


def _answer(accepted: int, rejected: list[Rejected], media: str) -> bytes:
    if media == JSON:
        return _encode(Accepted(accepted, rejected))
    columns = {
        "index": pa.array([r.index for r in rejected], pa.int64()),
        "prediction_id": pa.array([r.prediction_id for r in rejected], pa.string()),
        "reason": pa.array([r.reason for r in rejected], pa.string()),
    }
    return _arrow.write(pa.table(columns).replace_schema_metadata({"accepted": str(accepted)}))
