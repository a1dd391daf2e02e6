"""Trials that outlive a search: an optuna journal, one study per data set, searches of one space in one place."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nearline._errors import ConfigError, StateError
from nearline.tune._space import Settings, Space

Pruning = Literal["halving", "hyperband", "none"]
Source = Literal["defaults", "earlier", "search"]

JOURNAL = "trials.jsonl"
EARLIER = 5
"""So many of the best settings of earlier searches are tried again on newer data."""
PATIENCE = 50
"""So many settings in a row that were tried before end a search: there is nothing left to try."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting that was tried.

    Attributes
    ----------
    number
        Its place in the study; 0 are the learned defaults.
    loss
        Mean progressive loss of the rows that it got to.
    share
        Of the rows: below 1 where it was pruned.
    source
        Why it was tried: ``"defaults"``, ``"earlier"`` (the best of an earlier search) or ``"search"``.
    """

    number: int
    settings: Settings
    loss: float
    share: float
    source: Source

    @property
    def complete(self) -> bool:
        """Whether it saw all rows."""
        return self.share == 1.0


def optuna() -> Any:
    """The library, quiet.

    Raises
    ------
    ConfigError
        It is not installed; names the extra.
    """
    try:
        found: Any = importlib.import_module("optuna")
    except ImportError:
        raise ConfigError("nearline tune needs optuna; install it with: pip install 'nearline[tune]'") from None
    found.logging.set_verbosity(found.logging.WARNING)
    return found


class Study:
    """The trials of one space on one stream, kept in a folder, or in memory where none is named.

    Parameters
    ----------
    data
        Hash of the stream and of all that its losses depend on besides the settings.
    """

    def __init__(self, folder: Path | None, space: Space, data: str, seed: int, pruning: Pruning, units: int) -> None:
        library = optuna()
        self._finished = library.trial.TrialState
        storage, names = (library.storages.InMemoryStorage(), []) if folder is None else _journal(library, folder)
        name = f"{space.digest()}-{data}"
        self.earlier = _best(library, storage, [known for known in names if known != name], space)
        self.study = library.create_study(
            storage=storage, study_name=name, load_if_exists=True, pruner=_pruner(library, pruning, units)
        )
        self.space = self._fixed(space.including(self.earlier))
        # Begun again, a search goes on instead of drawing the same settings once more.
        self.seed = seed + len(self.study.trials)
        self.study.sampler = library.samplers.TPESampler(seed=self.seed, multivariate=True, constant_liar=False)
        self.reused = len(self.trials())

    def _fixed(self, space: Space) -> Space:
        """The values of a study stay what they were at its first trial: optuna knows them by number."""
        known = self.study.user_attrs.get("values")
        if known is None:
            self.study.set_user_attr("values", {axis.name: list(axis.values) for axis in space.axes})
            return space
        return space.with_values(known)

    def trials(self) -> list[Trial]:
        """All that were evaluated so far, in order."""
        return list(_trials(self.study))

    def run(self, budget: int, evaluate: Callable[[Settings, Any], tuple[float, float]]) -> Iterator[Trial]:
        """Try `budget` settings not tried before: the defaults, the best of earlier searches, then in turn what is near
        the best so far and what TPE proposes.

        `evaluate` gets the settings and ``report(units, loss) -> ends here``; it returns (loss, share of the rows).
        """
        known = {_key(trial.settings) for trial in self.trials()}
        queue = [settings for settings in (self.space.defaults(), *self.earlier) if _key(settings) not in known]
        sources: list[Source] = ["earlier"] * len(queue)
        if queue and queue[0] == self.space.defaults():
            sources[0] = "defaults"
        rng, stale, near = np.random.default_rng(self.seed), 0, True
        while budget > 0 and stale < PATIENCE:
            source: Source = sources.pop(0) if queue else "search"
            if queue:
                self.study.enqueue_trial(self._numbers(queue.pop(0)))
            elif near:
                self.study.enqueue_trial(self._numbers(self.space.near(self._best(), rng)))
            near = not near
            trial = self.study.ask()
            settings = self._suggested(trial)
            if _key(settings) in known:
                self.study.tell(trial, state=self._finished.FAIL)
                stale += 1
                continue
            known.add(_key(settings))
            yield self._tried(trial, settings, source, evaluate)
            budget, stale = budget - 1, 0

    def _best(self) -> Settings:
        done = [trial for trial in self.trials() if trial.complete]
        return min(done, key=lambda trial: trial.loss).settings if done else self.space.defaults()

    def _tried(self, trial: Any, settings: Settings, source: Source, evaluate: Any) -> Trial:
        def report(units: int, loss: float) -> bool:
            trial.report(loss, units)
            # The defaults are what all others are held against.
            return source == "search" and bool(trial.should_prune())

        loss, share = evaluate(settings, report)
        for name, value in {"settings": settings, "loss": loss, "share": share, "source": source}.items():
            trial.set_user_attr(name, value)
        state = self._finished.COMPLETE if share == 1.0 else self._finished.PRUNED
        self.study.tell(trial, loss if share == 1.0 else None, state=state)
        return Trial(trial.number, settings, loss, share, source)

    def _suggested(self, trial: Any) -> Settings:
        found: Settings = {}
        for axis in self.space.axes:
            if axis.ordered:
                found[axis.name] = axis.values[trial.suggest_int(axis.name, 0, len(axis.values) - 1)]
            else:
                found[axis.name] = trial.suggest_categorical(axis.name, axis.values)
        return found

    def _numbers(self, settings: Settings) -> dict[str, Any]:
        return {
            axis.name: axis.values.index(settings[axis.name]) if axis.ordered else settings[axis.name]
            for axis in self.space.axes
        }

    def importance(self) -> dict[str, float]:
        """How much each setting decides whether a trial is among the best (PED-ANOVA); empty with few trials.

        Source: Watanabe, Bansal and Hutter, PED-ANOVA (IJCAI 2023).
        """
        if sum(trial.complete for trial in self.trials()) < 10:
            return {}
        importance: Any = importlib.import_module("optuna.importance")
        found = importance.get_param_importances(self.study, evaluator=importance.PedAnovaImportanceEvaluator())
        return {name: float(value) for name, value in found.items()}


def _journal(library: Any, folder: Path) -> tuple[Any, list[str]]:
    """The journal of a folder, and the names of its studies."""
    journal: Any = importlib.import_module("optuna.storages.journal")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        storage = library.storages.JournalStorage(journal.JournalFileBackend(str(folder / JOURNAL)))
        return storage, library.study.get_all_study_names(storage)
    except (OSError, ValueError, KeyError) as error:
        raise StateError(f"cannot read the trials of earlier searches in {folder / JOURNAL}: {error}") from error


def _pruner(library: Any, pruning: Pruning, units: int) -> Any:
    if pruning == "none":
        return library.pruners.NopPruner()
    if pruning == "halving":
        return library.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    if pruning == "hyperband":
        return library.pruners.HyperbandPruner(min_resource=1, max_resource=units, reduction_factor=3)
    raise ConfigError(f"tune(pruning=...) is 'halving', 'hyperband' or 'none', got {pruning!r}")


def _best(library: Any, storage: Any, names: list[str], space: Space) -> list[Settings]:
    """The settings of this space that gained most on the defaults of their own study, best first, none twice."""
    gains: dict[tuple[Any, ...], tuple[float, Settings]] = {}
    for name in names:
        if not name.startswith(space.digest()):
            continue
        done = [trial for trial in _trials(library.load_study(study_name=name, storage=storage)) if trial.complete]
        base = next((trial.loss for trial in done if trial.source == "defaults"), None)
        for trial in done:
            if base and trial.source != "defaults" and trial.loss < base:
                gain = 1 - trial.loss / base
                key = _key(trial.settings)
                gains[key] = max(gains.get(key, (gain, trial.settings)), (gain, trial.settings), key=lambda g: g[0])
    ranked = sorted(gains.values(), key=lambda found: -found[0])
    return [settings for _, settings in ranked[:EARLIER]]


def _trials(study: Any) -> Iterator[Trial]:
    for trial in study.trials:
        found = trial.user_attrs
        if "share" in found and trial.state.name in ("COMPLETE", "PRUNED"):
            yield Trial(trial.number, found["settings"], found["loss"], found["share"], found["source"])


def _key(settings: Settings) -> tuple[Any, ...]:
    return tuple(sorted(settings.items()))
