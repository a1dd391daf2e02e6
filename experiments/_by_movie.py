"""MovieLens-100k in order of time, one effect type: a frozen fixed effect, and per-movie models kept fresh.

The first half trains the fixed effect and the first per-movie models (an intercept and 24 user features, all penalised
by λ); the second half is streamed in equal mini-batches and scored as one list of 50,000 predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import nearline as nl
from experiments import _ml100k, _serve
from experiments._estimate import by_cluster, rank
from nearline.evaluate import auc, lift_captured, log_loss
from nearline.features import Design

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Stream:
    """Ratings with the frozen fixed effect's score as their offset, and where the second half begins."""

    table: Any
    start: int

    @classmethod
    def of(cls, events: Any) -> Stream:
        """Fit the fixed effect on the first half and score all of it."""
        start = events.num_rows // 2
        fixed = nl.GLMix(_ml100k.schema(), fixed=_ml100k.fixed())
        fixed.fit(events.slice(0, start), cycles=1)
        return cls(events.append_column("fixed", pa.array(fixed.decision_function(events))), start)

    @property
    def label(self) -> Floats:
        """Labels of the second half."""
        return np.asarray(self.table["liked"].to_numpy()[self.start :], dtype=np.float64)

    @property
    def movie(self) -> NDArray[np.int64]:
        """Movies of the second half."""
        return np.asarray(self.table["movie_id"].to_numpy()[self.start :])

    @property
    def fixed_margin(self) -> Floats:
        """The fixed effect's score of the second half."""
        return np.asarray(self.table["fixed"].to_numpy()[self.start :])


def model(prior: nl.Prior, posterior: Any = "full", delta: float = 1.0) -> nl.GLMix:
    """One vector per movie on user features; the fixed effect is the offset."""
    forgetting = nl.Forgetting(form="per_update", delta=delta)
    effect = nl.Random("movie_id", on=_ml100k.USER, prior=prior, posterior=posterior, forgetting=forgetting)
    return nl.GLMix(_ml100k.schema("fixed"), fixed=nl.Fixed(intercept=False), random=[effect], mode="minibatch")


RULES: dict[str, tuple[str, float]] = {
    f"{short} {name}": (kind, delta)
    for short, kind in (("full", "full"), ("diag", "diagonal"))
    for name, delta in (("1", 1.0), (".95", 0.95), (".8", 0.8))
}
OTHERS = ("stale", "last window", "refit")


def run(stream: Stream, penalty: float, batches: int, rules: Iterable[str]) -> dict[str, _serve.Streamed]:
    """Every rule's predictions of the second half, and "fixed"."""
    cuts = _serve.edges(stream.table.num_rows, stream.start, batches)
    found = {"fixed": _serve.Streamed(stream.fixed_margin, 0.0)}
    for rule in rules:
        kind, delta = RULES.get(rule, ("full", 1.0))
        found[rule] = _one(stream, model(_ml100k.ridge(penalty, free_intercept=False), kind, delta), cuts, _way(rule))
    return found


def _one(stream: Stream, fitted: nl.GLMix, cuts: list[int], way: _Way) -> _serve.Streamed:
    design = fitted.design(stream.table, learn=True)[0]
    fitted.fit(design.take(0, stream.start), cycles=1)
    return way(fitted, design, cuts)


_Way = Callable[[nl.GLMix, Design, list[int]], _serve.Streamed]


def _way(rule: str) -> _Way:
    learn = {"stale": _serve.nothing, "last window": _serve.last_window}.get(rule, _serve.update)
    return _serve.refit if rule == "refit" else partial(_serve.stream, learn=learn)


def learned_prior(stream: Stream, structure: Any, batches: int, rounds: int) -> tuple[float, float, float]:
    """(AUC, log loss, mean prior precision) at δ = 1 under a prior learned on the first half by evidence."""
    found = model(_ml100k.ridge(1.0, free_intercept=False))
    design = found.design(stream.table, learn=True)[0]
    history = design.take(0, stream.start)
    found.learn_priors(history, method="evidence", structure=structure, rounds=rounds)
    found.fit(history, cycles=1)
    variance = found.block("movie_id").belief.variance0(found.block("movie_id").columns)
    cuts = _serve.edges(stream.table.num_rows, stream.start, batches)
    margin = _serve.stream(found, design, cuts, _serve.update).margin
    return rank(stream.label, margin), loss(stream.label, margin), float(1.0 / variance.mean())


def loss(label: Floats, margin: Floats) -> float:
    """Log loss of margins."""
    return log_loss(label, 1.0 / (1.0 + np.exp(-margin)))


def lift(label: Floats, found: dict[str, _serve.Streamed], rule: str) -> float:
    """Share of the refit's AUC lift over the fixed effect."""
    return lift_captured(*(rank(label, found[name].margin) for name in (rule, "fixed", "refit")))


def lift_interval(
    stream: Stream, found: dict[str, _serve.Streamed], rule: str, seed: int, draws: int
) -> tuple[float, float]:
    """95 % bootstrap interval of `lift` over movies."""
    margins = [found[name].margin for name in (rule, "fixed", "refit")]
    label = stream.label
    return by_cluster(lambda w: lift_captured(*(auc(label, m, w) for m in margins)), stream.movie, seed, draws)
