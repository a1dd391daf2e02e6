"""scikit-learn: `SGDClassifier.partial_fit` on sparse rows, predicting each mini-batch before learning from it."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np

from benchmarks._rivals._design import design
from benchmarks._rivals._events import Events, Space
from benchmarks._rivals._grid import Config, ranked
from benchmarks._rivals._scores import Floats, Scores, sigmoid

GRID: list[Config] = [
    *({"learning_rate": "constant", "eta0": eta, "alpha": a} for eta in (0.02, 0.05, 0.1, 0.2) for a in (1e-7, 1e-6)),
    *(
        {"learning_rate": "invscaling", "eta0": eta, "power_t": power, "alpha": 1e-7}
        for eta in (0.1, 0.3, 1.0)
        for power in (0.05, 0.1, 0.2)
    ),
    *({"learning_rate": "optimal", "alpha": alpha} for alpha in (1e-6, 1e-5, 1e-4)),
]


def search(tenth: Events, batch: int) -> list[tuple[Config, float]]:
    """The grid on the first tenth with mini-batches of `batch` rows, best first."""
    rows = _matrix(design(tenth))
    return ranked(
        f"sklearn-{batch}", GRID, tenth, lambda config: _run(config, rows, tenth.liked, batch).log_loss(tenth.liked)
    )


def progressive(config: Config, events: Events, batch: int) -> Scores:
    """One pass in mini-batches of `batch` events; the first batch is predicted at one half."""
    start = time.perf_counter()
    rows = _matrix(design(events))
    built = time.perf_counter() - start
    scores = _run(config, rows, events.liked, batch)
    return Scores(scores.probability, scores.seconds, built)


def _run(config: Config, rows: Any, label: Floats, batch: int) -> Scores:
    from sklearn.linear_model import SGDClassifier

    model = SGDClassifier(loss="log_loss", shuffle=False, random_state=0, **config)
    margin = np.zeros(len(label))
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a rate too high overflows; it ranks last
        for first in range(0, len(label), batch):
            part = slice(first, first + batch)
            if first:
                margin[part] = model.decision_function(rows[part])
            model.partial_fit(rows[part], label[part], classes=[0.0, 1.0])
    return Scores(sigmoid(margin), time.perf_counter() - start)


def _matrix(space: Space) -> Any:
    from scipy.sparse import csr_array

    shape = (len(space.indptr) - 1, space.size)
    return csr_array((space.values, space.indices.astype(np.int32), space.indptr.astype(np.int32)), shape=shape)
