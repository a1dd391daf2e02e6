"""Progressive validation: replay a time-ordered stream, predict then learn, several variants side by side.

Every event is a test event before it is a training event. A variant says what learns (the fixed effect alone, or all
effects), how often the served model is updated, and whether it is also re-fitted from scratch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nearline._errors import ConfigError
from nearline.evaluate import _losses, _ranking, _reliability
from nearline.evaluate._named import Named, named
from nearline.evaluate._recalibrated import recalibrated
from nearline.evaluate._resample import Interval
from nearline.features import Design
from nearline.glmix import GLMix, LearnedPriors
from nearline.glmix._replay import stops

Floats = NDArray[np.float64]
Learns = Literal["all", "fixed", "nothing"]


@dataclass(frozen=True, slots=True)
class Variant:
    """One way of keeping a model, or not keeping it, up to date.

    Parameters
    ----------
    name
        What the table and the report call it.
    learns
        ``"all"`` effects, the ``"fixed"`` effect alone, or ``"nothing"`` after history (a stale batch model).
    every
        Rows (``1``) or event time (``"1h"``) between updates of the served model.
    refit
        Rows or event time between refits of all effects on everything seen so far; None never refits.
    recalibrate
        Whether scores pass through a map learned of earlier rows (`nearline.recalibrate`), which is applied while it is
        shown to help; the name of an entity key gives each of its values a map of its own. Logit link only.

    Examples
    --------
    >>> Variant("hourly", every="1h").learns
    'all'
    """

    name: str
    learns: Learns = "all"
    every: int | str = 1
    refit: int | str | None = None
    recalibrate: bool | str = False

    def __post_init__(self) -> None:
        if self.learns not in ("all", "fixed", "nothing"):
            raise ConfigError(f"Variant(learns=...) is 'all', 'fixed' or 'nothing', got {self.learns!r}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one variant predicted for the evaluated rows, and what that cost.

    Attributes
    ----------
    margin
        Score (n) on the link scale, as predicted before the row was learned.
    seconds
        Time spent learning and predicting the evaluated rows.
    updates
        How often the served model changed.
    """

    variant: Variant
    margin: Floats
    seconds: float
    updates: int


@dataclass(frozen=True, slots=True)
class Backtest:
    """Variants side by side on the same rows.

    Attributes
    ----------
    title, link
        What was replayed.
    label, weight, time
        (n) of the evaluated rows.
    entities
        Entity code (n) per key, for lift by entity.
    history_rows
        Rows before the evaluated ones: priors were learned and the batch layer fitted on them.
    outcomes
        One per variant.
    truth
        The Bayes-optimal probability (n), where the stream knows it.
    learned
        Priors learned from history, if they were.
    served
        Whether the first outcome is what a running service answered: what it cost cannot be set beside the others then.
    metrics
        Names of further metrics that were asked for (see `named`).
    """

    title: str
    link: str
    label: Floats
    weight: Floats
    time: Floats
    entities: dict[str, NDArray[np.int32]]
    history_rows: int
    outcomes: tuple[Outcome, ...]
    truth: Floats | None
    learned: LearnedPriors | None
    served: bool = False
    metrics: tuple[str, ...] = ()

    def prediction(self, name: str) -> Floats:
        """Expected labels (n) of one variant."""
        from nearline.glmix._links import by_name

        for outcome in self.outcomes:
            if outcome.variant.name == name:
                return by_name(self.link).mean(outcome.margin)
        raise ConfigError(f"no variant is named {name!r}; there are {[o.variant.name for o in self.outcomes]}")

    def further(self) -> list[Named]:
        """The metrics that were asked for."""
        return [named(name, self.link, self.entities) for name in self.metrics]

    def measured(self, metric: Named, variant: str) -> Interval:
        """A metric of one variant; its interval where it is a mean over entities."""
        return metric.value(self.label, self.prediction(variant), self.weight, self.entities)

    def table(self) -> list[dict[str, Any]]:
        """One row of metrics per variant: log loss, AUC (or RMSE), calibration, those asked for, updates, events/s."""
        return [self._row(outcome) for outcome in self.outcomes]

    def _row(self, outcome: Outcome) -> dict[str, Any]:
        p = self.prediction(outcome.variant.name)
        rate = len(p) / outcome.seconds if outcome.seconds > 0 else float("nan")
        row: dict[str, Any] = {"variant": outcome.variant.name}
        if self.link == "logit":
            row |= {
                "log_loss": _losses.log_loss(self.label, p, self.weight),
                "auc": _ranking.auc(self.label, p, self.weight),
                "calibration": _reliability.calibration_ratio(self.label, p, self.weight),
            }
        elif self.link == "log":
            row |= {"deviance": _losses.poisson_deviance(self.label, p, self.weight)}
        else:
            row |= {"rmse": _losses.rmse(self.label, p, self.weight)}
        row |= {metric.name: self.measured(metric, outcome.variant.name).estimate for metric in self.further()}
        row["updates"] = outcome.updates
        return row if self.served else row | {"seconds": outcome.seconds, "events_per_s": rate}


def default_variants(rows: int) -> list[Variant]:
    """Fixed effect only, stale batch, batch refit, and the speed layer at several update intervals."""
    refit = max(1, rows // 8)
    return [
        Variant("fixed only", learns="fixed"),
        Variant("stale batch", learns="nothing"),
        Variant(f"refit every {refit:,}", learns="nothing", refit=refit),
        Variant("nearline per day", every="1d"),
        Variant("nearline per hour", every="1h"),
        Variant("nearline per second", every="1s"),
        Variant("nearline per event", every=1),
    ]


def backtest(
    model: GLMix,
    table: Any,
    *,
    variants: Sequence[Variant] | None = None,
    history: float = 0.1,
    learn_priors: bool = True,
    truth: Floats | None = None,
    title: str = "backtest",
    metrics: Sequence[str] = (),
    progress: Callable[[str, float], None] | None = None,
) -> Backtest:
    """Replay a stream, predict then learn, for several variants of keeping `model` up to date.

    The first `history` share of the rows sets the priors (`GLMix.learn_priors`) and the batch layer (`GLMix.fit`); the
    rest is evaluated. `model` itself is left at its priors; each variant works on a fork.

    Parameters
    ----------
    table
        Events in time order, anything `GLMix.partial_fit` takes.
    truth
        Bayes-optimal probability of every row of `table`, if known.
    metrics
        Names of further metrics, such as ``"ndcg@10 by user_id"`` (see `named`).
    progress
        Called with the variant's name and the share of all work done.

    Raises
    ------
    ConfigError
        When `history` leaves no rows to evaluate, the rows are not in time order, or a metric is not known.
    """
    design, _ = model.design(table, learn=True)
    start = int(design.rows * history)
    if not 0 < start < design.rows:
        raise ConfigError(f"backtest(history={history}) of {design.rows} rows leaves none to learn from or to evaluate")
    if np.any(np.diff(design.time) < 0):
        raise ConfigError("backtest needs rows in time order; sort the table by the schema's time column")
    past, rest = design.take(0, start), design.take(start, design.rows)
    chosen = list(variants) if variants is not None else default_variants(rest.rows)
    if model.link != "logit" and any(variant.recalibrate for variant in chosen):
        raise ConfigError(f"recalibrate is for the logit link; this model has {model.link}")
    for name in metrics:
        named(name, model.link, [str(key) for key in rest.entities])
    say = progress or (lambda name, share: None)
    say("priors", 0.0)
    learned = model.learn_priors(past) if learn_priors else None
    outcomes = []
    for k, variant in enumerate(chosen):
        say(variant.name, k / len(chosen))
        outcomes.append(_run(model, design, start, variant))
    say("done", 1.0)
    return Backtest(
        title, model.link, rest.label, rest.weight, rest.time,
        {str(key): codes for key, codes in rest.entities.items()}, start, tuple(outcomes),
        None if truth is None else np.asarray(truth, dtype=np.float64)[start:], learned, metrics=tuple(metrics),
    )  # fmt: skip


def _run(model: GLMix, design: Design, start: int, variant: Variant) -> Outcome:
    fork = _only_fixed(model) if variant.learns == "fixed" else model.fork()
    past, rest, before = design.take(0, start), design.take(start, design.rows), None
    if variant.learns == "nothing":
        fork.fit(past)
    else:
        before = fork.progressive(past).margin
    began = time.perf_counter()
    if variant.learns == "nothing":
        margin, updates = _refitted(fork, design, start, variant.refit)
    else:
        margin, updates = fork.progressive(rest, every=variant.every).margin, len(stops(rest.time, variant.every))
    if variant.recalibrate:
        margin = recalibrated(before, past, margin, rest, variant.every, variant.recalibrate)
    return Outcome(variant, margin, time.perf_counter() - began, updates)


def _refitted(model: GLMix, design: Design, start: int, refit: int | str | None) -> tuple[Floats, int]:
    rest = design.take(start, design.rows)
    if refit is None:
        return model.decision_function(rest), 0
    margins, done = [], 0
    for stop in stops(rest.time, refit).tolist():
        margins.append(model.decision_function(rest.take(done, stop)))
        done = stop
        if done < rest.rows:
            model.fit(design.take(0, start + done))
    return np.concatenate(margins), len(margins) - 1


def _only_fixed(model: GLMix) -> GLMix:
    fork = model.fork()
    fork.blocks = [block for block in fork.blocks if block.name == "fixed"]
    return fork
