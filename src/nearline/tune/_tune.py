"""Search settings on the first part of a stream, and judge what was found on the rest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nearline._errors import ConfigError
from nearline.features import Design
from nearline.glmix import GLMix
from nearline.tune import _objective
from nearline.tune._gap import Gap
from nearline.tune._judge import held_out
from nearline.tune._objective import Objective, Report, mean
from nearline.tune._space import Settings, space_of
from nearline.tune._trials import Pruning, Study
from nearline.tune._tuned import Tuned

STRUCTURES = ("full", "diagonal")
BATCHES = 100


def tune(
    model: GLMix,
    table: Any,
    *,
    trials: int = 60,
    share: float = 0.5,
    seed: int = 0,
    every: Sequence[int | str] = (),
    structures: Sequence[str] = STRUCTURES,
    pruning: Pruning = "halving",
    folder: str | os.PathLike[str] | None = None,
    priors: Mapping[str, object] | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Tuned:
    """Search priors, half-lives, noise and update interval by progressive validation, from what history teaches on.

    The first `share` of the rows teaches the defaults (`GLMix.learn_priors`: trial 0) and judges every trial, by its
    loss of predicting each row before learning it; the rest, which no trial saw, tells what the best of them is worth.
    TPE proposes settings; those that are behind after a ninth or a third of the rows are pruned.

    Parameters
    ----------
    table
        Events in time order, anything `GLMix.partial_fit` takes.
    trials
        So many settings are tried, none twice, nor any that `folder` has for these rows.
    every
        Update intervals to choose from, the usual one first; one alone is not searched. By default one row, and by
        minibatch a hundredth of the rows.
    structures
        Prior structures to choose from, the default first.
    pruning
        ``"halving"`` (successive halving), ``"hyperband"`` or ``"none"``.
    folder
        Where trials are kept: a later search on newer rows begins with the best of them.
    priors
        How the defaults are learned, as the arguments of `GLMix.learn_priors`.
    progress
        Called with what is done and the share of all work that lies behind.

    Returns
    -------
    Tuned
        The model is left with the recommended priors and no memory.

    Raises
    ------
    ConfigError
        optuna is not installed, a setting is out of range, or rows are too few or not in time order.

    References
    ----------
    Bergstra et al., Algorithms for Hyper-Parameter Optimization (NeurIPS 2011); Li et al., A System for Massively
    Parallel Hyperparameter Tuning (MLSys 2020); Akiba et al., Optuna (KDD 2019).

    Examples
    --------
    >>> import nearline as nl
    >>> events = {"ad": list("aabbab") * 20, "time": list(range(120)), "clicked": [1, 1, 0, 0, 1, 0] * 20}
    >>> model = nl.GLMix(nl.Schema(label="clicked", time="time"), random=[nl.Random("ad")])
    >>> found = tune(model, events, trials=4, priors={"rounds": 1})
    >>> len(found.trials), found.trials[0].source
    (4, 'defaults')
    """
    if trials < 1:
        raise ConfigError(f"tune(trials={trials}) must be at least 1")
    say = progress or (lambda name, done: None)
    design, _ = model.design(table, learn=True)
    past, rest = _parts(design, share)
    how = dict(priors or {})
    first = str(how.pop("structure", structures[0]))
    structures = (first, *(name for name in structures if name != first))
    intervals = tuple(every) or (_usual(model, past, how.get("every")),)
    data = _digest(model, past, how, structures, intervals)
    say("priors", 0.0)
    learned = _objective.learn(model, past, structures, how)
    _objective.restore(model, learned[first])
    space = space_of(model.blocks, float(np.ptp(past.time)), structures, intervals)
    study = Study(
        None if folder is None else Path(folder),
        space,
        data,
        seed,
        pruning,
        _objective.REDUCTION ** (_objective.RUNGS - 1),
    )
    objective = Objective(model, study.space, learned, intervals[0])
    done = study.trials()
    reused = len(done)
    for trial in study.run(trials, _evaluated(objective, past)):
        done.append(trial)
        say(f"trial {len(done) - reused} of {trials}", (len(done) - reused) / (trials + 2))
    best = min((trial for trial in done if trial.complete), key=lambda trial: trial.loss)
    say("held-out rows", trials / (trials + 2))
    before, after = (held_out(objective, settings, past, rest) for settings in (study.space.defaults(), best.settings))
    say("done", 1.0)
    gap, importance = Gap.of(before, after, rest.weight), study.importance()
    tuned = Tuned(study.space, tuple(done), reused, best, gap, importance, share, past.rows, learned, intervals[0], how)
    objective.prepare(tuned.recommended)
    return tuned


def _parts(design: Design, share: float) -> tuple[Design, Design]:
    cut = int(design.rows * share)
    if not 0 < cut < design.rows:
        raise ConfigError(f"tune(share={share}) of {design.rows} rows leaves none to search on or to judge by")
    if np.any(np.diff(design.time) < 0):
        raise ConfigError("tune needs rows in time order; sort the table by the schema's time column")
    return design.take(0, cut), design.take(cut, design.rows)


def _usual(model: GLMix, past: Design, every: object) -> int | str:
    if isinstance(every, int | str):
        return every
    return 1 if model.mode == "event" else -(-past.rows // BATCHES)


def _evaluated(objective: Objective, past: Design) -> Callable[[Settings, Report], tuple[float, float]]:
    """Loss and share of the rows that a trial got to."""

    def evaluate(settings: Settings, report: Report) -> tuple[float, float]:
        at: list[tuple[int, float]] = []

        def told(units: int, loss: float) -> bool:
            at.append((units, loss))
            return report(units, loss)

        losses = objective.losses(settings, past, told)
        if losses is None:
            return at[-1][1], at[-1][0] / _objective.REDUCTION ** (_objective.RUNGS - 1)
        return mean(losses, past.weight), 1.0

    return evaluate


def _digest(model: GLMix, past: Design, how: object, structures: object, intervals: object) -> str:
    """Hash of the rows and of all that a trial's loss depends on besides its settings."""
    found = hashlib.sha256(repr((model.fixed, model.random, model.link, model.mode, model.dtype)).encode())
    found.update(repr((sorted(dict(how).items()), structures, intervals)).encode())  # type: ignore[call-overload]
    for array in (past.label, past.weight, past.offset, past.time, past.indices, past.values, *past.entities.values()):
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]
