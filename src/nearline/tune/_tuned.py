"""What a search found, and whether it was worth it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nearline.glmix import Adjustment
from nearline.glmix._state import Belief
from nearline.tune._gap import Gap
from nearline.tune._space import Settings, Space, Value
from nearline.tune._trials import Trial


@dataclass(frozen=True, slots=True)
class Tuned:
    """The outcome of `tune`.

    Attributes
    ----------
    trials
        All that were evaluated on these rows, `reused` of them by earlier searches; trial 0 are the learned defaults.
    best
        The trial of least loss on the rows that were searched on.
    gap
        What the best setting gains on the defaults on the held-out rows.
    importance
        By setting, how much it decides whether a trial is good; the shares sum to 1.
    share, rows
        Share and number of the rows that were searched on.
    learned
        Learned beliefs by prior structure and effect, the default structure first.
    every
        The usual update interval.
    how
        How the defaults were learned, as the arguments of `GLMix.learn_priors`.
    """

    space: Space
    trials: tuple[Trial, ...]
    reused: int
    best: Trial
    gap: Gap
    importance: dict[str, float]
    share: float
    rows: int
    learned: Mapping[str, Mapping[str, Belief]]
    every: int | str
    how: Mapping[str, object]

    @property
    def defaults(self) -> Trial:
        """Trial 0."""
        return next(trial for trial in self.trials if trial.source == "defaults")

    @property
    def worth_it(self) -> bool:
        """Whether the best setting also beats the defaults where it was not searched, beyond chance."""
        return self.best is not self.defaults and self.gap.sure

    @property
    def recommended(self) -> Settings:
        """The best settings where they are worth it, else the defaults."""
        return self.best.settings if self.worth_it else self.defaults.settings

    @property
    def changes(self) -> dict[str, Adjustment]:
        """What the recommended settings change in the learned priors, by effect."""
        return self.space.changes(self.recommended)

    def changed(self) -> list[tuple[str, Value, Value]]:
        """(setting, default, best) of every setting in which the best trial differs from the defaults."""
        default, best = self.defaults.settings, self.best.settings
        return [(name, default[name], best[name]) for name in default if default[name] != best[name]]
