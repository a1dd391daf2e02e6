"""POST /predict: rows to scores, recorded before they leave."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import pyarrow as pa

from nearline.features import Design
from nearline.glmix import Draw, Scores
from nearline.serve import _arrow
from nearline.serve._acknowledge import Acknowledger
from nearline.serve._asgi import ARROW, JSON, Answer
from nearline.serve._hand_over import hand_over
from nearline.serve._messages import (
    Contribution,
    Sample,
    predict_request,
)
from nearline.serve._problems import Problem
from nearline.serve._service import Live, Service
from nearline.serve._together import Together
from nearline.serve._typed_answer import typed_answer


class Predict:
    """The route. It decodes for the version that is live now."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._together = Together(service)
        self._live: Live | None = None
        self._decoder: Any = None

    async def __call__(self, body: bytes, media: str, query: bytes, waiter: Acknowledger) -> Answer:
        """Answer one request once its predictions are durable.

        Raises
        ------
        Problem, msgspec.DecodeError, DataError, Overloaded
            What the request is refused for; nothing is recorded then.
        """
        if media == ARROW:
            return await self._arrow(body, query, waiter)
        usual = await self._together.ask(body, waiter)
        return await self._alone(body, waiter) if usual is None else usual

    async def _alone(self, body: bytes, waiter: Acknowledger) -> Answer:
        live, now = self._service.live, self._service.now()
        request = self._decoded(live, body)
        n = len(request.rows)
        design, columns = live.rows.encode(request.rows, now)
        if not n:
            return Answer(b'{"predictions":[]}', JSON, 0)
        scores = live.scorer.score(design)
        draw = await self._drawn(live, design, request.sample) if request.sample else None
        explained = await self._explained(live, design) if request.explain else None
        ids = self._service.ids(await self._record(live, now, design, columns, scores, draw, waiter), n)
        return Answer(typed_answer(live, ids, scores, draw, explained), JSON, n)

    def _decoded(self, live: Live, body: bytes) -> Any:
        if live is not self._live:
            request = predict_request(live.rows.Row, self._service.limits.rows)
            self._live, self._decoder = live, msgspec.json.Decoder(request)
        return self._decoder.decode(body)

    async def _arrow(self, body: bytes, query: bytes, waiter: Acknowledger) -> Answer:
        live, now = self._service.live, self._service.now()
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
        self, live: Live, now: float, design: Design, columns: dict[str, Any], scores: Scores,
        draw: Draw | None, waiter: Acknowledger,
    ) -> int:  # fmt: skip
        """Position of the first prediction, once all are durable."""
        durable, done = waiter.future()
        first = hand_over(self._service, live, now, design, columns, scores, draw, done)
        await durable
        return first


def _sample_of(query: bytes) -> bool | Sample:
    """The options of a request whose body has no place for them: ?sample=true, ?scale=1&seed=7&draws=256."""
    given = dict(parse_qsl(query.decode("latin-1")))
    wanted = given.pop("sample", "true" if given else "false") == "true"
    sample = msgspec.convert(given, Sample, strict=False)
    return wanted and sample
