"""river: logistic regression on dictionaries, event by event, with the crossings as features."""

from __future__ import annotations

import time
from itertools import islice, product
from typing import Any

import numpy as np

from benchmarks._rivals._design import design
from benchmarks._rivals._events import Events, Space
from benchmarks._rivals._grid import Config, ranked
from benchmarks._rivals._scores import Scores

GRID: list[Config] = [
    *({"optimizer": "SGD", "lr": lr} for lr in (0.05, 0.1, 0.15)),
    *({"optimizer": "AdaGrad", "lr": lr} for lr in (0.1, 0.15, 0.2, 0.25, 0.3)),
    *(
        {"optimizer": "FTRLProximal", "alpha": alpha, "beta": beta, "l2": 0.0}
        for alpha, beta in product((0.2, 0.3, 0.4), (0.25, 0.5, 1.0))
    ),
    {"optimizer": "FTRLProximal", "alpha": 0.3, "beta": 0.5, "l2": 0.3},
]


def search(tenth: Events) -> list[tuple[Config, float]]:
    """The grid on the first tenth, best first."""
    rows = design(tenth)
    return ranked("river", GRID, tenth, lambda config: _run(config, rows, tenth).log_loss(tenth.liked))


def progressive(config: Config, events: Events) -> Scores:
    """One pass, predict then learn; seconds are river's own, the making of designs and dictionaries is apart."""
    start = time.perf_counter()
    rows = design(events)
    built = time.perf_counter() - start
    scores = _run(config, rows, events)
    return Scores(scores.probability, scores.seconds, scores.conversion + built)


def _run(config: Config, rows: Space, events: Events, chunk: int = 5000) -> Scores:
    model = _model(config)
    labels = events.liked.astype(bool).tolist()
    source = rows.rows()
    p, seconds, conversion = np.empty(len(events)), 0.0, 0.0
    for first in range(0, len(events), chunk):
        start = time.perf_counter()
        dicts = [dict(zip(columns.tolist(), values.tolist())) for columns, values in islice(source, chunk)]
        between = time.perf_counter()
        for i, x in enumerate(dicts, first):
            p[i] = model.predict_proba_one(x)[True]
            model.learn_one(x, labels[i])
        seconds += time.perf_counter() - between
        conversion += between - start
    return Scores(p, seconds, conversion)


def _model(config: Config) -> Any:
    from river import linear_model, optim

    settings = dict(config)
    optimizer = getattr(optim, settings.pop("optimizer"))(**settings)
    return linear_model.LogisticRegression(optimizer=optimizer)
