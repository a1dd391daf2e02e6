"""A rule with the house's conditions around it: what is held out, trimmed, clipped, and too old to be trusted."""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from nearline._errors import ConfigError, NearlineWarning
from nearline.select._registry import by_name
from nearline.select._rule import Rule
from nearline.select._scores import Bools, Floats, Scores
from nearline.select._selection import Cost, Selection, rows_of
from nearline.select._state import SelectorState
from nearline.select._trim import trimmed_by_mad


@dataclass(frozen=True)
class Policy:
    """A selector around a rule: rows held out or trimmed are left out, doubtful scores weakened, then the rule draws.

    Weights refer to the rows that remain: mean of omega_i g_i estimates their mean gradient.

    Parameters
    ----------
    rule : Rule
        What draws.
    task : {None, "binary", "multiclass", "regression"}
        Of the model; warns when an unweighted rule meets a probabilistic loss.
    trim : {None, "mad"}
        Regression only: leave out rows by their error, see `trimmed_by_mad`, with `cut` and `max_trim`.
    clip : float or None
        Classification only: scores above this quantile (0.995, say) count as the quantile. Lowers pi of the extreme
        rows and stays unbiased.
    max_age : float or None
        Seconds; an older record keeps its place with the window's mean score, loss and sketch.
    max_version_lag : float or None
        Versions behind; likewise.

    Raises
    ------
    ConfigError
        Trimming a classification, clipping a regression, or a share outside 0 .. 1.

    Examples
    --------
    >>> policy = Policy(by_name("pps"))
    >>> scores = Scores(score=np.arange(100.0), held=np.arange(100) % 2 == 0)
    >>> bool((policy(scores, 10, np.random.default_rng(0)).index % 2 == 1).all())
    True
    """

    rule: Rule
    task: Literal["binary", "multiclass", "regression"] | None = None
    trim: Literal["mad"] | None = None
    cut: float = 5.0
    max_trim: float = 0.1
    clip: float | None = None
    max_age: float | None = None
    max_version_lag: float | None = None

    def __post_init__(self) -> None:
        if self.trim is not None and self.task != "regression":
            raise ConfigError('trim: only for task = "regression"; by loss it would delete the rare class. Use clip')
        if self.clip is not None and (self.task == "regression" or not 0 < self.clip <= 1):
            raise ConfigError(f"clip = {self.clip}: a quantile between 0 and 1, for classification only")
        if self.task in ("binary", "multiclass") and not self.rule.unbiased:
            warnings.warn(
                f"rule {self.rule.name!r} is unweighted: probabilities trained on its rows are not calibrated; "
                "recalibrate on held-out rows, or take rule 'pps'",
                NearlineWarning,
                stacklevel=3,
            )

    def __call__(
        self, scores: Scores, budget: int | float | Cost, rng: np.random.Generator, state: SelectorState | None = None
    ) -> Selection:
        """Rows of the window to train on; see `Selector`."""
        held = np.zeros(len(scores), bool) if scores.held is None else scores.held
        trimmed, alarm = self._trimmed(scores, held)
        stay = np.flatnonzero(~held & ~trimmed)
        rest = scores.take(stay)
        stale = self._stale(rest)
        chosen = self.rule(self._weakened(rest, stale), rows_of(budget, len(stay)), rng, state)
        report = replace(
            chosen.report, held=int(held.sum()), trimmed=int(trimmed.sum()), alarm=alarm,
            stale=chosen.report.stale + int(stale.sum()), unknown=chosen.report.unknown - self._hidden(rest, stale),
        )  # fmt: skip
        return replace(chosen, index=stay[chosen.index], report=report, trimmed=np.flatnonzero(trimmed))

    def learn(self, state: SelectorState, chosen: Selection, fresh: Any) -> SelectorState:
        """The state after training on `chosen`; see `Selector`."""
        return self.rule.learn(state, chosen, fresh)

    @property
    def leveraged(self) -> bool:
        """Whether the rule goes by leverages."""
        return self.rule.leveraged

    def settings(self) -> dict[str, Any]:
        """Everything that decides, for a log; `from_settings` builds the same."""
        return {**asdict(self), "rule": self.rule.settings()}

    def __str__(self) -> str:
        """That of the rule, as which the log knows the policy."""
        return str(self.rule)

    @property
    def key(self) -> str:
        """16 hexadecimal digits that change with any setting."""
        return hashlib.sha256(json.dumps(self.settings(), sort_keys=True).encode()).hexdigest()[:16]

    def _trimmed(self, scores: Scores, held: Bools) -> tuple[Bools, bool]:
        out = np.zeros(len(scores), bool)
        if self.trim is None:
            return out, False
        rows = np.flatnonzero(~held)
        slices = None if scores.slice is None else scores.slice[rows]
        found = trimmed_by_mad(scores.column("error", "trim")[rows], slices, self.cut, self.max_trim)
        out[rows[~found.keep]] = True
        return out, found.alarm

    def _stale(self, scores: Scores) -> Bools:
        old = np.zeros(len(scores), bool)
        if self.max_age is not None:
            old |= ~(scores.column("age", "max_age") <= self.max_age)
        if self.max_version_lag is not None:
            old |= ~(scores.column("lag", "max_version_lag") <= self.max_version_lag)
        return old

    def _weakened(self, scores: Scores, stale: Bools) -> Scores:
        changed: dict[str, Any] = {}
        if stale.any():
            given = {name: getattr(scores, name) for name in ("loss", "score", "sketch")}
            changed = {name: _without(v, stale) for name, v in given.items() if v is not None}
        score = changed.get("score", scores.score)
        if self.clip is not None and score is not None:
            changed["score"] = _clipped(score, self.clip)
        return replace(scores, **changed)

    def _hidden(self, scores: Scores, stale: Bools) -> int:
        """Rows that count as unknown only because they are stale."""
        column = getattr(self.rule, "by", self.rule.column)
        return int((stale & np.isfinite(getattr(scores, column))).sum()) if column in ("loss", "score") else 0


def _without(values: Floats, rows: Bools) -> Floats:
    """A copy in which these rows are unknown."""
    found = values.copy()
    found[rows] = np.nan
    return found


def _clipped(score: Floats, quantile: float) -> Floats:
    """Known scores at most at their quantile; unknown ones, infinite ones too, stay unknown."""
    known = np.isfinite(score)
    if not known.any():
        return score
    return np.where(known, np.minimum(score, np.quantile(score[known], quantile)), score)


def from_settings(settings: dict[str, Any]) -> Rule | Policy:
    """The rule or policy whose `settings()` these are.

    >>> from_settings(by_name("pps", floor=0.1).settings()) == by_name("pps", floor=0.1)
    True
    """
    rule = settings["rule"]
    if isinstance(rule, str):
        return by_name(rule, **{name: value for name, value in settings.items() if name != "rule"})
    return Policy(from_settings(rule), **{name: v for name, v in settings.items() if name != "rule"})  # type: ignore[arg-type]
