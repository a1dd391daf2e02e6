"""POST /predict: rows to scores, recorded before they leave."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from itertools import repeat
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline.features import Design, RowBlock
from nearline.glmix import Draw, Scores
from nearline.serve import _arrow
from nearline.serve._acknowledge import Acknowledger
from nearline.serve._asgi import ARROW, JSON, Answer
from nearline.serve._json_answer import tag_of
from nearline.serve._messages import (
    Contribution,
    Expectation,
    FullExpectation,
    FullProbability,
    Predictions,
    Probability,
    Sample,
    predict_request,
)
from nearline.serve._problems import Problem
from nearline.serve._service import Live, Service

_encode = msgspec.json.Encoder().encode


class Predict:
    """The route. It decodes for the version that is live now."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._live: Live | None = None
        self._decoder: Any = None

    async def __call__(self, body: bytes, media: str, query: bytes, waiter: Acknowledger) -> Answer:
        """Answer one request once its predictions are durable.

        Raises
        ------
        Problem, msgspec.DecodeError, DataError, Overloaded
            What the request is refused for; nothing is recorded then.
        """
        live, now = self._service.live, self._service.now()
        if media == ARROW:
            return await self._arrow(live, now, body, query, waiter)
        read = live.rows.read(body, now)
        if read is not None and read[0].rows <= self._service.limits.rows:
            answered = self._answered(live, now, *read, waiter)
            del body, read  # what waits for the disk should keep little else out of the caches
            return await answered
        request = self._decoded(live, body)
        n = len(request.rows)
        design, columns = live.rows.encode(request.rows, now)
        if not n:
            return Answer(b'{"predictions":[]}', JSON, 0)
        scores = live.scorer.score(design)
        draw = await self._drawn(live, design, request.sample) if request.sample else None
        explained = await self._explained(live, design) if request.explain else None
        ids = self._service.ids(await self._record(live, now, design, columns, scores, draw, waiter), n)
        return Answer(_encode(Predictions(_predictions(live, ids, scores, draw, explained))), JSON, n)

    async def _answered(
        self, live: Live, now: float, design: Design, columns: RowBlock, waiter: Acknowledger
    ) -> Answer:
        """The usual request: scores, and nothing beside them. The answer is made while the disk works."""
        scores = live.scorer.score(design)
        first, durable = self._handed_over(live, now, design, columns, scores, None, waiter)
        n, tag = design.rows, tag_of(self._service.ids(first, 1)[0], first)
        if tag is None:
            made = _encode(Predictions(_predictions(live, self._service.ids(first, n), scores, None, None)))
        else:
            made = live.writer.write(tag, first, live.scorer.expected(scores.served), scores.version)
        del design, columns, scores
        await durable
        return Answer(made, JSON, n)

    def _decoded(self, live: Live, body: bytes) -> Any:
        if live is not self._live:
            request = predict_request(live.rows.Row, self._service.limits.rows)
            self._live, self._decoder = live, msgspec.json.Decoder(request)
        return self._decoder.decode(body)

    async def _arrow(self, live: Live, now: float, body: bytes, query: bytes, waiter: Acknowledger) -> Answer:
        wanted = _sample_of(query)
        table = _arrow.read(body, self._service.limits.rows)
        n = table.num_rows
        with live.scorer.lock:  # checking a table walks through the vocabulary, which must not grow meanwhile
            design, columns = live.rows.encode_table(table, now)
        scores = live.scorer.score(design)
        draw = await self._drawn(live, design, wanted) if wanted and n else None
        first = await self._record(live, now, design, columns, scores, draw, waiter) if n else 0
        ids = self._service.ids(first, n)
        name = "probability" if live.scorer.model.link == "logit" else "prediction"
        out = {
            "prediction_id": pa.array(ids, pa.string()),
            name: pa.array(live.scorer.expected(scores.served)),
            "version": pa.array([scores.version] * n, pa.string()),
        }
        if draw is not None:
            out["propensity"] = pa.array(draw.propensity)
            out[f"sampled_{name}"] = pa.array(live.scorer.expected(live.scorer.remapped(draw.margin)))
        return Answer(_arrow.write(pa.table(out)), ARROW, n)

    async def _drawn(self, live: Live, design: Design, wanted: bool | Sample) -> Draw:
        sample = Sample() if isinstance(wanted, bool) else wanted
        if sample.draws > self._service.limits.draws:
            raise Problem("invalid", f"{sample.draws} draws; {self._service.limits.draws} may be", "sample.draws")
        seed = self._service.seed() if sample.seed is None else sample.seed
        drawing = partial(live.scorer.sample, design, scale=sample.scale, seed=seed, draws=sample.draws)
        return await asyncio.to_thread(drawing)

    async def _explained(self, live: Live, design: Design) -> list[list[Contribution]]:
        most = self._service.limits.explained_rows
        if design.rows > most:
            raise Problem("invalid", f"{design.rows} rows; {most} may be explained at once", "explain")
        found = await asyncio.to_thread(live.scorer.explain, design)
        return [[Contribution(**asdict(term)) for term in row] for row in found]

    async def _record(
        self, live: Live, now: float, design: Design, columns: dict[str, Any] | RowBlock, scores: Scores,
        draw: Draw | None, waiter: Acknowledger,
    ) -> int:  # fmt: skip
        """Position of the first prediction, once all are durable."""
        first, durable = self._handed_over(live, now, design, columns, scores, draw, waiter)
        await durable
        return first

    def _handed_over(
        self, live: Live, now: float, design: Design, columns: dict[str, Any] | RowBlock, scores: Scores,
        draw: Draw | None, waiter: Acknowledger,
    ) -> tuple[int, asyncio.Future[None]]:  # fmt: skip
        """Position of the first prediction, and what is done once all are durable."""
        n, schema = design.rows, live.rows.schema
        received = design.time
        if schema.time is not None:
            _refuse_future(design.time, now + self._service.limits.ahead_seconds, schema.time)
            received = np.full(n, now)
        more: dict[str, Any] = {
            "time": design.time, "received": received, "score": scores.margin, "version": scores.version,
        }  # fmt: skip
        if live.recalibrated:
            more["served"] = scores.served
        if schema.offset is not None:
            more["offset"] = design.offset
        if schema.weight is not None:
            more["weight"] = design.weight
        if draw is not None:
            more |= {"propensity": draw.propensity, "seed": draw.seed}
        future, done = waiter.future()
        return self._service.predictions.submit(n, columns | more, done), future


def _refuse_future(time: NDArray[np.float64], latest: float, column: str) -> None:
    if float(np.maximum.reduce(time)) > latest:
        row = int(np.argmax(time > latest))
        raise Problem("invalid", f"time {float(time[row])!r} is in the future", f"rows[{row}].{column}")


def _predictions(live: Live, ids: Sequence[str], scores: Scores, draw: Draw | None, explained: Any) -> list[Any]:
    scorer = live.scorer
    logit = scorer.model.link == "logit"
    columns: list[Any] = [ids, scorer.expected(scores.served).tolist(), repeat(scores.version)]
    if draw is None and explained is None:
        return list(map(Probability if logit else Expectation, *columns))
    sampled = None if draw is None else scorer.expected(scorer.remapped(draw.margin)).tolist()
    drawn = [repeat(None)] * 2 if draw is None else [draw.propensity.tolist(), sampled]
    return list(map(FullProbability if logit else FullExpectation, *columns, *drawn, explained or repeat(None)))


def _sample_of(query: bytes) -> bool | Sample:
    """The options of a request whose body has no place for them: ?sample=true, ?scale=1&seed=7&draws=256."""
    given = dict(parse_qsl(query.decode("latin-1")))
    wanted = given.pop("sample", "true" if given else "false") == "true"
    sample = msgspec.convert(given, Sample, strict=False)
    return wanted and sample
