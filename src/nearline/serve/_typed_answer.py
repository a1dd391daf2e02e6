"""The answer of /predict from one object per prediction: the definition of what `_json_answer` writes, and more."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Any

import msgspec

from nearline.glmix import Draw, Scores
from nearline.serve._messages import Expectation, FullExpectation, FullProbability, Predictions, Probability
from nearline.serve._service import Live

_encode = msgspec.json.Encoder().encode


def typed_answer(
    live: Live, ids: Sequence[str], scores: Scores, draw: Draw | None = None, explained: Any = None
) -> bytes:
    """All predictions, with what was asked for beside the score."""
    return _encode(Predictions(_predictions(live, ids, scores, draw, explained)))


def typed_answers(live: Live, ids: Sequence[str], scores: Scores, ends: Sequence[int]) -> list[bytes]:
    """The predictions of several requests; where those of each end."""
    made = _predictions(live, ids, scores, None, None)
    return [_encode(Predictions(made[begin:end])) for begin, end in zip([0, *ends], ends)]


def _predictions(live: Live, ids: Sequence[str], scores: Scores, draw: Draw | None, explained: Any) -> list[Any]:
    scorer = live.scorer
    logit = scorer.model.link == "logit"
    columns: list[Any] = [ids, scorer.expected(scores.served).tolist(), repeat(scores.version)]
    if draw is None and explained is None:
        return list(map(Probability if logit else Expectation, *columns))
    sampled = None if draw is None else scorer.expected(scorer.remapped(draw.margin)).tolist()
    drawn = [repeat(None)] * 2 if draw is None else [draw.propensity.tolist(), sampled]
    return list(map(FullProbability if logit else FullExpectation, *columns, *drawn, explained or repeat(None)))
