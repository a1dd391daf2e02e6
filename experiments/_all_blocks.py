"""MovieLens-100k in order of time, all blocks: fixed, per-user and per-movie, kept fresh together or in part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nearline as nl
from experiments import _ml100k, _serve
from nearline.features import Design
from nearline.glmix._terms import Terms

CYCLES = 3
PENALTY = 10.0


def model(posterior: Any = "full") -> nl.GLMix:
    """Fixed (λ = 1, intercept free), user on movie features and movie on user features (λ = 10, all penalised)."""
    prior = _ml100k.ridge(PENALTY, free_intercept=False)
    random = [
        nl.Random("user_id", on=_ml100k.MOVIE, prior=prior, posterior=posterior),
        nl.Random("movie_id", on=_ml100k.USER, prior=prior, posterior=posterior),
    ]
    return nl.GLMix(_ml100k.schema(), fixed=_ml100k.fixed(posterior), random=random, mode="minibatch")


def run(events: Any, batches: int) -> dict[str, _serve.Streamed]:
    """Every rule's predictions of the second half."""
    start = events.num_rows // 2
    fitted, design = _fitted(events, start, "full")
    cuts = _serve.edges(events.num_rows, start, batches)
    found = {"fixed": _serve.Streamed(_fixed_part(fitted, design.take(start, design.rows)), 0.0)}
    for name, learn in _WAYS.items():
        found[name] = _serve.stream(fitted.fork(), design, cuts, learn)
    diagonal, other = _fitted(events, start, "diagonal")
    found["B diagonal, 3 cycles"] = _serve.stream(diagonal, other, cuts, _WAYS["B full, 3 cycles"])
    found["refit"] = _serve.refit(fitted, design, cuts, cycles=CYCLES, warm=True)
    return found


def every_event(events: Any) -> _serve.Streamed:
    """Event mode with a fresh model for every event: the freshest a model can be."""
    start = events.num_rows // 2
    fitted, design = _fitted(events, start, "full")
    fitted.mode = "event"
    return _serve.Streamed(fitted.progressive(design.take(start, design.rows)).margin, 0.0)


def _fitted(events: Any, start: int, posterior: Any) -> tuple[nl.GLMix, Design]:
    found = model(posterior)
    design = found.design(events, learn=True)[0]
    found.fit(design.take(0, start), cycles=CYCLES, tolerance=0.0)
    return found, design


def _fixed_part(fitted: nl.GLMix, design: Design) -> Any:
    return Terms(fitted.blocks, fitted.encoder.n_slots, design).terms[0]


def _every(**options: Any) -> _serve.Learn:
    def learn(fitted: nl.GLMix, part: Design) -> None:
        assert not len(fitted.partial_fit(part, **options).refused)

    return learn


_WAYS: dict[str, Callable[[nl.GLMix, Design], object]] = {
    "stale": _serve.nothing,
    "A, movie": _every(locked=("fixed", "user_id")),
    "A, user and movie": _every(locked=("fixed",), cycles=2),
    "B full, 1 cycle": _every(cycles=1),
    "B full, 3 cycles": _every(cycles=CYCLES),
    "event mode, once a batch": _every(mode="event"),
}
